//! Files for TLS are looked at before anything connects.

use std::path::Path;

use super::*;
use crate::tls::Own;

/// A certificate and its key, as files.
fn files() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()));
    (directory, cert, key)
}

#[test]
fn each_server_has_files_of_its_own() {
    let (_directory, cert, key) = files();
    let config = loaded(&[
        ("DATABASE_URL", "postgres://db/x?sslmode=verify-ca"),
        ("POSTHASTE_DATABASE__TLS_CA", &cert),
        ("AMQP_URL", "amqps://mq"),
        ("POSTHASTE_BROKER__TLS_CERT", &cert),
        ("POSTHASTE_BROKER__TLS_KEY", &key),
    ]);
    assert_eq!((config.database.tls.ca.as_deref(), &config.database.tls.own), (Some(Path::new(&cert)), &None));
    let own = Own { cert: cert.into(), key: key.into() };
    assert_eq!((&config.broker.tls.ca, &config.broker.tls.own), (&None, &Some(own)));
    assert!(loaded(&[]).database.tls.is_empty());
}

#[test]
fn a_file_of_no_use_or_a_connection_that_would_not_verify_is_refused_by_the_key() {
    let (_directory, cert, key) = files();
    let ca = ("POSTHASTE_DATABASE__TLS_CA", cert.as_str());
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("POSTHASTE_DATABASE__TLS_CA", "/none")], "database.tls_ca: /none cannot be read"),
        (&[("POSTHASTE_BROKER__TLS_CA", &key)], "broker.tls_ca: "),
        (
            &[("POSTHASTE_BROKER__TLS_CERT", &cert)],
            "broker.tls_cert: is set, and broker.tls_key is not; set both or none",
        ),
        (&[("POSTHASTE_BROKER__TLS_KEY", &key)], "broker.tls_key: is set, and broker.tls_cert is not"),
        (&[("POSTHASTE_BROKER__TLS_KEY", &cert)], "broker.tls_key: "),
        (
            &[ca, ("DATABASE_URL", "postgres://u:hunter2@db/x?sslmode=prefer")],
            "database.url: has sslmode=prefer, and database.tls_ca",
        ),
        (&[("DATABASE_URL", "postgres://db/x?sslrootcert=/none")], "database.url: sslrootcert: /none cannot be read"),
        (
            &[("AMQP_URL", "amqp://u:hunter2@mq"), ("POSTHASTE_BROKER__TLS_CA", &cert)],
            "broker.url: begins with amqp://, and broker.tls_ca is set; use amqps://",
        ),
        (&[("POSTHASTE_BROKER__PAYLOAD", "both")], "broker.payload: is 'both'; use \"inline\" or \"reference\""),
    ];
    for (variables, expected) in cases {
        let message = refused(variables);
        assert!(message.starts_with(expected) && !message.contains("hunter2"), "{message}");
    }
}
