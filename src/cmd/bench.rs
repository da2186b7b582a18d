//! `bench burst`: emit events at once, and time until every delivery is settled.
//!
//! Measures the installation that is running, against a receiver of its own on the loopback interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::{compose, endpoint, output};
use crate::cli::{Bench, Burst};
use crate::config::Config;
use crate::domain::ids;
use crate::domain::sealing::NONCE_BYTES;
use crate::domain::signature::Secret;
use crate::domain::signing_key::Kind;
use crate::receiver::server::{Handle, Server};
use crate::receiver::settings::Settings;
use crate::store::endpoints::{self, Changes};
use crate::store::secrets::Sealed;
use crate::store::{Db, outbox, requeue, stats};

/// Events in one of the producers' transactions.
const PER_TRANSACTION: u32 = 100;
/// Without any progress for this long, something does not run.
const STALLED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What a burst came to. Times in seconds, rates per second.
#[derive(Debug, Serialize)]
struct Report {
    events: u32,
    endpoints: u32,
    payload_bytes: u32,
    deliveries: u64,
    emit_seconds: f64,
    last_arrival_seconds: f64,
    settled_seconds: f64,
    settled_per_second: f64,
    duplicates: u64,
    rejected_signatures: u64,
}

pub async fn run(config: &Config, command: Bench) -> Outcome {
    match command {
        Bench::Burst(args) => burst(config, args).await,
    }
}

async fn burst(config: &Config, args: Burst) -> Outcome {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    if !config.delivery.allow_cidrs.iter().any(|cidr| cidr.contains(&loopback.ip())) {
        return Err(Failure::Usage(
            "delivery.allow_cidrs: does not contain 127.0.0.1, where the benchmark's receiver listens; add \"127.0.0.1/32\" for the workers too"
                .into(),
        ));
    }
    let db = compose::command_db(config)?;
    let secret =
        Secret::from_bytes(rand::random::<[u8; 32]>().to_vec()).map_err(|error| Failure::Failed(error.to_string()))?;
    let settings = Settings { secrets: vec![secret.clone()], quiet: true, ..Settings::default() };
    let server = Server::bind(loopback, settings).await.map_err(|error| Failure::Failed(error.to_string()))?;
    let handle = server.handle();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    let tenant = format!("bench-{:08x}", rand::random::<u32>());
    let endpoints = add_endpoints(config, &db, &tenant, &secret, handle.local_addr(), args.endpoints).await?;
    let result = measure(&db, &args, &tenant, &endpoints, &handle).await;
    for endpoint in &endpoints {
        endpoints::remove(&db, *endpoint).await?;
        requeue::mark_dead_of_removed(&db, *endpoint, i64::from(i32::MAX)).await?;
    }
    stop.cancel();
    let _ = serving.await;
    print(&result?, args.output.json)
}

async fn add_endpoints(
    config: &Config,
    db: &Db,
    tenant: &str,
    secret: &Secret,
    receiver: SocketAddr,
    count: u32,
) -> Result<Vec<Uuid>, Failure> {
    let key = endpoint::sealing_key(config, db, false).await?;
    let mut added = Vec::new();
    for number in 0..count {
        let id = ids::new_v7(Utc::now().timestamp_millis() as u64, rand::random());
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let ciphertext =
            key.seal(nonce, id.as_bytes(), secret.as_bytes()).map_err(|error| Failure::Failed(error.to_string()))?;
        let sealed = Sealed { kind: Kind::Whsec.as_str(), key_id: key.id(), ciphertext, public_key: None };
        let changes = Changes { url: Some(format!("http://{receiver}/bench/{number}")), ..Changes::default() };
        endpoints::add(db, id, tenant, &changes, &[sealed]).await?;
        added.push(id);
    }
    Ok(added)
}

async fn measure(db: &Db, args: &Burst, tenant: &str, endpoints: &[Uuid], handle: &Handle) -> Result<Report, Failure> {
    let began = Instant::now();
    let began_ms = Utc::now().timestamp_millis();
    let payload = payload(args.payload_bytes);
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..args.producers {
        let share = args.events / args.producers + u32::from(producer < args.events % args.producers);
        producers.spawn(produce(db.clone(), tenant.to_owned(), payload.clone(), share));
    }
    while let Some(result) = producers.join_next().await {
        result.map_err(|error| Failure::Failed(error.to_string()))??;
    }
    let emitted = began.elapsed();
    let deliveries = u64::from(args.events) * endpoints.len() as u64;
    let settled = wait_settled(db, endpoints, deliveries, began).await?;
    let figures = handle.stats();
    Ok(Report {
        events: args.events,
        endpoints: args.endpoints,
        payload_bytes: args.payload_bytes,
        deliveries,
        emit_seconds: emitted.as_secs_f64(),
        last_arrival_seconds: figures.last_at_ms.map_or(0.0, |last| (last as i64 - began_ms) as f64 / 1000.0),
        settled_seconds: settled.as_secs_f64(),
        settled_per_second: deliveries as f64 / settled.as_secs_f64(),
        duplicates: figures.ok.saturating_sub(deliveries),
        rejected_signatures: figures.rejected,
    })
}

async fn produce(db: Db, tenant: String, payload: String, events: u32) -> Result<(), Failure> {
    let mut left = events;
    while left > 0 {
        let batch = left.min(PER_TRANSACTION);
        outbox::emit_many(&db, &tenant, "bench.burst", &payload, batch as i32).await?;
        left -= batch;
    }
    Ok(())
}

/// A JSON document of exactly this many bytes.
fn payload(bytes: u32) -> String {
    let frame = r#"{"data":""}"#;
    match (bytes as usize).checked_sub(frame.len()) {
        Some(fill) => format!(r#"{{"data":"{}"}}"#, "x".repeat(fill)),
        None => "1".repeat(bytes.max(1) as usize),
    }
}

async fn wait_settled(db: &Db, endpoints: &[Uuid], deliveries: u64, began: Instant) -> Result<Duration, Failure> {
    let mut seen = (0, Instant::now());
    loop {
        let settled = stats::settled(db, endpoints).await?.max(0) as u64;
        if settled >= deliveries {
            return Ok(began.elapsed());
        }
        if settled > seen.0 {
            seen = (settled, Instant::now());
        }
        if seen.1.elapsed() > STALLED {
            return Err(Failure::Failed(format!(
                "{settled} of {deliveries} deliveries were settled, and none for {STALLED:?}: do a relay and a worker run, with 127.0.0.1 allowed?"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn print(report: &Report, as_json: bool) -> Outcome {
    if as_json {
        return output::json(report);
    }
    output::pairs(&[
        ("events", report.events.to_string()),
        ("deliveries", report.deliveries.to_string()),
        ("emitted after", format!("{:.2} s", report.emit_seconds)),
        ("last arrival after", format!("{:.2} s", report.last_arrival_seconds)),
        ("all settled after", format!("{:.2} s", report.settled_seconds)),
        ("settled per second", format!("{:.0}", report.settled_per_second)),
        ("duplicates", report.duplicates.to_string()),
    ])
}
