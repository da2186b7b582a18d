//! `posthaste capacity`: what the page shows is what it says, and it needs neither servers nor a configuration.

use serde_json::{Value, json};

use crate::harness::nowhere;

/// Each command of the page with what the page says that it prints.
fn examples(page: &str) -> Vec<(Vec<&str>, &str)> {
    let examples = page.split("```sh\nposthaste capacity ").skip(1).filter_map(|text| {
        let (command, rest) = text.split_once("```")?;
        let (_, printed) = rest.split_once("```text\n")?;
        let arguments = command.split_whitespace().filter(|part| *part != "\\").collect();
        Some((arguments, printed.split("```").next()?))
    });
    examples.collect()
}

async fn capacity(arguments: &[&str], settings: &[(&str, &str)]) -> crate::harness::Done {
    nowhere(&[&["capacity"], arguments].concat(), settings).await
}

async fn planned(arguments: &[&str], settings: &[(&str, &str)]) -> Value {
    capacity(&[arguments, &["--json"]].concat(), settings).await.json()
}

const SHOP: [&str; 4] = ["--events-per-second", "2000", "--endpoints", "5000"];

#[tokio::test]
async fn the_page_shows_what_the_command_prints() {
    let page = std::fs::read_to_string("docs/capacity.md").expect("the page");
    let examples = examples(&page);
    assert_eq!(examples.len(), 2, "the shop, and a billion events a day");
    for (arguments, printed) in examples {
        let done = capacity(&arguments, &[]).await.ok();
        let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&done.stdout), lines(printed), "{arguments:?}");
    }
}

#[tokio::test]
async fn two_thousand_events_a_second_and_five_thousand_customers_get_a_bill_of_materials() {
    let plan = planned(&SHOP, &[]).await;
    assert!(plan["installations"].as_u64() >= Some(1));
    assert_eq!(plan["demand"]["queues"], json!(67.0));
    for part in ["relay", "worker", "postgresql", "rabbitmq"] {
        let part = &plan["demand"][part];
        assert!(part["processes"].as_f64() >= Some(1.0) && part["cores"].as_f64() >= Some(1.0), "{part}");
    }
    let first = &plan["limits"][0];
    assert_eq!(first["name"], "disk of PostgreSQL", "which 30 days at this rate fill first");
    let week = planned(&[&SHOP[..], &["--retention-days", "7"]].concat(), &[]).await;
    assert_eq!(week["installations"], json!(1));
    assert!(week["most_events_per_second"].as_f64() > Some(2_000.0));
    let costs = plan["costs"].as_array().unwrap();
    assert!(costs.iter().all(|cost| cost["source"].is_string()), "each says where it comes from");
}

#[tokio::test]
async fn the_configuration_counts_where_there_is_one() {
    let settings = [
        ("retry.schedule", r#"["10s"]"#),
        ("retry.slots", "5"),
        ("retention.days", "3"),
        ("database.max_connections", "4"),
    ];
    let (default, other) = (planned(&SHOP, &[]).await, planned(&SHOP, &settings).await);
    assert_eq!((&other["demand"]["queues"], &other["load"]["retention_days"]), (&json!(8.0), &json!(3.0)));
    for figure in ["history_bytes", "sessions", "rabbitmq_handles"] {
        assert!(other["demand"][figure].as_f64() < default["demand"][figure].as_f64(), "{figure}");
    }
    let waiting = |plan: &Value| plan["demand"]["rates"]["waiting"].as_f64().unwrap();
    assert_eq!(waiting(&other), 2_000.0 * 0.01 * 10.0, "ten seconds each");
    let given = planned(&[&SHOP[..], &["--retention-days", "7"]].concat(), &settings).await;
    assert_eq!(given["load"]["retention_days"], 7.0, "what is given wins");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_option_and_the_fix() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--endpoints", "5"], &["--events-per-second"]),
        (&["--events-per-second", "0", "--endpoints", "5"], &["--events-per-second", "use a number from 0.001"]),
        (&["--events-per-second", "2 000", "--endpoints", "5"], &["--events-per-second", "without separators"]),
        (
            &["--events-per-second", "1", "--endpoints", "5", "--failing-share", "2"],
            &["--failing-share", "from 0 to 1"],
        ),
        (
            &["--events-per-second", "1", "--endpoints", "5", "--events-per-day", "1000000"],
            &["--events-per-day", "raise --events-per-second to 12"],
        ),
        (
            &["--events-per-second", "1", "--endpoints", "5", "--largest-share", "0.1"],
            &["--largest-share", "use 0.2 at least"],
        ),
    ];
    for (arguments, parts) in cases {
        let refused = capacity(arguments, &[]).await;
        assert_eq!(refused.code, 64, "{arguments:?}: {}", refused.stderr);
        assert!(parts.iter().all(|part| refused.stderr.contains(part)), "{arguments:?}: {}", refused.stderr);
    }
}
