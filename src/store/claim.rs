//! The claim: one statement moves a batch from the outbox to the record and fans it out to the matching endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use sqlx::AssertSqlSafe;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::claim_sql::{OF_EVERYONE, OF_FEW, OF_KNOWN, OF_ONE};
use super::{Db, Result, due};
use crate::domain::message::Message;
use crate::domain::turns::{Ask, Found, From, TURN, Taken};

/// The most that one claim takes: bytes of payloads, and deliveries made of them. One row is always taken.
const BYTES: i64 = 32 * 1024 * 1024;
const DELIVERIES: i64 = 2_000;
/// Pairs of a type of event and an endpoint of its tenant that one claim compares. One row is always compared with all.
const PAIRS: i64 = 20_000;

/// The persisted ceiling of attempts is the lower of emit's and the policy's, so the claim needs every policy's.
#[derive(Debug, Clone)]
pub struct Ceilings {
    pub default: i32,
    pub names: Vec<String>,
    pub values: Vec<i32>,
}

/// What one relay asks for, beside whose turn it is.
pub struct Claim<'a> {
    pub relay: i64,
    pub ask: &'a Ask,
    /// Tenants of which nothing is taken.
    pub without: &'a [String],
    pub ceilings: &'a Ceilings,
    /// Batches that the broker has confirmed: they are forgotten.
    pub confirmed: &'a [i64],
    /// Endpoints that are behind: their deliveries are written as held, after those that wait already.
    pub behind: &'a [Uuid],
}

/// What one claim moved.
#[derive(Debug, Default)]
pub struct Batch {
    /// The row in `relay_batches` that lists the batch until the broker has confirmed all of it.
    pub id: Option<i64>,
    pub events: usize,
    pub found: Found,
    /// Events that no endpoint matched: recorded, with nothing to publish.
    pub unmatched: usize,
    /// Rows whose id an earlier event had already used: kept in `set_aside`.
    pub set_aside: usize,
    /// The first attempts to publish, ordered by event id.
    pub messages: Vec<Message>,
}

/// Every line tells what the claim found; without a row it is the only one.
#[derive(FromRow)]
struct Line {
    last: Option<String>,
    clock_ms: i64,
    batch_id: Option<i64>,
    id: Option<Uuid>,
    #[sqlx(flatten)]
    row: Claimed,
}

#[derive(FromRow)]
struct Claimed {
    tenant: Option<String>,
    place: Option<i64>,
    event_type: Option<String>,
    payload: Option<String>,
    payload_bytes: Option<i64>,
    traceparent: Option<String>,
    recorded: Option<bool>,
    matched: Option<i32>,
    endpoint_ids: Option<Vec<Uuid>>,
    ceilings: Option<Vec<i32>>,
}

/// The values of a statement, in their order.
macro_rules! bound {
    ($query:expr, $claim:expr) => {{
        let (after, tenants, ids) = values(&$claim.ask.from);
        $query
            .bind(after)
            .bind($claim.without)
            .bind(i64::from($claim.ask.tenants))
            .bind(number($claim.ask.alone))
            .bind(number($claim.ask.each))
            .bind(number($claim.ask.together))
            .bind(number(TURN))
            .bind(BYTES)
            .bind(PAIRS)
            .bind($claim.ceilings.default)
            .bind(&$claim.ceilings.names)
            .bind($claim.confirmed)
            .bind(DELIVERIES)
            .bind($claim.relay)
            .bind(tenants)
            .bind(ids)
            .bind($claim.behind)
            .bind(&$claim.ceilings.values)
    }};
}

/// Claims what is asked for, and forgets the batches that the broker has confirmed since.
pub async fn claim(db: &Db, claim: Claim<'_>) -> Result<Batch> {
    let claimed_ms = Utc::now().timestamp_millis();
    let statement = statement(&claim.ask.from);
    let lines: Vec<Line> = db.run(async |c| bound!(sqlx::query_as(statement), claim).fetch_all(c).await).await?;
    Ok(batch_of(lines, claimed_ms))
}

/// How the database carries a claim out, with the rows that each step has read. For tests: like any other claim it moves
/// what it finds.
pub async fn explain(db: &Db, claim: Claim<'_>) -> Result<Vec<String>> {
    let explain = format!("explain (analyze, costs off, timing off) {}", statement(&claim.ask.from));
    db.run(async |c| bound!(sqlx::query_scalar(AssertSqlSafe(explain.as_str())), claim).fetch_all(c).await).await
}

fn statement(from: &From) -> &'static str {
    match from {
        From::Everyone { .. } => OF_EVERYONE,
        From::Known(_) => OF_KNOWN,
        From::Row(_) => OF_ONE,
        From::Few(_) => OF_FEW,
    }
}

/// The tenant after which a scan begins; the tenants asked for, and their bounds; or ids of rows.
fn values(from: &From) -> (&str, Vec<&str>, Vec<Uuid>) {
    let known = match from {
        From::Everyone { after } => return (after, Vec::new(), Vec::new()),
        From::Few(ids) => return ("", Vec::new(), ids.clone()),
        From::Known(known) => known.as_slice(),
        From::Row(row) => std::slice::from_ref(row),
    };
    let (tenants, bounds) = known.iter().map(|(tenant, bound)| (tenant.as_str(), *bound)).unzip();
    ("", tenants, bounds)
}

fn number(value: u32) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn batch_of(lines: Vec<Line>, claimed_ms: i64) -> Batch {
    let mut batch = Batch::default();
    if let Some(line) = lines.first() {
        batch.id = line.batch_id;
        batch.found.last = line.last.clone();
        batch.found.clock_ms = line.clock_ms;
    }
    // The rows come back in the order of the heap; the broker shall get them in the order of their ids.
    let ordered: BTreeMap<Uuid, Claimed> = lines.into_iter().filter_map(|line| Some((line.id?, line.row))).collect();
    batch.events = ordered.len();
    batch.found.taken = taken(&ordered);
    for (id, row) in ordered {
        let recorded = row.recorded.unwrap_or_default();
        let matched = row.matched.unwrap_or_default();
        batch.found.deliveries += matched.max(0) as usize;
        batch.unmatched += usize::from(recorded && matched == 0);
        batch.set_aside += usize::from(!recorded);
        batch.messages.extend(first_attempts(id, row, claimed_ms));
    }
    batch
}

fn taken(rows: &BTreeMap<Uuid, Claimed>) -> Vec<Taken> {
    // A claim that does not choose has no places.
    let mut by_place: BTreeMap<(Option<i64>, &str), Taken> = BTreeMap::new();
    for (id, row) in rows {
        let Some(tenant) = &row.tenant else { continue };
        let new = || Taken { tenant: tenant.clone(), rows: 0, highest: *id };
        let taken = by_place.entry((row.place, tenant)).or_insert_with(new);
        taken.rows += 1;
        taken.highest = *id;
    }
    by_place.into_values().collect()
}

fn first_attempts(event_id: Uuid, row: Claimed, claimed_ms: i64) -> impl Iterator<Item = Message> {
    let body = due::body(row.payload, row.payload_bytes);
    let (tenant, event_type): (Arc<str>, Arc<str>) =
        (row.tenant.unwrap_or_default().into(), row.event_type.unwrap_or_default().into());
    let traceparent: Option<Arc<str>> = row.traceparent.map(Into::into);
    let endpoints = row.endpoint_ids.unwrap_or_default();
    endpoints.into_iter().zip(row.ceilings.unwrap_or_default()).map(move |(endpoint_id, max_attempts)| Message {
        event_id,
        endpoint_id,
        tenant: tenant.clone(),
        event_type: event_type.clone(),
        body: body.clone(),
        attempt: 1,
        max_attempts,
        base_attempts: 0,
        traceparent: traceparent.clone(),
        claimed_ms: Some(claimed_ms),
    })
}
