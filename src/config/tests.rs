use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::layers::reference;
use super::*;
use crate::domain::backoff::Policy;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn env(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn loaded(variables: &[(&str, &str)]) -> Config {
    Config::from_sources(&env(variables)).unwrap_or_else(|error| panic!("{variables:?}: {error}"))
}

fn refused(variables: &[(&str, &str)]) -> String {
    Config::from_sources(&env(variables)).map(|_| ()).expect_err(&format!("{variables:?}")).to_string()
}

/// A configuration from a file alone.
fn from_file(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let overrides = Overrides { file: Some(file.path().to_owned()), ..Overrides::default() };
    let sources = Sources { overrides, ..Sources::default() };
    let shown = file.path().display().to_string();
    Config::from_sources(&sources).map_err(|error| error.to_string().replace(&shown, "FILE"))
}

fn refused_file(text: &str) -> String {
    from_file(text).map(|_| ()).expect_err(text)
}

fn schedule(policy: &Policy) -> Vec<u64> {
    policy.schedule_ms().collect()
}

mod defaults {
    use super::*;

    #[test]
    fn without_any_source_the_documented_defaults_apply() {
        let config = loaded(&[]);
        assert_eq!(schedule(config.retry.default_policy()), [30_000, 120_000, 600_000, 3_600_000]);
        assert_eq!(config.retry.delays().len(), 4 * 16);
        assert_eq!((config.worker.concurrency, config.worker.prefetch), (64, 128));
        assert_eq!(config.relay.batch_size, 200);
        assert_eq!(config.delivery.timeout, Duration::from_secs(15));
        assert_eq!(config.broker.prefix, "posthaste");
        assert!(config.circuit.enabled && config.circuit.failure_share == 0.5);
        assert_eq!(config.shutdown.grace, Duration::from_secs(25));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn the_reference_file_read_as_a_file_changes_nothing() {
        assert_eq!(format!("{:?}", from_file(REFERENCE).unwrap()), format!("{:?}", loaded(&[])));
    }

    #[test]
    fn what_a_command_needs_and_is_not_set_is_named_with_the_way_to_set_it() {
        let config = loaded(&[("DATABASE_URL", ""), ("AMQP_URL", "")]);
        let missing = config.database_url().unwrap_err().to_string();
        assert!(missing.starts_with("database.url: is not set") && missing.contains("DATABASE_URL"), "{missing}");
        assert!(config.amqp_url().unwrap_err().to_string().contains("AMQP_URL"));
        assert!(config.encryption_key().unwrap_err().to_string().contains("posthaste keygen"));
    }
}

mod precedence {
    use super::*;

    /// Lowest first: file, DATABASE_URL, POSTHASTE_DATABASE__URL, flag.
    #[test]
    fn each_layer_wins_over_the_ones_below_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[database]\nurl = \"postgres://file/db\"\n").unwrap();
        let mut sources = Sources { fallback_file: Some(file.path().to_owned()), ..Sources::default() };
        let url =
            |sources: &Sources| Config::from_sources(sources).unwrap().database_url().unwrap().expose().to_owned();
        assert_eq!(url(&sources), "postgres://file/db");
        sources.environment.push(("DATABASE_URL".into(), "postgres://plain/db".into()));
        assert_eq!(url(&sources), "postgres://plain/db");
        sources.environment.push(("POSTHASTE_DATABASE__URL".into(), "postgres://prefixed/db".into()));
        assert_eq!(url(&sources), "postgres://prefixed/db");
        sources.overrides.database_url = Some("postgres://flag/db".to_owned().into());
        assert_eq!(url(&sources), "postgres://flag/db");
    }

    #[test]
    fn a_named_file_replaces_the_fallback_and_must_exist() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[broker]\nprefix = \"fallback\"\n").unwrap();
        let fallback_file = Some(file.path().to_owned());
        let absent = Overrides { file: Some("/nowhere/posthaste.toml".into()), ..Overrides::default() };
        let sources = Sources { overrides: absent, fallback_file, ..Sources::default() };
        let message = Config::from_sources(&sources).unwrap_err().to_string();
        assert!(message.contains("/nowhere/posthaste.toml") && message.contains("--config"), "{message}");
        let without = Sources { fallback_file: Some("/nowhere/posthaste.toml".into()), ..Sources::default() };
        assert_eq!(Config::from_sources(&without).unwrap().broker.prefix, "posthaste");
    }

    #[test]
    fn only_variables_with_two_underscores_are_configuration() {
        let config = loaded(&[("POSTHASTE_TEST_DATABASE_URL", "x"), ("POSTHASTE_PREFIX", "y"), ("OTHER__KEY", "z")]);
        assert_eq!(config.broker.prefix, "posthaste");
        assert!(config.database.url.is_none());
    }

    #[test]
    fn the_environment_is_read_by_the_type_of_the_key_not_by_the_looks_of_the_value() {
        for prefix in ["123", "1.5", "true", "0x10", "-", "007"] {
            assert_eq!(loaded(&[("POSTHASTE_BROKER__PREFIX", prefix)]).broker.prefix, prefix);
        }
        let config = loaded(&[
            ("POSTHASTE_WORKER__CONCURRENCY", "12"),
            ("POSTHASTE_CIRCUIT__ENABLED", "false"),
            ("POSTHASTE_CIRCUIT__FAILURE_SHARE", "1"),
            ("POSTHASTE_DELIVERY__ALLOW_CIDRS", r#"["10.0.0.0/8", "::1/128"]"#),
            ("POSTHASTE_RETRY__SCHEDULE", r#"["1s","250ms"]"#),
            ("POSTHASTE_RETRY__PERMANENT_STATUS_CODES", "[400, 422]"),
        ]);
        assert_eq!((config.worker.concurrency, config.worker.prefetch), (12, 24));
        assert!(!config.circuit.enabled && config.circuit.failure_share == 1.0);
        assert_eq!(config.delivery.allow_cidrs.len(), 2);
        assert_eq!(schedule(config.retry.default_policy()), [1000, 250]);
        assert!(config.retry.default_policy().permanent_status_codes.contains(&422));
    }
}

mod policies {
    use super::*;

    #[test]
    fn a_named_policy_inherits_what_it_does_not_set() {
        let config = from_file(
            "[retry]\nbudget = 3\nslots = 4\n[retry.policies.Gold_1]\nschedule = [\"5s\"]\n[retry.policies.plain]\n",
        )
        .unwrap();
        let gold = config.retry.get(Some("Gold_1"));
        assert_eq!((gold.name.as_str(), schedule(gold), gold.budget), ("Gold_1", vec![5000], Some(3)));
        assert_eq!(gold.delays_ms().len(), 4);
        assert_eq!(schedule(config.retry.get(Some("plain"))), schedule(config.retry.default_policy()));
        assert!(config.retry.contains("plain") && !config.retry.contains("gold_1"));
    }

    #[test]
    fn the_environment_can_make_and_change_a_policy() {
        let config = loaded(&[
            ("POSTHASTE_RETRY__POLICIES__GOLD__SCHEDULE", r#"["7s"]"#),
            ("POSTHASTE_RETRY__POLICIES__GOLD__BUDGET", "2"),
        ]);
        let gold = config.retry.get(Some("gold"));
        assert_eq!((schedule(gold), gold.budget), (vec![7000], Some(2)));
    }

    #[test]
    fn jitter_outside_its_range_is_clamped_with_one_warning() {
        for (written, queues) in [("-5", 1), ("0", 1), ("10001", 16), ("99999999999", 16)] {
            let config = loaded(&[
                ("POSTHASTE_RETRY__JITTER_BPS", written),
                ("POSTHASTE_RETRY__SCHEDULE", r#"["1h"]"#),
                ("POSTHASTE_RETRY__POLICIES__A__BUDGET", "1"),
            ]);
            assert_eq!(config.retry.delays().len(), queues, "{written}");
            assert_eq!(config.warnings.len(), usize::from(written != "0"), "{:?}", config.warnings);
            assert!(config.warnings.iter().all(|warning| warning.contains(written)), "{:?}", config.warnings);
        }
    }

    #[test]
    fn more_slots_than_there_can_be_queues_are_reduced_with_a_warning() {
        let delays: Vec<String> = (1..=40).map(|minutes| format!("\"{minutes}m\"")).collect();
        let config = loaded(&[("POSTHASTE_RETRY__SCHEDULE", &format!("[{}]", delays.join(",")))]);
        assert!(config.warnings[0].starts_with("retry.slots: 16") && config.warnings[0].contains("5 slots"));
    }

    #[test]
    fn an_impossible_policy_names_its_key_and_the_fix() {
        let cases = [
            ("[retry]\nschedule = []", "retry.schedule: is empty; list at least one delay"),
            ("[retry]\nschedule = [\"1s\", \"0s\"]", "retry.schedule: delay 2 is zero"),
            ("[retry]\nschedule = [\"60d\"]", "over the broker's limit"),
            ("[retry]\nschedule = [\"1s\", 5]", "retry.schedule: item 2 is not a duration; write it in quotes"),
            ("[retry]\nschedule = [\"5\"]", "retry.schedule: item 1 ('5' has no unit; write \"5s\""),
            ("[retry]\nschedule = \"30s\"", "retry.schedule: is a text, not a list; write it like [\"30s\", \"2m\"]"),
            ("[retry]\nslots = 0", "retry.slots: is 0; use 1 to 200"),
            ("[retry]\npermanent_status_codes = [200]", "retry.permanent_status_codes: 200 is not"),
            ("[retry]\npermanent_status_codes = [\"4xx\"]", "item 1 is not an HTTP status code"),
            ("[retry.policies.gold]\nschedule = []", "retry.policies.gold.schedule: is empty"),
            ("[retry.policies.gold]\nslots = 300", "retry.policies.gold.slots: is 300; use 1 to 200"),
            (
                "[retry]\nschedule = [\"40d\"]\n[retry.policies.gold]\njitter_bps = 9000",
                "retry.policies.gold.schedule: delay 1",
            ),
            (
                "[retry.policies.gold]\nshedule = []",
                "retry.policies.gold.shedule: unknown key; did you mean retry.policies.gold.schedule?",
            ),
            ("[retry.policies.default]", "retry.policies.default: is the name of [retry] itself"),
            ("[retry.policies.\"a b\"]", "retry.policies.a b: is not a name for a policy"),
            ("[retry]\npolicies = 5", "retry.policies: is a section"),
        ];
        for (text, expected) in cases {
            let message = refused_file(text);
            assert!(message.contains(expected) && message.ends_with("(in FILE)"), "{text}: {message}");
        }
    }

    #[test]
    fn policies_that_need_too_many_queues_together_are_refused() {
        let policies: String = (1..=4)
            .map(|n| format!("[retry.policies.p{n}]\nschedule = [\"{n}1s\", \"{n}7m\", \"{n}3m\", \"{n}h\"]\n"))
            .collect();
        assert!(refused_file(&policies).starts_with("retry: the policies need"), "{}", refused_file(&policies));
    }
}

mod refusals {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_valid_one() {
        let cases = [
            ("[relay]\nbatchsize = 5", "relay.batchsize: unknown key; did you mean relay.batch_size? (in FILE)"),
            (
                "[wroker]\nconcurrency = 5",
                "wroker.concurrency: unknown key; did you mean worker.concurrency? (in FILE)",
            ),
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
            ("[worker]\nconcurrency = \"8\"", "worker.concurrency: is a text, not a whole number; write it like 64"),
            ("[worker]\nconcurrency = 8.5", "worker.concurrency: is a number, not a whole number"),
            ("[circuit]\nenabled = \"yes\"", "circuit.enabled: is a text, not true or false; write it like true"),
            ("[circuit]\nfailure_share = \"half\"", "not a number; write it like 0.5"),
            ("[broker]\nprefix = 5", "broker.prefix: is a number, not a text in quotes; write it like \"posthaste\""),
            ("[relay]\nwake = \"notify\"", "relay.wake: is 'notify'; use \"listen\" or \"poll\""),
            ("[telemetry]\nlog_format = \"xml\"", "use \"human\" or \"json\""),
            ("[telemetry]\nlog_level = \"a=b=c\"", "telemetry.log_level: is not a filter"),
            ("[telemetry]\nlisten = \"9464\"", "telemetry.listen: is not an address and a port"),
            ("[broker]\nheartbeat = \"1500ms\"", "broker.heartbeat: is not a whole number of seconds"),
        ];
        for (text, expected) in cases {
            let message = refused_file(text);
            assert!(message.contains(expected) && message.ends_with("(in FILE)"), "{text}: {message}");
        }
        let variable = refused(&[("POSTHASTE_WORKER__CONCURRENCY", "many")]);
        assert!(variable.ends_with("write it like 64 (from POSTHASTE_WORKER__CONCURRENCY)"), "{variable}");
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
        assert_eq!(config.worker.prefetch, 10);
        assert!(config.warnings[0].starts_with("worker.prefetch"));
    }

    #[test]
    fn an_empty_listen_address_turns_the_server_off_and_port_zero_is_allowed() {
        assert_eq!(loaded(&[("POSTHASTE_TELEMETRY__LISTEN", "")]).telemetry.listen, None);
        let any = loaded(&[("POSTHASTE_TELEMETRY__LISTEN", "0.0.0.0:0")]).telemetry.listen;
        assert_eq!(any, Some(([0, 0, 0, 0], 0).into()));
    }
}

mod secrets {
    use super::*;

    #[test]
    fn urls_and_keys_are_never_printed_whole() {
        let config = loaded(&[
            ("DATABASE_URL", "postgresql://u:hunter2@db/x?password=hunter3"),
            ("AMQP_URL", "amqps://u:hunter4@mq:5671/%2f"),
            ("POSTHASTE_SECURITY__ENCRYPTION_KEY", KEY),
        ]);
        let printed = format!("{config:?} {}", config.database_url().unwrap());
        assert!(printed.contains("postgresql://u:***@db/x") && printed.contains("mq:5671"), "{printed}");
        assert!(!printed.contains("hunter") && !printed.contains("AAEC"), "{printed}");
        assert_eq!(config.database_url().unwrap().expose(), "postgresql://u:hunter2@db/x?password=hunter3");
        assert_eq!(config.encryption_key().unwrap().expose()[..3], [0, 1, 2]);
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let cases = [
            ("DATABASE_URL", "mysql://u:hunter2@db/x", "database.url: begins with mysql://; use postgres://"),
            ("DATABASE_URL", "u:hunter2@db", "database.url"),
            ("DATABASE_URL", "postgres://u:hunter2#@db:x", "database.url: is not a URL"),
            ("AMQP_URL", "http://u:hunter2@mq", "broker.url: begins with http://; use amqp:// or amqps://"),
            ("AMQP_URL", "hunter2", "broker.url: is not a URL"),
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
}

mod documents {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/configuration.md");

    struct Row {
        default: String,
        limits: String,
        variable: String,
    }

    /// The rows of the tables: | `key` | default | limits | variable | meaning |
    fn rows() -> BTreeMap<String, Row> {
        let cell = |text: &str| text.trim().trim_matches('`').to_owned();
        let of_line = |line: &str| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [key, default, limits, variable, _] = cells[..] else { return None };
            let row = Row { default: cell(default), limits: limits.trim().to_owned(), variable: cell(variable) };
            Some((cell(key), row))
        };
        DOCUMENT.lines().filter_map(of_line).collect()
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_exists() {
        let keys = shape::keys(&reference());
        assert_eq!(rows().into_keys().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn documented_defaults_and_variables_are_the_real_ones() {
        for (key, row) in rows() {
            let default: toml_like::Text = toml_like::find(&key);
            assert_eq!(row.default, default, "{key}");
            assert_eq!(row.variable, variable(&key));
        }
    }

    fn variable(key: &str) -> String {
        format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase())
    }

    /// "`a` to `b`": both bounds are accepted, and what is just beyond them is not.
    #[test]
    fn documented_limits_are_the_real_ones() {
        let mut checked = 0;
        for (key, row) in rows() {
            let Some((low, high)) =
                row.limits.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')?.split_once("` to `"))
            else {
                continue;
            };
            let variable = variable(&key);
            let try_with = |value: &str| Config::from_sources(&env(&[(variable.as_str(), value)]));
            for bound in [low, high] {
                assert!(try_with(bound).is_ok(), "{key} = {bound}: {}", try_with(bound).unwrap_err());
            }
            for beyond in [beyond(low, -1), beyond(high, 1)].into_iter().flatten() {
                assert!(try_with(&beyond).is_err(), "{key} = {beyond}");
            }
            checked += 1;
        }
        assert!(checked > 20, "only {checked} limits were found");
    }

    fn beyond(bound: &str, step: i64) -> Option<String> {
        if let Ok(number) = bound.parse::<i64>() {
            return Some((number + step).to_string());
        }
        if let Ok(number) = bound.parse::<f64>() {
            return Some((number + step as f64 * 0.005).to_string());
        }
        let ms = humantime::parse_duration(bound).unwrap().as_millis() as i64 + step;
        (ms >= 0).then(|| format!("{ms}ms"))
    }

    /// The defaults as written in the reference file, since a parsed value has lost its spelling.
    mod toml_like {
        pub type Text = String;

        pub fn find(key: &str) -> Text {
            let (section, name) = key.split_once('.').unwrap();
            let mut lines = super::REFERENCE.lines().skip_while(|line| *line != format!("[{section}]"));
            let line = lines.find(|line| line.starts_with(&format!("{name} = "))).unwrap_or_else(|| panic!("{key}"));
            line.split_once(" = ").unwrap().1.to_owned()
        }
    }
}

proptest! {
    /// Whatever is in a variable or a file, loading answers: it never panics, and a refusal names the key.
    #[test]
    fn no_value_of_any_key_breaks_the_loader(index in 0usize..64, value in "\\PC{0,24}") {
        let keys = shape::keys(&reference());
        let key = &keys[index % keys.len()];
        let variable = format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase());
        if let Err(error) = Config::from_sources(&env(&[(variable.as_str(), value.as_str())])) {
            prop_assert!(error.to_string().starts_with(key.as_str()), "{}", error);
        }
    }

    #[test]
    fn a_duration_means_the_same_however_it_is_written(ms in 1u64..600_000) {
        let timeout = |text: &str| loaded(&[("POSTHASTE_DELIVERY__TIMEOUT", text)]).delivery.timeout;
        prop_assert_eq!(timeout(&format!("{ms}ms")), Duration::from_millis(ms));
        prop_assert_eq!(timeout(&humantime::format_duration(Duration::from_millis(ms)).to_string()), Duration::from_millis(ms));
    }

    #[test]
    fn jitter_of_any_size_is_clamped(jitter in any::<i64>()) {
        let config = loaded(&[("POSTHASTE_RETRY__JITTER_BPS", &jitter.to_string())]);
        prop_assert_eq!(config.warnings.is_empty(), (0..=10_000).contains(&jitter));
    }
}
