//! What is lost exists twice as well: as a pure function, which the model checks, and as SQL.

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use posthaste::domain::delivery::Status;
use posthaste::domain::reconcile::{Marker, is_lost, proof};
use posthaste::store::markers;
use posthaste::store::reconcile::{self, Proofs};
use uuid::Uuid;

use crate::harness::Stack;
use crate::settle_agrees::{insert, rows, store};

const ALL: i64 = 100_000;
const RELAY: i64 = 17;

/// A few moments around the slack, in milliseconds after the moment that markers prove.
const DUE_MS: [i64; 7] = [-3_600_000, -5_002, -5_001, -5_000, -4_999, 0, 3_600_000];

struct Case {
    event: Uuid,
    status: Status,
    attempts: i32,
    due_ms: i64,
}

async fn cases(stack: &Stack, moment: DateTime<Utc>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (endpoint, due_ms) in DUE_MS.into_iter().enumerate() {
        let rows = rows();
        let keys = insert(stack, Uuid::from_u128(endpoint as u128 + 1), &rows).await;
        let due = "update posthaste.deliveries set next_attempt_at = $2
            where endpoint_id = $1 and next_attempt_at is not null";
        let due = sqlx::query(due).bind(keys[0].endpoint_id).bind(moment + TimeDelta::milliseconds(due_ms));
        due.execute(&stack.db).await.unwrap();
        cases.extend(keys.iter().zip(&rows).map(|(key, row)| Case {
            event: key.event_id,
            status: row.status,
            attempts: row.attempts,
            due_ms: moment.timestamp_millis() + due_ms,
        }));
    }
    cases
}

fn lost(cases: &[Case], proofs: Proofs) -> BTreeSet<Uuid> {
    let [retry, deliver] = [proofs.retry, proofs.deliver].map(|proof| proof.map(|time| time.timestamp_millis()));
    let unfinished = |case: &&Case| matches!(case.status, Status::Pending | Status::Retrying);
    let lost = |case: &&Case| is_lost(case.attempts, case.due_ms, retry, deliver);
    cases.iter().filter(unfinished).filter(lost).map(|case| case.event).collect()
}

#[tokio::test]
async fn what_is_lost_in_sql_agrees_with_the_domain_on_every_small_state() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let moment = Utc::now().trunc_subsecs(3);
    let cases = cases(&stack, moment).await;
    let proven = [None, Some(-7_200_000), Some(-1), Some(0), Some(1)]
        .map(|ms| ms.map(|ms| moment + TimeDelta::milliseconds(ms)));
    let mut sizes = BTreeSet::new();
    for retry in proven {
        for deliver in proven {
            let proofs = Proofs { retry, deliver };
            let expected = lost(&cases, proofs);
            let listed = reconcile::list(&db, proofs, ALL).await.unwrap();
            assert_eq!(listed.iter().map(|lost| lost.event_id).collect::<BTreeSet<_>>(), expected, "{proofs:?}");
            assert_eq!(reconcile::count(&db, proofs).await.unwrap(), expected.len() as i64, "{proofs:?}");
            sizes.insert(expected.len());
        }
    }
    assert!(sizes.len() > 4, "the cases tell little apart: {sizes:?}");
    let proofs = Proofs { retry: proven[3], deliver: proven[3] };
    let before = Utc::now();

    let batch = reconcile::republish(&db, RELAY, proofs, ALL).await.unwrap();

    let expected = lost(&cases, proofs);
    let published: BTreeSet<Uuid> = batch.messages.iter().map(|message| message.event_id).collect();
    assert!(batch.id.is_some() && published == expected);
    for message in &batch.messages {
        let case = cases.iter().find(|case| case.event == message.event_id).unwrap();
        assert_eq!(message.attempt, case.attempts + 1);
    }
    for row in stack.deliveries().await {
        let is_due_now =
            row.next_attempt_at.is_some_and(|due| due > before - TimeDelta::minutes(1) && due < Utc::now());
        assert!(!expected.contains(&row.event_id) || is_due_now, "{row:?}");
    }
    assert!(reconcile::republish(&db, RELAY, proofs, ALL).await.unwrap().id.is_none(), "they are on their way now");
}

#[tokio::test]
async fn the_proof_of_markers_in_sql_agrees_with_the_domain() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let now = markers::now(&db).await.unwrap().trunc_subsecs(3);
    // Recorded half a minute apart from every grace, so that the time that the test takes does not matter.
    let recorded = [(-600, -570), (-500, -90), (-400, -330), (-300, -30), (-50, -50)];
    for (published, recorded) in recorded {
        let insert = "insert into posthaste.markers (queue, published_at, recorded_at) values ('retry', $1, $2)";
        let at = |seconds: i64| now + TimeDelta::seconds(seconds);
        sqlx::query(insert).bind(at(published)).bind(at(recorded)).execute(&stack.db).await.unwrap();
    }
    let known: Vec<Marker> = recorded
        .iter()
        .map(|(published, recorded)| Marker { published_ms: published * 1_000, recorded_ms: recorded * 1_000 })
        .collect();
    for grace in [0, 60, 120, 300, 360, 540, 660].map(std::time::Duration::from_secs) {
        let expected = proof(&known, 0, grace).map(|ms| now + TimeDelta::milliseconds(ms));
        assert_eq!(markers::proof(&db, "retry", grace).await.unwrap(), expected, "a grace of {grace:?}");
        assert_eq!(markers::proof(&db, "deliver", grace).await.unwrap(), None, "a marker of the other queue");
    }
}
