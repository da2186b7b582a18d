//! One round: so many events are committed at once, and timed until all of their deliveries are settled.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgPool;
use uuid::Uuid;

use crate::isolation::cpu::Cpu;
use crate::isolation::endpoints::{self, New};
use crate::isolation::peaks::{Peaks, watched};
use crate::isolation::receiver::{Manner, Site};
use crate::isolation::stack::Stack;
use crate::isolation::usage;
use crate::wait_for;

pub const PATIENCE: Duration = Duration::from_secs(600);
pub const KIB: usize = 1024;
pub const WARM_UP: usize = 3_000;
const TYPE: &str = "order.created";
/// No statement carries more than this of payloads.
const BYTES_OF_A_COMMIT: usize = 64 << 20;

/// Who gets what in a round.
pub struct Work<'a> {
    /// Events go to them in turn.
    pub tenants: &'a [String],
    pub sites: &'a [Arc<Site>],
    pub events: usize,
    /// Deliveries of an event.
    pub each: usize,
    pub bytes: usize,
}

/// What a round has come to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub deliveries: f64,
    pub seconds: f64,
    /// Microseconds a delivery.
    pub cpu: Cpu,
    /// Percent of the machine.
    pub busy: f64,
    pub peaks: Peaks,
}

impl Round {
    pub fn new(deliveries: usize, seconds: f64, used: Cpu, elapsed: f64, peaks: Peaks) -> Round {
        let cores = usage::load().1 as f64;
        Round {
            deliveries: deliveries as f64,
            seconds,
            cpu: used.scaled(1e6 / deliveries as f64),
            busy: (used.all() + used.program) / elapsed / cores * 100.0,
            peaks,
        }
    }
}

/// What was so when the time began.
pub struct Since {
    began: Instant,
    at: f64,
    cpu: Cpu,
}

impl Since {
    pub fn now(stack: &Stack) -> Since {
        Since { began: Instant::now(), at: unix_seconds(), cpu: stack.cpu() }
    }

    /// Waits until so many deliveries more than `before` have been accepted, and all are settled. The time ends with the last
    /// settlement of an event from `first` on, by PostgreSQL's clock, which is the one of this machine: no question that is
    /// asked now and then is part of it.
    pub async fn until_settled(
        self,
        stack: &Stack,
        (sites, before): (&[Arc<Site>], usize),
        first: Uuid,
        deliveries: usize,
    ) -> Result<Round, String> {
        let settled = async {
            let come = async || (accepted(sites) - before >= deliveries).then_some(());
            wait_for("all requests", PATIENCE, come).await?;
            stack.settled(PATIENCE).await
        };
        let (done, peaks) = watched(stack, settled).await;
        done?;
        let (elapsed, used) = (self.began.elapsed().as_secs_f64(), stack.cpu() - self.cpu);
        let seconds = last_settled(&stack.db, first).await? - self.at;
        Ok(Round::new(deliveries, seconds, used, elapsed, peaks))
    }
}

/// Commits all, and waits until all are settled.
pub async fn drained(stack: &Stack, work: &Work<'_>) -> Result<Round, String> {
    let (deliveries, before) = (work.events * work.each, accepted(work.sites));
    for site in work.sites {
        site.arrivals().clear();
        site.expect(deliveries / work.sites.len() + 1);
    }
    let first = floor_id(&stack.db).await?;
    commit(&stack.db, work).await?;
    Since::now(stack).until_settled(stack, (work.sites, before), first, deliveries).await
}

pub fn accepted(sites: &[Arc<Site>]) -> usize {
    sites.iter().map(|site| site.acceptances()).sum()
}

/// All events, in as few transactions as their size allows.
pub async fn commit(db: &PgPool, work: &Work<'_>) -> Result<(), String> {
    let insert = "insert into posthaste.outbox (tenant, event_type, payload)
                  select ($1::text[])[1 + number % $2], $3, $4::text::json from generate_series($5, $6 - 1) as number";
    let payload = payload(work.bytes);
    let together = (BYTES_OF_A_COMMIT / work.bytes.max(1)).max(1);
    for from in (0..work.events).step_by(together) {
        let until = (from + together).min(work.events);
        let insert = sqlx::query(insert).bind(work.tenants).bind(work.tenants.len() as i32).bind(TYPE).bind(&payload);
        insert.bind(from as i32).bind(until as i32).execute(db).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// JSON of so many bytes that no compression makes smaller by much, as repeated letters would be.
pub fn payload(bytes: usize) -> String {
    let frame = r#"{"data":""}"#;
    let fill = bytes.saturating_sub(frame.len());
    let random: Vec<u8> = (0..fill / 4 * 3 + 3).map(|_| rand::random()).collect();
    let mut text = STANDARD.encode(random);
    text.truncate(fill);
    format!(r#"{{"data":"{text}"}}"#)
}

/// No event that is committed from now on has a smaller id.
pub async fn floor_id(db: &PgPool) -> Result<Uuid, String> {
    let floor = sqlx::query_scalar("select posthaste.uuid_v7_floor(now())").fetch_one(db).await;
    floor.map_err(|error| error.to_string())
}

/// When the last delivery was settled, in Unix seconds.
pub async fn last_settled(db: &PgPool, first: Uuid) -> Result<f64, String> {
    let last = "select extract(epoch from max(updated_at))::float8 from posthaste.deliveries where event_id >= $1";
    sqlx::query_scalar(last).bind(first).fetch_one(db).await.map_err(|error| error.to_string())
}

pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Endpoints of one tenant, each at an address of its own.
pub async fn subscribers(stack: &Stack, tenant: &str, count: usize, manner: Manner) -> Result<Vec<Arc<Site>>, String> {
    let sites = (0..count).map(|_| stack.site(manner)).collect::<Result<Vec<_>, _>>()?;
    let new: Vec<New> = sites.iter().map(|site| New::enabled(tenant, site.url())).collect();
    endpoints::add(&stack.db, &new).await?;
    Ok(sites)
}

/// Tenants with one endpoint each. So many have an address of their own; the others share these.
pub async fn tenants(
    stack: &Stack,
    name: &str,
    count: usize,
    addresses: usize,
) -> Result<(Vec<String>, Vec<Arc<Site>>), String> {
    let sites = (0..count.min(addresses)).map(|_| stack.site(Manner::Accept(0))).collect::<Result<Vec<_>, _>>()?;
    let tenants: Vec<String> = (1..=count).map(|number| format!("{name}-{number}")).collect();
    let new = |(number, tenant): (usize, &String)| New::enabled(tenant, sites[number % sites.len()].url());
    let new: Vec<New> = tenants.iter().enumerate().map(new).collect();
    endpoints::add(&stack.db, &new).await?;
    Ok((tenants, sites))
}
