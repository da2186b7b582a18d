use chrono::TimeZone;

use super::*;
use crate::http::test_certificates::{Authority, Issued};

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 28, 12, 0, 0).unwrap()
}

fn of(certificate: &str, key: &str) -> Result<Identity, OwnTlsError> {
    identity(certificate.as_bytes(), key.as_bytes(), now())
}

fn error(certificate: &str, key: &str) -> OwnTlsError {
    of(certificate, key).map(|_| ()).unwrap_err()
}

#[test]
fn a_certificate_with_its_key_is_kept_whole_and_shown_by_its_fingerprint() {
    let authority = Authority::new();
    let Issued { certificate, key } = authority.issue(&["posthaste"]);
    let chain = format!("{certificate}\n{}", authority.pem);
    let read = of(&chain, &key).unwrap();
    assert_eq!((read.sha256.len(), read.expires_at.format("%F").to_string().as_str()), (64, "4000-01-01"));
    assert!(OwnTls::open(Some(&read.pem), None).unwrap().unwrap().identity.is_some());
    let shown = authorities(format!("{}\n{certificate}", authority.pem).as_bytes()).unwrap();
    assert_eq!((shown.sha256.len(), &shown.sha256[1]), (2, &read.sha256));
    assert!(OwnTls::open(None, Some(&shown.pem)).unwrap().unwrap().roots.is_some());
    assert!(OwnTls::open(None, None).unwrap().is_none());
}

#[test]
fn what_cannot_be_used_is_told_by_the_option_that_it_came_with() {
    let authority = Authority::new();
    let (ours, other) = (authority.issue(&["posthaste"]), authority.issue(&["posthaste"]));
    let expired = authority.issue_until(&["posthaste"], 2026);
    let certificate = "client-certificate";
    for (error, expected) in [
        (error("", &ours.key), OwnTlsError::NoCertificate(certificate)),
        (error(&ours.key, &ours.key), OwnTlsError::NoCertificate(certificate)),
        (error(&ours.certificate.replace("MII", "!!!"), &ours.key), OwnTlsError::NoCertificate(certificate)),
        (error(&ours.certificate, ""), OwnTlsError::NoKey),
        (error(&ours.certificate, &ours.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")), OwnTlsError::NoKey),
        (error(&ours.certificate, &other.key), OwnTlsError::OtherKey),
        (error(&format!("{}{}", authority.pem, ours.certificate), &ours.key), OwnTlsError::OtherKey),
        (error(&expired.certificate, &expired.key), OwnTlsError::Expired("2026-01-01 00:00:00 UTC".into())),
        (error(&ours.certificate.repeat(9), &ours.key), OwnTlsError::TooMany(certificate, 9, MAX_CHAIN)),
        (error(&"x".repeat(MAX_PEM_BYTES + 1), &ours.key), OwnTlsError::TooLong(certificate)),
        (error(&ours.certificate, &"x".repeat(MAX_PEM_BYTES + 1)), OwnTlsError::TooLong("client-key")),
    ] {
        assert_eq!(error, expected);
    }
    for (pem, expected) in [
        (String::new(), OwnTlsError::NoCertificate("ca")),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), OwnTlsError::NoCertificate("ca")),
        (authority.pem.repeat(MAX_AUTHORITIES + 1), OwnTlsError::TooMany("ca", MAX_AUTHORITIES + 1, MAX_AUTHORITIES)),
    ] {
        assert_eq!(authorities(pem.as_bytes()).map(|_| ()), Err(expected));
    }
}

#[test]
fn nothing_of_a_key_is_printed_and_every_change_is_noticed() {
    let authority = Authority::new();
    let (ours, other) = (authority.issue(&["posthaste"]), authority.issue(&["posthaste"]));
    let own = authority.trusted_with(&ours);
    assert_eq!(format!("{own:?}"), "OwnTls([redacted])");
    assert_eq!(own.digest, authority.trusted_with(&ours).digest);
    assert_ne!(own.digest, authority.trusted_with(&other).digest);
    assert_ne!(own.digest, authority.trusted().digest);
    let pem = authority.pem.as_bytes();
    let as_identity = OwnTls::open(Some(&of(&ours.certificate, &ours.key).unwrap().pem), None).unwrap().unwrap();
    assert_ne!(as_identity.digest, OwnTls::open(None, Some(pem)).unwrap().unwrap().digest);
}
