//! `[retry]` and the named policies.

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
fn a_schedule_need_not_increase() {
    let config = loaded(&[("POSTHASTE_RETRY__SCHEDULE", r#"["1h", "1s", "1s", "2m"]"#)]);
    assert_eq!(schedule(config.retry.default_policy()), [3_600_000, 1_000, 1_000, 120_000]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn more_slots_than_there_can_be_queues_are_reduced_with_a_warning() {
    let delays: Vec<String> = (1..=40).map(|minutes| format!("\"{minutes}m\"")).collect();
    let config = loaded(&[("POSTHASTE_RETRY__SCHEDULE", &format!("[{}]", delays.join(",")))]);
    assert!(config.warnings[0].starts_with("retry.slots: 16") && config.warnings[0].contains("5 slots"));
}

#[test]
fn jitter_that_one_slot_leaves_without_effect_is_warned_of() {
    let warned = |text: &str| from_file(text).unwrap().warnings;
    let one = warned("[retry]\nslots = 1");
    assert!(
        one.len() == 1 && one[0].starts_with("retry.slots: with 1 slot for each delay there is no jitter"),
        "{one:?}"
    );
    let of_a_policy = warned("[retry.policies.gold]\nslots = 1\n[retry.policies.plain]\n");
    assert!(of_a_policy.len() == 1 && of_a_policy[0].starts_with("retry.policies.gold.slots: "), "{of_a_policy:?}");
    let delays: Vec<String> = (1..=101).map(|minutes| format!("\"{minutes}m\"")).collect();
    let crowded = warned(&format!("[retry]\nschedule = [{}]", delays.join(",")));
    assert!(crowded.iter().any(|warning| warning.contains("there is no jitter")), "{crowded:?}");
    for text in ["[retry]\nslots = 1\njitter_bps = 0", "[retry]\nslots = 2", ""] {
        assert!(warned(text).is_empty(), "{text}: {:?}", warned(text));
    }
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
