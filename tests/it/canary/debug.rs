//! What is printed of a value for debugging may well end up in a log.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use posthaste::cli::Cli;
use posthaste::config::{Config, Sources};
use posthaste::domain::key_pair::PrivateKey;
use posthaste::domain::message::{Body, Carried, Message};
use posthaste::domain::sealing::Key;
use posthaste::domain::signature::Secret;
use posthaste::domain::signing_key::SigningKey;
use posthaste::receiver::event::Event;
use posthaste::receiver::verify::Verifier;
use posthaste::{broker, store, tls};

use super::disguises::found;
use super::{ALL, ENCRYPTION, HEADER, PASSWORD, PAYLOAD, PRIVATE, SECRET, TOKEN};

fn config() -> Config {
    let environment = [
        ("DATABASE_URL", format!("postgres://u:{PASSWORD}@db/x")),
        ("AMQP_URL", format!("amqp://u:{PASSWORD}@mq")),
        ("POSTHASTE_SECURITY__ENCRYPTION_KEY", STANDARD.encode(ENCRYPTION)),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
    Config::from_sources(&Sources { environment, ..Sources::default() }).unwrap()
}

fn message() -> Message {
    Message {
        event_id: uuid::Uuid::nil(),
        endpoint_id: uuid::Uuid::nil(),
        tenant: "acme".into(),
        event_type: "order.created".into(),
        body: Body::Here(PAYLOAD.into()),
        attempt: 1,
        max_attempts: 1,
        base_attempts: 0,
        traceparent: None,
        claimed_ms: None,
    }
}

fn servers() -> String {
    let (database, broker) = (format!("postgres://u:{PASSWORD}@db/x"), format!("amqp://u:{PASSWORD}@mq"));
    let flags = ["posthaste", "--database-url", &database, "--amqp-url", &broker, "stats"];
    let flags = format!("{:?}", Cli::try_parse_from(flags).unwrap());
    let store = store::Options {
        found: Default::default(),
        url: database.into(),
        tls: tls::Files::default(),
        max_connections: 1,
        connect_timeout: Duration::ZERO,
        statement_timeout: Duration::ZERO,
        lock_timeout: Duration::ZERO,
        application_name: String::new(),
        service: false,
        asynchronous_commit: false,
        by_reference: false,
    };
    let zero = Duration::ZERO;
    let broker = broker::Settings {
        url: broker.into(),
        tls: tls::Files::default(),
        carried: Carried::Payload,
        operation_timeout: zero,
        heartbeat: zero,
    };
    format!("{flags} {store:?} {broker:?}")
}

#[test]
fn no_value_prints_a_secret_or_a_payload() {
    let secret = Secret::from_bytes(SECRET.into()).unwrap();
    let pair = PrivateKey::from_bytes(PRIVATE.as_bytes()).unwrap();
    let (header, revealed) = (format!("Authorization: {HEADER}"), secret.reveal());
    let add = ["posthaste", "endpoint", "add", "--tenant", "t", "--url", "https://x"];
    let add = [&add[..], &["--secret", revealed.as_str(), "--header", header.as_str()]].concat();
    let emit = ["posthaste", "event", "emit", "--tenant", "t", "--type", "a", "--payload", PAYLOAD];
    let signature = format!("v1,{TOKEN}");
    let event = Event { id: "1".into(), event_type: None, timestamp: 0, signature, body: PAYLOAD.into() };
    let printed = [
        format!("{:?}", config()),
        servers(),
        format!("{:?}", Cli::try_parse_from(add).unwrap()),
        format!("{:?}", Cli::try_parse_from(emit).unwrap()),
        format!("{:?} {event:?}", message()),
        format!("{:?}", Key::parse(&STANDARD.encode(ENCRYPTION)).unwrap()),
        format!("{:?}", revealed.parse::<Verifier>().unwrap()),
        format!("{secret:?} {pair:?} {:?}", [SigningKey::Secret(secret.clone()), SigningKey::Pair(pair.clone())]),
    ];
    for printed in printed {
        assert!(!printed.is_empty());
        for canary in ALL {
            assert_eq!(found(canary, &printed), None, "{printed}");
        }
    }
}
