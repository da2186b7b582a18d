//! No secret is printed, neither when accepted nor when refused.

use secrecy::ExposeSecret;

use super::*;

#[test]
fn urls_and_keys_are_never_printed_whole() {
    let config = loaded(&[
        ("DATABASE_URL", "postgresql://u:hunter2@db/x?password=hunter3"),
        ("AMQP_URL", "amqps://u:hunter4@mq:5671/%2f"),
        ("POSTHASTE_SECURITY__ENCRYPTION_KEY", KEY),
    ]);
    let proxied = loaded(&[("POSTHASTE_DELIVERY__PROXY", "http://u:hunter5@proxy:3128")]);
    assert!(!format!("{proxied:?}").contains("hunter"));
    assert_eq!(proxied.delivery.proxy.unwrap().expose(), "http://u:hunter5@proxy:3128");
    let printed = format!("{config:?} {}", config.database_url().unwrap());
    assert!(printed.contains("postgresql://u:***@db/x") && printed.contains("mq:5671"), "{printed}");
    assert!(!printed.contains("hunter") && !printed.contains("AAEC"), "{printed}");
    assert_eq!(config.database_url().unwrap().expose(), "postgresql://u:hunter2@db/x?password=hunter3");
    assert_eq!(config.encryption_keys().unwrap().0.expose()[..3], [0, 1, 2]);
}

#[test]
fn a_list_of_hosts_is_shown_without_its_password() {
    let url = "postgres://u:hunter2@db1:5432,db2/x?target_session_attrs=read-write&sslmode=require";
    let config = loaded(&[("DATABASE_URL", url)]);
    let shown = config.database_url().unwrap();
    assert_eq!(shown.to_string(), "postgres://u:***@db1:5432,db2/x");
    assert_eq!(shown.expose(), url);
    // What is checked of the query is found there too.
    assert_eq!(shown.parameter("sslmode").as_deref(), Some("require"));
}

#[test]
fn several_keys_have_commas_between_them_and_keep_their_order() {
    let other = "//////////////////////////////////////////8=";
    let config = loaded(&[("POSTHASTE_SECURITY__ENCRYPTION_KEY", &format!(" {other},\n {KEY} "))]);
    let (first, others) = config.encryption_keys().unwrap();
    assert_eq!((first.expose()[0], others.len(), others[0].expose()[1]), (255, 1, 1));
    assert!(!format!("{config:?}").contains("AAEC"));
    for (value, expected) in [
        (format!("{KEY},{KEY}"), "key 2 is the same as key 1; leave one of them out"),
        (format!("{KEY},hunter2"), "key 2 is not base64"),
        (format!("{KEY},"), "key 2 holds 0 bytes, not 32"),
        ([KEY; 9].join(","), "holds 9 keys; use at most 8"),
    ] {
        let message = refused(&[("POSTHASTE_SECURITY__ENCRYPTION_KEY", &value)]);
        assert!(message.contains(expected) && !message.contains("hunter2") && !message.contains("AAEC"), "{message}");
    }
}

#[test]
fn a_refused_secret_is_not_repeated() {
    let cases = [
        ("DATABASE_URL", "mysql://u:hunter2@db/x", "database.url: begins with mysql://; use postgres://"),
        ("DATABASE_URL", "u:hunter2@db", "database.url"),
        ("DATABASE_URL", "postgres://u:hunter2#@db:x", "database.url: is not a URL"),
        ("DATABASE_URL", "postgres://u:hunter2@db1:5432,db2:x/x", "database.url: is not a URL"),
        ("DATABASE_URL", "postgres://u:hunter2@db1,db2/x?target_session_attrs=any", "use read-write, or leave it out"),
        ("DATABASE_URL", "postgres://u:hunter2@db1,,db2/x", "database.url: lists a host without a name"),
        ("DATABASE_URL", "postgres://u:hunter2@db1/x?host=db1,db2", "database.url: lists hosts in its query"),
        ("AMQP_URL", "http://u:hunter2@mq", "broker.url: begins with http://; use amqp:// or amqps://"),
        ("AMQP_URL", "amqp:hunter2", "broker.url: has no // after amqp:"),
        ("AMQP_URL", "hunter2", "broker.url: is not a URL"),
        ("POSTHASTE_DELIVERY__PROXY", "socks5://u:hunter2@proxy", "delivery.proxy: begins with socks5://; use http://"),
        ("POSTHASTE_DELIVERY__PROXY", "u:hunter2@proxy:3128", "delivery.proxy: begins with u://"),
        ("POSTHASTE_DELIVERY__PROXY", "http://u:hunter2@proxy:3128/x", "delivery.proxy: has something after the port"),
        ("POSTHASTE_DELIVERY__PROXY", "http://u:hunter2@proxy:3128?x", "delivery.proxy: has something after the port"),
        ("POSTHASTE_SECURITY__ENCRYPTION_KEY", "hunter2", "security.encryption_key: is not base64"),
        ("POSTHASTE_SECURITY__ENCRYPTION_KEY", "AAEC", "holds 3 bytes, not 32; make one with `posthaste keygen`"),
    ];
    for (name, value, expected) in cases {
        let message = refused(&[(name, value)]);
        assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
        assert!(message.ends_with(&format!("(from {name})")), "{message}");
    }
    let overrides = Overrides { amqp_url: Some("x://hunter2".to_owned().into()), ..Overrides::default() };
    assert!(!format!("{overrides:?}").contains("hunter2"));
    assert_eq!(overrides.amqp_url.as_ref().unwrap().expose_secret(), "x://hunter2");
    let message = Config::from_sources(&Sources { overrides, ..Sources::default() }).unwrap_err().to_string();
    assert!(message.ends_with("(from --amqp-url)"), "{message}");
}
