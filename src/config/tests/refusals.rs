//! What is refused, and in which words.

use super::*;

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_valid_one() {
    let cases = [
        ("[relay]\nbatchsize = 5", "relay.batchsize: unknown key; did you mean relay.batch_size? (in FILE)"),
        ("[wroker]\nconcurrency = 5", "wroker.concurrency: unknown key; did you mean worker.concurrency? (in FILE)"),
        ("database_url = \"x\"", "database_url: unknown key; did you mean database.url? (in FILE)"),
        ("\"retry.slots\" = 1", "retry.slots: unknown key"),
        ("[relays]", "relays: unknown key"),
        ("relay = 5", "relay: is a section; write its keys below [relay]"),
        ("[relay.batch_size]\na = 1", "relay.batch_size: is a section, not a whole number"),
    ];
    for (text, expected) in cases {
        assert!(refused_file(text).contains(expected), "{text}: {}", refused_file(text));
    }
    let variable = refused(&[("POSTHASTE_RELAY__BATCH_SISE", "5")]);
    assert_eq!(
        variable,
        "relay.batch_sise: unknown key; did you mean relay.batch_size? (from POSTHASTE_RELAY__BATCH_SISE)"
    );
    assert!(refused(&[("POSTHASTE___X", "5")]).contains("unknown key"));
    assert!(refused(&[("POSTHASTE_RETRY__POLICIES__GOLD", "5")]).contains("is a section"));
}

#[test]
fn a_value_of_the_wrong_type_names_the_key_and_how_to_write_it() {
    let cases = [
        ("[delivery]\ntimeout = 15", "delivery.timeout: is a number, not a text in quotes; write it like \"15s\""),
        ("[delivery]\ntimeout = \"15\"", "delivery.timeout: '15' has no unit; write \"15s\""),
        ("[delivery]\ntimeout = \"soon\"", "delivery.timeout: 'soon' is not a duration"),
        ("[delivery]\ntimeout = \"\"", "delivery.timeout: '' is not a duration"),
        ("[delivery]\ntimeout = \"99999999999999999999d\"", "is not a duration"),
        ("[delivery]\nallow_cidrs = \"10.0.0.0/8\"", "not a list; write it like [\"10.0.0.0/8\"]"),
        (
            "[delivery]\nallow_cidrs = [\"10.0.0.0/8\", \"lan\"]",
            "delivery.allow_cidrs: item 2 ('lan') is not a network",
        ),
        ("[retry]\npermanent_status_codes = 400", "write it like [400, 422]"),
        ("[delivery]\nallow_ports = 443", "write it like [443, \"8000-8999\"]"),
        (
            "[delivery]\nallow_ports = [443, \"https\"]",
            "delivery.allow_ports: item 2 ('https') is not a port; write it like",
        ),
        ("[delivery]\nallow_ports = [65536]", "item 1 ('65536') is not a port"),
        ("[delivery]\nallow_ports = [0]", "item 1 ('0') is not a port"),
        ("[delivery]\nallow_ports = [\"9000-8000\"]", "item 1 ('9000-8000') is not a port"),
        ("[delivery]\nrequire_https = \"yes\"", "delivery.require_https: is a text, not true or false"),
        ("[worker]\nconcurrency = \"8\"", "worker.concurrency: is a text, not a whole number; write it like 1440"),
        ("[worker]\nconcurrency = 8.5", "worker.concurrency: is a number, not a whole number"),
        ("[circuit]\nenabled = \"yes\"", "circuit.enabled: is a text, not true or false; write it like true"),
        ("[circuit]\nfailure_share = \"half\"", "not a number; write it like 0.5"),
        ("[broker]\nprefix = 5", "broker.prefix: is a number, not a text in quotes; write it like \"posthaste\""),
        ("[relay]\nwake = \"notify\"", "relay.wake: is 'notify'; use \"listen\" or \"poll\""),
        ("[telemetry]\nlog_format = \"xml\"", "use \"human\" or \"json\""),
        ("[telemetry]\nlog_level = \"a=b=c\"", "telemetry.log_level: is not a filter"),
        ("[telemetry]\nlog_level = \"inof\"", "telemetry.log_level: is not a filter ('inof'); use error, warn, info"),
        ("[telemetry]\nlog_level = \"\"", "telemetry.log_level: is not a filter ('')"),
        ("[telemetry]\nlog_level = \"info,posthaste\"", "telemetry.log_level: is not a filter"),
        ("[telemetry]\nlog_level = \"info,\"", "telemetry.log_level: is not a filter"),
        ("[telemetry]\nlisten = \"9464\"", "telemetry.listen: is not an address and a port"),
        ("[telemetry]\nlisten = \"\"\njwks = true", "telemetry.jwks: is on, and telemetry.listen is \"\""),
        ("[broker]\nheartbeat = \"1500ms\"", "broker.heartbeat: is not a whole number of seconds"),
    ];
    for (text, expected) in cases {
        let message = refused_file(text);
        assert!(message.contains(expected) && message.ends_with("(in FILE)"), "{text}: {message}");
    }
    let variable = refused(&[("POSTHASTE_WORKER__CONCURRENCY", "many")]);
    assert!(variable.ends_with("write it like 1440 (from POSTHASTE_WORKER__CONCURRENCY)"), "{variable}");
}

#[test]
fn a_file_that_is_not_toml_says_where_without_quoting_the_line() {
    let message = refused_file("[security]\nencryption_key = hunter2\n");
    assert!(message.contains("FILE: is not valid TOML") && message.contains("line 2"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_prefix_is_one_to_64_safe_characters() {
    let longest = "a".repeat(64);
    assert_eq!(loaded(&[("POSTHASTE_BROKER__PREFIX", longest.as_str())]).broker.prefix, longest);
    for bad in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
        assert!(refused(&[("POSTHASTE_BROKER__PREFIX", bad)]).contains("1 to 64 letters"), "{bad}");
    }
}

#[test]
fn a_prefetch_below_the_concurrency_is_warned_of() {
    let config = loaded(&[("POSTHASTE_WORKER__PREFETCH", "10")]);
    assert_eq!(config.worker.capacity.messages, 10);
    assert!(config.warnings[0].starts_with("worker.prefetch"));
}

#[test]
fn an_empty_listen_address_turns_the_server_off_and_port_zero_is_allowed() {
    assert_eq!(loaded(&[("POSTHASTE_TELEMETRY__LISTEN", "")]).telemetry.listen, None);
    let any = loaded(&[("POSTHASTE_TELEMETRY__LISTEN", "0.0.0.0:0")]).telemetry.listen;
    assert_eq!(any, Some(([0, 0, 0, 0], 0).into()));
}

#[test]
fn ports_are_numbers_or_ranges() {
    let ports = |text: &str| loaded(&[("POSTHASTE_DELIVERY__ALLOW_PORTS", text)]).delivery.allow_ports;
    assert_eq!(ports(r#"[443, "80", "8000-8999", "1 - 65535"]"#), [443..=443, 80..=80, 8000..=8999, 1..=65535]);
    assert_eq!(ports("[]"), []);
}

#[test]
fn a_log_level_is_a_level_or_a_list_with_targets() {
    for good in [
        "error",
        "INFO",
        "off",
        "info,posthaste::relay=debug",
        "posthaste=trace",
        "warn,sqlx=info",
        "info,[deliver]=debug",
    ] {
        assert_eq!(loaded(&[("POSTHASTE_TELEMETRY__LOG_LEVEL", good)]).telemetry.log_level, good);
    }
}
