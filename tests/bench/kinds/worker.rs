//! A worker without a relay: everything that it is to deliver is in the queue when it begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste::broker::Settings;
use posthaste::broker::publisher::{Publisher, Target};
use posthaste::broker::topology::Names;
use posthaste::domain::message::{Body, Carried, Message};
use uuid::Uuid;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, Round, Since, WARM_UP, accepted, floor_id, payload, unix_seconds};
use crate::isolation::receiver::{Manner, Site};
use crate::isolation::stack::{Customer, Stack};

/// Enough that no endpoint has more waiting at its gate than it takes in half a second, which would send it back to the relay
/// that is not there.
const CUSTOMERS: usize = 50;
/// Messages that are published together.
const BATCH: usize = 1_000;
/// Messages count as fresh, as those of a relay that has just claimed them: a worker reads no row before it sends them.
const FRESH_FOR_MS: i64 = 600_000;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let mut stack = Stack::servers(dir, "worker", &[]).await?;
    stack.listen()?;
    let days =
        "select posthaste.create_partitions(d - 1, d + 1) from (select (now() at time zone 'utc')::date) as t (d)";
    sqlx::query(days).execute(&stack.db).await.map_err(|error| error.to_string())?;
    let customers = stack.customers("worker", CUSTOMERS, Manner::Accept(0)).await?;
    let sites: Vec<Arc<Site>> = customers.iter().map(|customer| customer.site.clone()).collect();
    let publisher = publisher(&stack);
    stack.add_worker().await?;
    one(&stack, &customers, &sites, &publisher, WARM_UP).await?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds() {
        rounds.push(one(&stack, &customers, &sites, &publisher, options.deliveries()).await?);
    }
    stack.stop().await?;
    Ok(vec![Row::of("worker", format!("{CUSTOMERS} endpoints"), &rounds)])
}

fn publisher(stack: &Stack) -> Publisher {
    let settings = Settings {
        url: stack.binary.amqp_url.clone().into(),
        tls: Default::default(),
        carried: Carried::Payload,
        operation_timeout: Duration::from_secs(10),
        heartbeat: Duration::from_secs(10),
    };
    Publisher::new(settings, Names::new("posthaste"), "bench")
}

/// The worker is frozen while the queue is filled.
async fn one(
    stack: &Stack,
    customers: &[Customer],
    sites: &[Arc<Site>],
    publisher: &Publisher,
    events: usize,
) -> Result<Round, String> {
    sites.iter().for_each(|site| site.arrivals().clear());
    let (first, before) = (floor_id(&stack.db).await?, accepted(sites));
    let worker = stack.workers.first().ok_or("no worker")?;
    worker.signal(libc::SIGSTOP);
    let filled = fill(stack, customers, publisher, events).await;
    let since = Since::now(stack);
    worker.signal(libc::SIGCONT);
    filled?;
    since.until_settled(stack, (sites, before), first, events).await
}

/// Rows and messages as a relay makes them.
async fn fill(stack: &Stack, customers: &[Customer], publisher: &Publisher, events: usize) -> Result<(), String> {
    let insert = "with e as (
        insert into posthaste.events (id, tenant, event_type, payload, created_at, matched)
        select posthaste.uuid_v7(), ($1::text[])[1 + number % $2], 'order.created', $3::text::json, now(), 1
          from generate_series(0, $4 - 1) as number
        returning id, tenant), d as (
        insert into posthaste.deliveries (event_id, endpoint_id, max_attempts)
        select e.id, p.id, 5 from e join posthaste.endpoints p on p.tenant = e.tenant
        returning event_id, endpoint_id)
      select d.event_id, d.endpoint_id, e.tenant from d join e on e.id = d.event_id";
    let tenants: Vec<&str> = customers.iter().map(|customer| customer.tenant.as_str()).collect();
    let payload = payload(KIB);
    let insert = sqlx::query_as(insert).bind(&tenants).bind(tenants.len() as i32).bind(&payload).bind(events as i32);
    let rows: Vec<(Uuid, Uuid, String)> = insert.fetch_all(&stack.db).await.map_err(|error| error.to_string())?;
    let body = Bytes::from(payload);
    let fresh_ms = (unix_seconds() * 1e3) as i64 + FRESH_FOR_MS;
    let message = |(event_id, endpoint_id, tenant): &(Uuid, Uuid, String)| Message {
        event_id: *event_id,
        endpoint_id: *endpoint_id,
        tenant: tenant.as_str().into(),
        event_type: "order.created".into(),
        body: Body::Here(body.clone()),
        attempt: 1,
        max_attempts: 5,
        base_attempts: 0,
        traceparent: None,
        claimed_ms: Some(fresh_ms),
    };
    for rows in rows.chunks(BATCH) {
        let messages: Vec<Message> = rows.iter().map(message).collect();
        let targeted: Vec<_> = messages.iter().map(|message| (Target::Deliver, message)).collect();
        let refused = publisher.publish(&targeted).await.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), |error| Err(format!("the broker did not take a message: {error}")))?;
    }
    Ok(())
}
