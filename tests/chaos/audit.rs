//! Three accounts of the same events, compared: the producers' ledger, the receiver's record, the database.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::TryStreamExt;
use serde::Serialize;
use uuid::Uuid;

use crate::chaos::ledger::{Books, TYPES};
use crate::chaos::receiver::Notes;
use crate::chaos::schedule::ENDPOINTS;
use crate::chaos::stack::Stack;

const STATUSES: [&str; 5] = ["pending", "retrying", "held", "delivered", "dead"];
/// Examples of each kind of finding that are kept.
const EXAMPLES: usize = 5;

#[derive(Debug, Default, Serialize)]
pub struct Findings {
    pub events: u64,
    /// An event times the endpoints that take it.
    pub deliveries: u64,
    /// Committed, never accepted by the receiver, and not standing as dead or held either.
    pub lost: u64,
    /// Committed and not accepted, but visibly dead or held.
    pub parked: u64,
    /// Received without ever having been committed.
    pub phantom: u64,
    /// Received by an endpoint that the event was not meant for.
    pub misdirected: u64,
    /// The body differs from what the producer wrote.
    pub altered: u64,
    /// Accepted, but not delivered according to the database.
    pub unrecorded: u64,
    /// The ledger and the table of events disagree.
    pub unexplained: u64,
    /// Requests whose signature did not verify.
    pub bad_signatures: u64,
    pub doubled_keys: u64,
    /// Rows that are left in the outbox, in relay_batches, or set aside.
    pub left_over: u64,
    pub deliveries_by_status: BTreeMap<&'static str, u64>,
    /// Requests that the database knows of, and those among them that failed although no receiver was told to fail.
    pub attempts: u64,
    pub attempts_spent_on_our_faults: u64,
    pub examples: Vec<String>,
}

/// The database's account.
struct Rows {
    events: HashSet<Uuid>,
    statuses: HashMap<(Uuid, usize), &'static str>,
    left_over: u64,
    attempts: u64,
    retries: HashMap<(Uuid, usize), u32>,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        let wrong = [
            self.lost,
            self.parked,
            self.phantom,
            self.misdirected,
            self.altered,
            self.unrecorded,
            self.unexplained,
            self.bad_signatures,
            self.doubled_keys,
            self.left_over,
            self.attempts_spent_on_our_faults,
        ];
        wrong.iter().all(|count| *count == 0)
    }

    fn example(&mut self, count: u64, text: impl FnOnce() -> String) {
        if count < EXAMPLES as u64 {
            self.examples.push(text());
        }
    }
}

/// After everything has drained and every process has stopped.
pub async fn audit(stack: &Stack, books: &Books, notes: &Notes) -> sqlx::Result<Findings> {
    let rows = read(stack).await?;
    let mut findings = Findings {
        events: books.committed.len() as u64,
        bad_signatures: notes.bad.len() as u64,
        doubled_keys: books.doubled_keys.len() as u64,
        left_over: rows.left_over,
        attempts: rows.attempts,
        ..Findings::default()
    };
    findings.examples.extend(notes.bad.iter().chain(&books.doubled_keys).take(EXAMPLES).cloned());
    for status in rows.statuses.values() {
        *findings.deliveries_by_status.entry(status).or_default() += 1;
    }
    of_committed(&mut findings, books, notes, &rows);
    of_received(&mut findings, books, notes);
    of_recorded(&mut findings, books, notes, &rows);
    Ok(findings)
}

fn of_committed(findings: &mut Findings, books: &Books, notes: &Notes, rows: &Rows) {
    for (id, committed) in &books.committed {
        for endpoint in (0..ENDPOINTS).filter(|endpoint| TYPES[committed.event_type].1[*endpoint]) {
            findings.deliveries += 1;
            let key = (*id, endpoint);
            let status = rows.statuses.get(&key).copied();
            if notes.records.get(&key).is_none_or(|record| record.accepted == 0) {
                if matches!(status, Some("dead" | "held")) {
                    findings.parked += 1;
                } else {
                    findings.example(findings.lost, || format!("lost: {id} at endpoint {endpoint}, {status:?}"));
                    findings.lost += 1;
                }
            } else if status != Some("delivered") {
                findings
                    .example(findings.unrecorded, || format!("unrecorded: {id} at endpoint {endpoint}, {status:?}"));
                findings.unrecorded += 1;
            }
        }
    }
}

fn of_received(findings: &mut Findings, books: &Books, notes: &Notes) {
    for ((id, endpoint), record) in notes.records.iter().filter(|((id, _), _)| !books.lost.contains(id)) {
        let Some(committed) = books.committed.get(id) else {
            let known = if books.never.contains(id) { "rolled back" } else { "unknown" };
            findings.example(findings.phantom, || format!("phantom: {id} at endpoint {endpoint}, {known}"));
            findings.phantom += 1;
            continue;
        };
        if !TYPES[committed.event_type].1[*endpoint] {
            findings.misdirected += 1;
        }
        if record.differs || record.fingerprint != committed.fingerprint {
            findings.example(findings.altered, || format!("altered: {id} at endpoint {endpoint}"));
            findings.altered += 1;
        }
    }
}

/// Nothing may be among the events that nobody committed, and nothing that was committed may be missing there.
fn of_recorded(findings: &mut Findings, books: &Books, notes: &Notes, rows: &Rows) {
    let missing = books.committed.keys().filter(|id| !rows.events.contains(id));
    let strange = rows.events.iter().filter(|id| !books.committed.contains_key(id));
    let unexplained: Vec<String> = missing
        .map(|id| format!("committed and not among the events: {id}"))
        .chain(strange.map(|id| format!("among the events and not committed: {id}")))
        .collect();
    findings.unexplained = unexplained.len() as u64;
    findings.examples.extend(unexplained.into_iter().take(EXAMPLES));
    let caused = |key: &(Uuid, usize)| notes.records.get(key).map_or(0, |record| record.refused + record.excused);
    // A service that is not ours to look into fails as often as it likes.
    let ours = rows.retries.iter().filter(|((_, endpoint), _)| *endpoint < ENDPOINTS);
    let spent = ours.map(|(key, retries)| u64::from(retries.saturating_sub(caused(key))));
    findings.attempts_spent_on_our_faults = spent.sum();
}

async fn read(stack: &Stack) -> sqlx::Result<Rows> {
    let number = |endpoint: Uuid| stack.number_of(endpoint).unwrap_or(ENDPOINTS);
    // Row by row: there may be millions.
    let events =
        sqlx::query_scalar::<_, Uuid>("select id from posthaste.events").fetch(&stack.db).try_collect().await?;
    let deliveries = "select event_id, endpoint_id, status from posthaste.deliveries";
    let deliveries =
        sqlx::query_as(deliveries).fetch(&stack.db).map_ok(|(event, endpoint, status): (Uuid, Uuid, String)| {
            let status = STATUSES.into_iter().find(|known| *known == status).unwrap_or("?");
            ((event, number(endpoint)), status)
        });
    let statuses = deliveries.try_collect().await?;
    let left_over = "select (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)
        + (select count(*) from posthaste.set_aside)";
    let left_over: i64 = sqlx::query_scalar(left_over).fetch_one(&stack.db).await?;
    let attempts: i64 = sqlx::query_scalar("select count(*) from posthaste.attempts").fetch_one(&stack.db).await?;
    let retries =
        "select event_id, endpoint_id, count(*) from posthaste.attempts where outcome <> 'delivered' group by 1, 2";
    let retries: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(retries).fetch_all(&stack.db).await?;
    let retries = retries.into_iter().map(|(event, endpoint, count)| ((event, number(endpoint)), count as u32));
    Ok(Rows { events, statuses, left_over: left_over as u64, attempts: attempts as u64, retries: retries.collect() })
}
