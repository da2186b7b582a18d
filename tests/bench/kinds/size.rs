//! What is written for an event: rows of the history with their indexes, and the write-ahead log.

use std::path::Path;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, Work, drained, subscribers, tenants};
use crate::isolation::receiver::Manner;
use crate::isolation::stack::Stack;

const SIZES: [(usize, &str); 4] = [(KIB, "1 KiB"), (256, "256 B"), (8 * KIB, "8 KiB"), (64 * KIB, "64 KiB")];
const TENANTS: usize = 50;
/// Deliveries of an event, to tell what it takes itself from what each of them takes.
const EACH: usize = 10;
/// What a round carries at most.
const BYTES: usize = 512 << 20;

/// Bytes of all days together.
const HISTORY: &str = "select inhparent::regclass::text, sum(pg_total_relation_size(inhrelid))::float8 from pg_inherits
    where inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass)
    group by 1 order by 1";
const LOG: &str = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8";
/// As lines of a request and of an answer.
const HEADERS: &str =
    "select avg((select sum(length(key) + length(value) + 4) from jsonb_each_text(request_headers)))::float8
    from posthaste.attempts";

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "size", &[], 1).await?;
    stack.listen()?;
    let (tenants, sites) = tenants(&stack, "size", TENANTS, TENANTS).await?;
    let mut rows = Vec::new();
    for (bytes, name) in SIZES {
        let events = options.deliveries().min(options.scaled(BYTES) / bytes);
        let work = Work { tenants: &tenants, sites: &sites, events, each: 1, bytes };
        rows.push(one(&stack, &work, name).await?);
    }
    let several = ["size-each".to_owned()];
    let sites = subscribers(&stack, &several[0], EACH, Manner::Accept(0)).await?;
    let work = Work { tenants: &several, sites: &sites, events: options.deliveries() / EACH, each: EACH, bytes: KIB };
    rows.push(one(&stack, &work, &format!("1 KiB, deliveries of an event: {EACH}")).await?);
    let headers = sqlx::query_scalar(HEADERS).fetch_one(&stack.db).await.map_err(|error| error.to_string())?;
    rows[0].figure("bytes of a request's headers", headers, "");
    stack.stop().await?;
    Ok(rows)
}

async fn one(stack: &Stack, work: &Work<'_>, name: &str) -> Result<Row, String> {
    let before = written(stack).await?;
    let round = drained(stack, work).await?;
    let after = written(stack).await?;
    let mut row = Row::of("size", name, &[round]);
    for ((part, before), (_, after)) in before.iter().zip(&after) {
        row.figure(format!("bytes of {part}"), (after - before) / work.events as f64, "an event");
    }
    Ok(row)
}

async fn written(stack: &Stack) -> Result<Vec<(String, f64)>, String> {
    let read = async {
        let mut written: Vec<(String, f64)> = sqlx::query_as(HISTORY).fetch_all(&stack.db).await?;
        written.push(("the write-ahead log".to_owned(), sqlx::query_scalar(LOG).fetch_one(&stack.db).await?));
        Ok::<_, sqlx::Error>(written)
    };
    read.await.map_err(|error| error.to_string())
}
