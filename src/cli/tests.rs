use std::time::Duration;

use chrono::{TimeZone, Utc};
use clap::{CommandFactory, Parser};
use secrecy::ExposeSecret;

use super::parse::moment_at;
use super::*;
use crate::domain::dead_reason::DeadReason;

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

fn parsed(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["posthaste"], arguments].concat())
}

fn refused(arguments: &[&str]) -> String {
    without_secret(parsed(arguments).expect_err(&arguments.join(" "))).to_string()
}

#[test]
fn the_definition_is_valid() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_parses_with_its_least_arguments() {
    for line in [
        "migrate",
        "run",
        "relay",
        "worker",
        "requeue --all",
        "topology declare",
        "topology check --json",
        "topology prune --dry-run",
        "roles sql",
        "roles rabbitmq --prefix shop --vhost shop",
        "keygen",
        "endpoint list",
        &format!("endpoint show {ID}"),
        &format!("endpoint enable {ID}"),
        &format!("endpoint disable {ID}"),
        &format!("endpoint remove {ID} --yes"),
        &format!("endpoint rotate-secret {ID}"),
        &format!("endpoint test {ID} --json"),
        "tenant list",
        "tenant show acme",
        "tenant set acme --require-https true",
        &format!("event show {ID}"),
        "event list",
        "dead list",
        &format!("dead show {ID}"),
        "stats --json",
        "stats --watch --interval 5s --samples 3",
        "doctor",
        "policy list",
        "policy set default --budget 3",
        "policy set gold --budget none",
        "receiver",
        "capacity --events-per-second 2000 --endpoints 5000",
        "bench burst",
        "completions bash",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        parsed(&arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn global_flags_may_stand_before_or_after_the_command() {
    for arguments in [
        ["--config", "a.toml", "--database-url", "d", "--amqp-url", "q", "endpoint", "list"],
        ["endpoint", "list", "--config", "a.toml", "--database-url", "d", "--amqp-url", "q"],
    ] {
        let overrides = parsed(&arguments).unwrap().global.overrides();
        assert_eq!(overrides.file, Some("a.toml".into()));
        assert_eq!(overrides.database_url.unwrap().expose_secret(), "d");
        assert_eq!(overrides.amqp_url.unwrap().expose_secret(), "q");
    }
}

#[test]
fn an_endpoint_is_added_with_lists_headers_and_limits() {
    let arguments = [
        ["endpoint", "add", "--tenant", "t", "--url", "https://a.example/hook"].as_slice(),
        &["--event-types", "a.b,c.*", "--header", "X-Key: a: b", "--header", "X-Other:", "--timeout", "10s"],
        &["--max-in-flight", "5", "--rate-limit", "7", "--retry-policy", "gold", "--json"],
    ]
    .concat();
    let Command::Endpoint(Endpoint::Add(add)) = parsed(&arguments).unwrap().command else { panic!() };
    assert_eq!(add.event_types, ["a.b", "c.*"]);
    assert_eq!(add.headers[0], Header { name: "X-Key".into(), value: "a: b".into() });
    assert_eq!(add.headers[1].value, "");
    assert_eq!(add.timeout, Some(Duration::from_secs(10)));
    assert_eq!((add.max_in_flight, add.rate_limit), (Some(5), Some(7)));
    assert_eq!(add.retry_policy.as_deref(), Some("gold"));
    assert!(add.output.json && add.secret.is_none());
}

#[test]
fn endpoint_set_takes_values_and_none_and_needs_at_least_one_change() {
    let line = ["endpoint", "set", ID, "--rate-limit", "none", "--max-in-flight", "3", "--event-types", "*"];
    let Command::Endpoint(Endpoint::Set(set)) = parsed(&line).unwrap().command else { panic!() };
    assert_eq!(set.rate_limit, Some(Setting::Default));
    assert_eq!(set.max_in_flight, Some(Setting::To(3)));
    assert_eq!(set.event_types, Some(vec!["*".to_owned()]));
    assert_eq!((set.url, set.timeout, set.retry_policy), (None, None, None));
    assert!(refused(&["endpoint", "set", ID]).contains("--rate-limit"));
    assert!(refused(&["endpoint", "set", ID, "--no-headers", "--header", "a: b"]).contains("--no-headers"));
    let nothing_else = parsed(&["endpoint", "set", ID, "--no-headers"]).unwrap();
    assert!(matches!(nothing_else.command, Command::Endpoint(Endpoint::Set(set)) if set.no_headers));
}

#[test]
fn a_client_certificate_comes_with_its_key_and_excludes_having_none() {
    let line = ["endpoint", "set", ID, "--client-certificate", "c.pem", "--client-key", "k.pem", "--ca", "ca.pem"];
    let Command::Endpoint(Endpoint::Set(set)) = parsed(&line).unwrap().command else { panic!() };
    assert_eq!((set.client_certificate, set.client_key), (Some("c.pem".into()), Some("k.pem".into())));
    assert_eq!(set.ca, Some("ca.pem".into()));
    assert!(refused(&["endpoint", "set", ID, "--client-certificate", "c.pem"]).contains("--client-key"));
    assert!(refused(&["endpoint", "set", ID, "--client-key", "k.pem"]).contains("--client-certificate"));
    assert!(refused(&[&line[..], &["--no-ca"]].concat()).contains("--no-ca"));
    assert!(refused(&[&line[..], &["--no-client-certificate"]].concat()).contains("--no-client-certificate"));
    assert!(parsed(&["endpoint", "set", ID, "--no-client-certificate", "--no-ca"]).is_ok());
    assert!(refused(&["tenant", "set", "acme"]).contains("--require-https"));
    assert!(refused(&["tenant", "set", "acme", "--require-https", "maybe"]).contains("true"));
}

#[test]
fn requeue_needs_a_selection_and_all_stands_alone() {
    let line = ["requeue", "--event", ID, "--event", ID, "--reason", "exhausted", "--since", "2h", "--rate", "50"];
    let Command::Requeue(requeue) = parsed(&line).unwrap().command else { panic!() };
    assert_eq!(requeue.filter.events.len(), 2);
    assert_eq!(requeue.filter.reason, Some(DeadReason::Exhausted));
    assert_eq!(requeue.rate, Some(50));
    assert!(!requeue.all && requeue.filter.since.is_some());
    assert!(refused(&["requeue"]).contains("--all"));
    assert!(refused(&["requeue", "--all", "--tenant", "t"]).contains("--tenant"));
}

#[test]
fn a_payload_is_text_a_file_or_stdin() {
    assert_eq!(Payload::from("{\"a\": 1}"), Payload::Inline("{\"a\": 1}".into()));
    assert_eq!(Payload::from("@a/b.json"), Payload::File("a/b.json".into()));
    assert_eq!(Payload::from("-"), Payload::Stdin);
    let negative = ["event", "emit", "--tenant", "t", "--type", "a.b", "--payload", "-1"];
    let Command::Event(Event::Emit(emit)) = parsed(&negative).unwrap().command else { panic!() };
    assert_eq!(emit.payload, Payload::Inline("-1".into()));
}

#[test]
fn a_moment_is_a_time_or_how_long_ago() {
    let now = Utc.with_ymd_and_hms(2026, 5, 1, 12, 0, 0).unwrap();
    assert_eq!(moment_at("2h", now).unwrap(), Utc.with_ymd_and_hms(2026, 5, 1, 10, 0, 0).unwrap());
    let written = moment_at("2026-04-30T14:00:00+02:00", now).unwrap();
    assert_eq!(written, Utc.with_ymd_and_hms(2026, 4, 30, 12, 0, 0).unwrap());
    for bad in ["", "yesterday", "2", "2026-05-01", "9999999999999d"] {
        assert!(moment_at(bad, now).is_err(), "{bad}");
    }
}

#[test]
fn a_refused_value_names_the_flag_and_the_fix() {
    let add = ["endpoint", "add", "--tenant", "t", "--url", "u"];
    let cases: &[(&[&str], &[&str])] = &[
        (&["--event-types", "order*"], &["--event-types", "order.*"]),
        (&["--timeout", "10"], &["--timeout", "no unit", "10s"]),
        (&["--timeout", "11m"], &["--timeout", "1ms to 10m"]),
        (&["--max-in-flight", "0"], &["--max-in-flight", "1 to 10000"]),
        (&["--rate-limit", "x"], &["--rate-limit", "whole number"]),
        (&["--retry-policy", "a b"], &["--retry-policy", "[retry.policies]"]),
        (&["--header", "novalue"], &["--header", "X-Api-Key: value"]),
        (&["--header", "a b: c"], &["--header", "1 to 128 letters"]),
        (&["--header", "Webhook-Id: c"], &["--header", "choose another name"]),
        (&["--header", "a: \u{e9}"], &["--header", "printable ASCII"]),
        (&["--secret", "nope"], &["--secret", "whsec_"]),
    ];
    for (flags, expected) in cases {
        let message = refused(&[add.as_slice(), flags].concat());
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(refused(&["requeue", "--reason", "tired"]).contains("exhausted"));
    assert!(refused(&["event", "list", "--like", "a%"]).contains("*.failed"));
    assert!(refused(&["event", "list", "--status", "lost"]).contains("retrying"));
    assert!(refused(&["policy", "set", "default", "--budget", "many"]).contains("or none for the default"));
    assert!(refused(&["stats", "--watch", "--interval", "10ms"]).contains("use 1s to 1h"));
    assert!(refused(&["requeue", "--since", "x"]).contains("2h for two hours ago"));
    assert!(refused(&["event", "list", "--tenant", ""]).contains("1 to 128"));
    for prefix in ["", "Shop", "1shop", "shop; drop", &"s".repeat(41)] {
        assert!(refused(&["roles", "sql", "--prefix", prefix]).contains("use 1 to 40 of a-z"), "{prefix}");
    }
    assert!(refused(&["roles", "rabbitmq", "--vhost", "a\nb"]).contains("virtual host"));
    let set = refused(&["endpoint", "set", ID, "--rate-limit", "fast"]);
    assert!(set.contains("or none"), "{set}");
}

#[test]
fn a_refused_secret_is_not_repeated() {
    let rotate = refused(&["endpoint", "rotate-secret", ID, "--secret", "whsec_Zm9v!"]);
    assert!(rotate.contains("[redacted]") && !rotate.contains("Zm9v"), "{rotate}");
    let header = refused(&["endpoint", "set", ID, "--header", "Bearer-hunter2"]);
    assert!(!header.contains("hunter2"), "{header}");
    let cli = parsed(&["endpoint", "set", ID, "--header", "Authorization: hunter2"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
}

#[test]
fn help_is_success_and_a_mistake_is_64() {
    let code = |arguments: &[&str]| format!("{:?}", parse_from(arguments.iter().copied()).unwrap_err());
    assert_eq!(code(&["posthaste", "--version"]), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code(&["posthaste", "frobnicate"]), format!("{:?}", ExitCode::from(EXIT_USAGE)));
    assert_eq!(code(&["posthaste"]), format!("{:?}", ExitCode::from(EXIT_USAGE)));
    assert!(parse_from(["posthaste", "run"]).is_ok());
}

#[test]
fn a_pattern_of_types_means_what_it_says_to_sql() {
    assert_eq!(parse::type_pattern("user_a.*").unwrap(), "user\\_a.%");
    assert_eq!(parse::type_pattern("*").unwrap(), "%");
    assert_eq!(parse::event_filter(" invoice.paid").unwrap(), "invoice.paid");
}
