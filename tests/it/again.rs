//! Resends of what has ended, and retries before their time.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use posthaste::domain::delivery::{self as domain, Row, Status};
use posthaste::domain::ids::{self, DeliveryKey};
use posthaste::store::again::{self, Chosen, Kind, Selection, Way};
use posthaste::store::days::Day;
use posthaste::store::requeue::Last;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Receiver, Reply, Stack, eventually};
use crate::settle_agrees::{insert, rows, store};

/// A delivery that has ended, without the way there: of an event made so many minutes ago.
struct Ended<'a> {
    endpoint: Uuid,
    tenant: &'a str,
    event_type: &'a str,
    status: &'a str,
    code: Option<i32>,
    error: Option<&'a str>,
    minutes: i64,
}

impl Ended<'_> {
    async fn store(&self, stack: &Stack) -> Uuid {
        let created = Utc::now() - TimeDelta::minutes(self.minutes);
        let id = ids::new_v7(created.timestamp_millis() as u64, rand::random());
        let insert = "with e as (
               insert into posthaste.events (id, tenant, event_type, payload, created_at)
               values ($1, $2, $3, '{}', $4) returning id)
             insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at,
                    dead_reason, last_status_code, last_error, updated_at)
             select id, $5, $6, 1, 3, null, case $6 when 'dead' then 'exhausted' end, $7, $8, now() - interval '1 minute'
               from e";
        let insert = sqlx::query(insert).bind(id).bind(self.tenant).bind(self.event_type).bind(created);
        let insert = insert.bind(self.endpoint).bind(self.status).bind(self.code).bind(self.error);
        insert.execute(&stack.db).await.unwrap();
        id
    }
}

fn delivered(endpoint: Uuid) -> Ended<'static> {
    let (tenant, event_type) = ("acme", "order.created");
    Ended { endpoint, tenant, event_type, status: "delivered", code: Some(200), error: None, minutes: 10 }
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_under_its_id_as_a_new_series_of_attempts() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let event = stack.emit("acme", "order.created", r#"{ "n" : 1.0 }"#).await;
    stack.wait_status(event, "delivered").await;
    let id = event.to_string();
    let planned = stack.cli(&["resend", "--event", &id, "--dry-run", "--json"]).await.json();
    assert_eq!((&planned["matched"], &planned["resent"], &planned["number"]), (&json!(1), &json!(0), &json!(null)));
    assert_eq!(stack.number("select count(*) from posthaste.requeues").await, 0);

    let report = stack.cli(&["resend", "--event", &id, "--yes", "--json"]).await.json();

    assert_eq!((&report["matched"], &report["resent"]), (&json!(1), &json!(1)));
    let both = receiver.wait_for(2).await;
    assert_eq!((both[0].id(), &both[0].body), (both[1].id(), &both[1].body), "the same id, and the same bytes");
    assert_eq!([both[0].header("posthaste-attempt"), both[1].header("posthaste-attempt")], ["1", "2"]);
    eventually("it is delivered again", async || {
        let row = stack.delivery(event).await;
        (row.status == "delivered" && row.attempts == 2).then(|| assert_eq!(row.base_attempts, 1))
    })
    .await;
    let outcomes: Vec<String> = stack.attempts(event).await.into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, ["delivered", "delivered"], "the first series stays on record");
    let account = "select count(*) from posthaste.requeues
                    where kind = 'resend' and matched = 1 and requeued = 1 and finished_at is not null and error is null
                      and selection->'events'->>0 is not null";
    assert_eq!(stack.number(account).await, 1);
}

#[tokio::test]
async fn a_resend_that_was_killed_goes_on_by_its_number_and_sends_nothing_twice() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    stack.run().await;
    let mut events = BTreeSet::new();
    for minutes in 0..60 {
        events.insert(Ended { minutes: 1 + minutes, ..delivered(endpoint) }.store(&stack).await.to_string());
    }
    let first = stack.spawn_command(&["resend", "--tenant", "acme", "--yes", "--rate", "5"], &[]);
    receiver.wait_for(15).await;
    let other = stack.cli(&["requeue", "--all", "--yes"]).await;
    assert!(other.code == 1 && other.stderr.contains("another requeue is running"), "one at a time: {other:?}");
    assert!(first.is_running(), "it was not finished");
    first.kill();
    let number = stack.number("select max(id) from posthaste.requeues where kind = 'resend'").await.to_string();
    let go_on = ["resend", "--continue", &number, "--yes", "--json"];

    // The server may need a moment to notice that the first one is gone.
    let report = eventually("the next one may run", async || {
        let done = stack.cli(&go_on).await;
        (done.code == 0).then(|| done.json())
    })
    .await;

    let rest = report["matched"].as_u64().unwrap();
    assert!((1..46).contains(&rest), "{rest} were left");
    eventually("all are delivered again", async || {
        let again = "select count(*) from posthaste.deliveries where status = 'delivered' and attempts = 2 and base_attempts = 1";
        (stack.number(again).await == 60).then_some(())
    })
    .await;
    assert_eq!((receiver.counts().into_keys().collect::<BTreeSet<_>>(), receiver.count()), (events, 60));
    let over = stack.cli(&go_on).await;
    assert_eq!(over.code, 1);
    assert!(over.stderr.contains("has finished; nothing is left of it"), "{}", over.stderr);
    let unknown = stack.cli(&["resend", "--continue", "4711", "--yes"]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("there is no resend 4711"), "{unknown:?}");
}

/// One that was delivered, and five that died in different ways.
fn of_every_kind(one: Uuid, two: Uuid) -> [Ended<'static>; 6] {
    let dead = |endpoint| Ended { status: "dead", ..delivered(endpoint) };
    [
        Ended { tenant: "a", minutes: 180, code: Some(204), ..delivered(one) },
        Ended {
            tenant: "a",
            minutes: 120,
            event_type: "order.paid",
            code: Some(503),
            error: Some("status 503"),
            ..dead(one)
        },
        Ended { tenant: "b", minutes: 60, code: None, error: Some("time-out while connecting"), ..dead(two) },
        Ended {
            tenant: "b",
            minutes: 30,
            code: None,
            error: Some("time-out while reading the response body"),
            ..dead(two)
        },
        Ended { tenant: "b", minutes: 10, code: None, error: Some("connection refused"), ..dead(two) },
        Ended { tenant: "b", minutes: 10, code: Some(404), error: Some("status 404"), ..dead(two) },
    ]
}

#[tokio::test]
async fn conditions_take_exactly_what_they_name() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let one = stack.endpoint("a", "https://1.1.1.1/", &[]).await.id;
    let two = stack.endpoint("b", "https://1.1.1.1/", &[]).await.id;
    let mut events = Vec::new();
    for ended in of_every_kind(one, two) {
        events.push(ended.store(&stack).await);
    }
    delivered(Uuid::now_v7()).store(&stack).await;
    let (first, fourth, endpoint) = (events[0].to_string(), events[3].to_string(), one.to_string());
    let both: [(&[&str], &[usize]); 7] = [
        (&["--event", &first, "--event", &fourth], &[0, 3]),
        (&["--endpoint", &endpoint], &[0, 1]),
        (&["--tenant", "b"], &[2, 3, 4, 5]),
        (&["--event-type", "order.paid"], &[1]),
        (&["--since", "90m"], &[2, 3, 4, 5]),
        (&["--tenant", "b", "--until", "45m"], &[2]),
        (&["--all"], &[0, 1, 2, 3, 4, 5]),
    ];
    let last: [(&[&str], &[usize]); 5] = [
        (&["--status-code", "503"], &[1]),
        (&["--status-code", "503", "--status-code", "404"], &[1, 5]),
        (&["--error", "timeout"], &[2, 3]),
        (&["--error", "refused", "--status-code", "404"], &[4, 5]),
        (&["--error", "timeout", "--tenant", "a"], &[]),
    ];
    let resends: [(&[&str], &[usize]); 2] =
        [(&["--status", "delivered"], &[0]), (&["--status", "dead", "--endpoint", &endpoint], &[1])];
    let matched = async |command: &str, filter: &[&str]| {
        stack.cli(&[&[command, "--dry-run", "--json"], filter].concat()).await.json()["matched"].clone()
    };
    for (filter, meant) in both.iter().chain(&last).chain(&resends) {
        assert_eq!(matched("resend", filter).await, json!(meant.len()), "{filter:?}");
    }
    for (filter, meant) in last {
        assert_eq!(matched("requeue", filter).await, json!(meant.len()), "{filter:?}");
    }
    let all = stack.cli(&["resend", "--all", "--dry-run", "--json"]).await.json();
    assert_eq!(all["skipped_endpoint_removed"], json!(1), "there is nowhere to send it");
    let requeued = stack.cli(&["requeue", "--error", "timeout", "--yes", "--json"]).await.json();
    assert_eq!(requeued["requeued"], json!(2));
    let taken: BTreeSet<Uuid> =
        stack.deliveries().await.into_iter().filter(|d| d.status == "pending").map(|d| d.event_id).collect();
    assert_eq!(taken, [events[2], events[3]].into());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_nothing_is_sent_unasked() {
    let stack = Stack::new().await;
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let event = delivered(endpoint).store(&stack).await;
    let refusals: [(&[&str], &str); 5] = [
        (&["resend", "--yes"], "required arguments were not provided"),
        (&["retry-now", "--error", "bored"], "use one of timeout, dns"),
        (&["resend", "--status", "held"], "use delivered or dead"),
        (&["requeue", "--status-code", "1000"], "from 100 to 599"),
        (&["resend", "--all"], "Send again 1 deliveries? Nobody can be asked here: add --yes"),
    ];
    for (arguments, said) in refusals {
        let refused = stack.cli(arguments).await;
        assert!(refused.code == 64 && refused.stderr.contains(said), "{arguments:?}: {refused:?}");
    }
    assert_eq!(stack.delivery(event).await.status, "delivered");
}

#[tokio::test]
async fn a_dead_delivery_that_is_resent_loses_its_dead_letter_and_one_of_a_disabled_endpoint_is_held() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "dead").await;
    stack.dead_letters(1).await;
    receiver.at("/", |_| Reply::ok());
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();

    let report = stack.cli(&["resend", "--endpoint", &endpoint, "--yes", "--json"]).await.json();

    assert_eq!((&report["resent"], &report["letters"]["dropped"]), (&json!(1), &json!(1)));
    assert_eq!(stack.delivery(event).await.status, "held");
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    stack.wait_status(event, "delivered").await;
    assert_eq!(stack.depth("dead").await, 0);
}

#[tokio::test]
async fn what_waits_for_its_retry_is_tried_at_once_and_the_copy_in_the_delay_queue_changes_nothing() {
    let stack = Stack::with(&[("retry.schedule", r#"["1h"]"#)]).await;
    let receiver = Receiver::start();
    receiver.at("/", |n| if n == 1 { Reply::status(503) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    let waiting = stack.wait_status(event, "retrying").await;
    stack.wait_depth("delay.3600000", 1).await;
    for filter in [&["--tenant", "other"][..], &["--error", "timeout"], &["--until", "2h"]] {
        let none = stack.cli(&[&["retry-now", "--dry-run", "--json"], filter].concat()).await.json();
        assert_eq!(none["matched"], json!(0), "{filter:?}");
    }

    let report = stack.cli(&["retry-now", "--status-code", "503", "--yes", "--json"]).await.json();

    assert_eq!((&report["matched"], &report["retried"]), (&json!(1), &json!(1)));
    let row = stack.wait_status(event, "delivered").await;
    assert_eq!((row.attempts, row.base_attempts, row.max_attempts), (2, 0, waiting.max_attempts));
    // An hour later.
    let copy = stack.take("delay.3600000").await;
    stack.publish("retry", copy, b"{}").await;
    stack.wait_depth("retry", 0).await;
    let after = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(after, "retrying").await;
    assert_eq!((stack.delivery(event).await, receiver.counts()[&event.to_string()]), (row, 2));
    let kind = "select count(*) from posthaste.requeues where kind = 'retry_now' and requeued = 1";
    assert_eq!(stack.number(kind).await, 1);
}

#[tokio::test]
async fn what_is_held_until_later_is_due_and_resuming_the_endpoint_sends_it() {
    let stack = Stack::with(&[("retry.max_pause", "1h")]).await;
    let receiver = Receiver::start();
    receiver.at("/", |n| if n == 1 { Reply::status(503).header("retry-after", 1800) } else { Reply::ok() });
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    let held = stack.wait_status(event, "held").await;
    assert!(held.next_attempt_at.unwrap() > Utc::now() + TimeDelta::minutes(20));

    let report = stack.cli(&["retry-now", "--endpoint", &endpoint, "--yes", "--json"]).await.json();

    assert_eq!(report["retried"], json!(1));
    let due = stack.delivery(event).await;
    assert_eq!((due.status.as_str(), due.attempts), ("held", 1), "the endpoint has asked for a pause");
    assert!(due.next_attempt_at.unwrap() <= Utc::now() + TimeDelta::seconds(1));
    stack.cli(&["endpoint", "resume", &endpoint]).await.ok();
    stack.wait_status(event, "delivered").await;
}

fn selection(kind: Kind, start: DateTime<Utc>) -> Selection {
    Selection {
        kind,
        events: Vec::new(),
        endpoint: None,
        tenant: None,
        event_type: None,
        status: None,
        last: Last::default(),
        from: Uuid::nil(),
        to: Uuid::max(),
        start,
    }
}

#[tokio::test]
async fn granting_in_sql_agrees_with_the_domain() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let all = rows();
    for (kind, rule) in [
        (Kind::Resend, domain::resend as fn(&Row) -> Option<Row>),
        (Kind::RetryNow, domain::retry_now as fn(&Row) -> Option<Row>),
    ] {
        // Ids carry the time in milliseconds, and the clock sends no signal.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let keys = insert(&stack, endpoint, &all).await;
        let day = Day::of(keys[0].event_id);
        let chosen: Vec<Chosen> = keys.iter().map(|key| Chosen { key: *key, behind: false }).collect();
        let too_early = selection(kind, Utc::now() - TimeDelta::hours(2));
        let none = again::grant(&db, 17, &too_early, day, &chosen).await.unwrap();
        assert_eq!((none.deliveries, none.batch.id), (0, None), "all have changed since");

        let made = again::grant(&db, 17, &selection(kind, Utc::now()), day, &chosen).await.unwrap();

        let now: Vec<Row> =
            posthaste::store::deliveries::read(&db, &keys).await.unwrap().into_iter().map(|s| s.row).collect();
        let count = |rows: &[Row], status| rows.iter().filter(|row| row.status == status).count();
        let expected: Vec<Row> = all.iter().map(|row| rule(row).unwrap_or(*row)).collect();
        for status in Status::ALL {
            assert_eq!(count(&now, status), count(&expected, status), "{kind:?} {status:?}");
        }
        let bare = |row: &Row| (row.status, row.attempts, row.base_attempts, row.max_attempts, row.dead_reason);
        let sorted = |rows: &[Row]| {
            let mut bare: Vec<_> = rows.iter().map(bare).collect();
            bare.sort();
            bare
        };
        assert_eq!(sorted(&now), sorted(&expected), "{kind:?}");
        let published = all.iter().filter_map(rule).filter(|row| row.status == Status::Pending).count();
        assert_eq!(made.batch.messages.len(), published, "{kind:?}");
        assert!(made.batch.messages.iter().all(|m| kind == Kind::RetryNow || m.attempt == m.base_attempts + 1));
    }
}

#[tokio::test]
async fn each_statement_looks_at_a_bounded_part_and_goes_on_where_it_stopped() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let mut keys = BTreeSet::new();
    for _ in 0..25 {
        keys.insert(DeliveryKey { event_id: delivered(endpoint).store(&stack).await, endpoint_id: endpoint });
    }
    for _ in 0..10 {
        Ended { tenant: "other", ..delivered(endpoint) }.store(&stack).await;
    }
    let day = Day::of(keys.first().unwrap().event_id);
    let meant = Selection { tenant: Some("acme".into()), ..selection(Kind::Resend, Utc::now()) };
    let of_one = Selection { endpoint: Some(endpoint), ..meant.clone() };
    for (selection, way) in [(&meant, Way::Deliveries), (&of_one, Way::Events)] {
        assert_eq!(selection.ways(), [way]);
        let (mut after, mut found) = (Some(selection.beginning()), Vec::new());
        while let Some(position) = after {
            let page = again::find(&db, selection, way, day, position, 10).await.unwrap();
            assert!(page.candidates.len() <= 10);
            found.extend(page.candidates.iter().map(|candidate| candidate.key));
            after = page.next;
        }
        assert_eq!(found.len(), 25, "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    }
}
