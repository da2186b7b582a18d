//! Another session keeps a snapshot open for the whole run, so no row that leaves the outbox can be cleaned up. Claims must
//! stay as fast as they were, and looking into an empty outbox cheap.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::chaos::kind::Role;
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::{Running, unfinished};

const STATISTICS: &[&str] = &["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=10000"];
/// The run is looked at in so many parts.
const PARTS: u64 = 10;
/// The last claims may take so many times what the first ones took.
const SLOWER: f64 = 2.0;
/// While nothing happens, claims may take so much of the database in a second.
const POLLING_MS: f64 = 100.0;
const IDLE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the database has spent on claims so far.
#[derive(Debug, Clone, Copy, Default, sqlx_macros::FromRow)]
struct Spent {
    calls: i64,
    milliseconds: f64,
    rows: i64,
}

impl Spent {
    fn since(self, before: Spent) -> Spent {
        Spent {
            calls: self.calls - before.calls,
            milliseconds: self.milliseconds - before.milliseconds,
            rows: self.rows - before.rows,
        }
    }

    fn per_event_us(self) -> f64 {
        self.milliseconds * 1_000.0 / self.rows.max(1) as f64
    }

    fn per_call_ms(self) -> f64 {
        self.milliseconds / self.calls.max(1) as f64
    }
}

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let running = Running::start(dir, Vec::new(), STATISTICS, options.seed()).await?;
    let stack = &running.stack;
    stack.receiver.take_time((0, 2));
    let holder = hold_snapshot(&stack.database_url).await.map_err(|error| error.to_string())?;
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    let mut parts = Vec::new();
    let mut before = Spent::default();
    for part in 1..=PARTS {
        while running.ledger.committed() < options.events() * part / PARTS {
            // The ledger grows with every commit; nobody needs to be told.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let now = spent(&running).await.map_err(|error| error.to_string())?;
        let of_part = now.since(before);
        eprintln!("part {part}: {:.0} us per event, {:.2} ms per claim", of_part.per_event_us(), of_part.per_call_ms());
        parts.push(of_part);
        before = now;
    }
    producing.finish().await?;
    let idle = idle(&running).await?;
    holder.close().await.map_err(|error| error.to_string())?;
    parts.retain(|part| part.rows > 0);
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Err("no event was claimed".to_owned());
    };
    // By claim, not by event: how many events a claim finds depends on what else the machine does.
    let (first, last) = (first.per_call_ms(), last.per_call_ms());
    let measured = BTreeMap::from([
        ("claims, first tenth and last", format!("{first:.2} and {last:.2} ms of the database per claim")),
        ("idle, with the snapshot", format!("{:.1} claims a second, {:.2} ms each", idle.0, idle.1)),
    ]);
    let mut report = running.end("snapshot", Vec::new(), measured).await?;
    if last > first * SLOWER {
        report.problems.push(format!("the last claims took {:.1} times what the first took", last / first));
    }
    let polling_ms = idle.0 * idle.1;
    if polling_ms > POLLING_MS {
        report.problems.push(format!("looking into an empty outbox took {polling_ms:.0} ms of each second"));
    }
    Ok(report)
}

async fn hold_snapshot(url: &str) -> sqlx::Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("create extension pg_stat_statements").execute(&mut connection).await?;
    let snapshot = "begin isolation level repeatable read; select count(*) from posthaste.outbox";
    sqlx::raw_sql(snapshot).execute(&mut connection).await?;
    Ok(connection)
}

async fn spent(running: &Running) -> sqlx::Result<Spent> {
    let claims =
        "select coalesce(sum(calls), 0)::int8 as calls, coalesce(sum(total_exec_time), 0)::float8 as milliseconds,
            coalesce(sum(rows), 0)::int8 as rows
        from pg_stat_statements where query like '%delete from posthaste.outbox%' and query not like '%pg_stat%'";
    sqlx::query_as(claims).fetch_one(&running.stack.db).await
}

/// Claims per second and milliseconds of each, once everything is delivered and nothing is committed any more.
async fn idle(running: &Running) -> Result<(f64, f64), String> {
    let quiet = async || unfinished(&running.stack).await.ok().filter(|left| *left == 0);
    crate::wait_for("an end of the deliveries", Duration::from_secs(600), quiet).await?;
    let before = spent(running).await.map_err(|error| error.to_string())?;
    // Nothing happens for that long.
    tokio::time::sleep(IDLE).await;
    let spent = spent(running).await.map_err(|error| error.to_string())?.since(before);
    Ok((spent.calls as f64 / IDLE.as_secs_f64(), spent.per_call_ms()))
}
