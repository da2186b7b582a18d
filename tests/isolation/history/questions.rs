use std::time::{Duration, Instant};

use chrono::Utc;
use posthaste::domain::decision::Decision;
use posthaste::domain::ids::DeliveryKey;
use posthaste::domain::message::Message;
use posthaste::domain::turns::{Ask, From};
use posthaste::store::claim::{self, Ceilings, Claim};
use posthaste::store::relay_batches;
use posthaste::store::settle::{self, Settlement};
use uuid::Uuid;

use super::side::{SMALL, Side};
use crate::process;

/// Events of one claim and of one settlement.
pub const BATCH: u32 = 200;
const TENANTS: u32 = 20;

/// What is asked of both databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// One statement of a relay, and one of a worker.
    Claim,
    Settle,
    /// Commands, each a process from its start to its end.
    Show,
    List,
    DryRun,
    Missing,
    DryRunOfEndpoint,
}

impl Question {
    pub const ALL: [Question; 7] = [
        Question::Claim,
        Question::Settle,
        Question::Show,
        Question::List,
        Question::DryRun,
        Question::Missing,
        Question::DryRunOfEndpoint,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Question::Claim => "claim of 200 events",
            Question::Settle => "settlement of 200 attempts",
            Question::Show => "event show",
            Question::List => "event list --tenant, a small one",
            Question::DryRun => "requeue --tenant --dry-run, the same",
            Question::Missing => "requeue --missing --dry-run, the same",
            Question::DryRunOfEndpoint => "requeue --endpoint --dry-run, the same",
        }
    }

    /// How long it takes, in milliseconds.
    pub async fn ask(self, side: &Side) -> Result<f64, String> {
        match self {
            Question::Claim => claimed(side).await.map(|(took, _)| took),
            Question::Settle => settled(side).await,
            Question::Show => {
                let event = "select id from posthaste.events where tenant = $1 order by id limit 1";
                let event: Uuid =
                    sqlx::query_scalar(event).bind(SMALL).fetch_one(&side.db).await.map_err(|e| e.to_string())?;
                command(side, &["event", "show", &event.to_string()], "attempt 1: ").await
            }
            Question::List => command(side, &["event", "list", "--tenant", SMALL, "--json"], SMALL).await,
            Question::DryRun => command(side, &["requeue", "--tenant", SMALL, "--dry-run"], "20").await,
            Question::DryRunOfEndpoint => {
                let endpoint = side.small[0].to_string();
                command(side, &["requeue", "--endpoint", &endpoint, "--dry-run"], "20").await
            }
            Question::Missing => {
                let endpoint = side.small[1].to_string();
                let missing = ["requeue", "--missing", "--endpoint", &endpoint, "--since", "9000h", "--dry-run"];
                command(side, &missing, "100").await
            }
        }
    }
}

/// A command that prints this among other things.
async fn command(side: &Side, arguments: &[&str], prints: &str) -> Result<f64, String> {
    let began = Instant::now();
    let printed = process::run(&side.binary, arguments).await?;
    let took = ms(began.elapsed());
    if printed.contains(prints) { Ok(took) } else { Err(format!("{arguments:?} has not printed {prints}: {printed}")) }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Events of tenants in turn are committed, and one statement claims them.
async fn claimed(side: &Side) -> Result<(f64, Vec<Message>), String> {
    let emit = "select count(posthaste.emit(tenant, 'order.created', '{\"order_id\": 19}'))
        from unnest($1::text[]) as tenant, generate_series(1, $2)";
    let tenants = &side.tenants[..TENANTS as usize];
    let emit = sqlx::query(emit).bind(tenants).bind((BATCH / TENANTS) as i32).execute(&side.db).await;
    emit.map_err(|error| error.to_string())?;
    let ask = Ask {
        from: From::Everyone { after: String::new() },
        tenants: TENANTS,
        alone: BATCH,
        each: BATCH / TENANTS,
        together: BATCH,
    };
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let claim = Claim { relay: 1, ask: &ask, without: &[], ceilings: &ceilings, confirmed: &[], behind: &[] };
    let began = Instant::now();
    let batch = claim::claim(&side.claims, claim).await.map_err(|error| error.to_string())?;
    let took = ms(began.elapsed());
    if batch.messages.len() != BATCH as usize {
        return Err(format!("{} deliveries were claimed", batch.messages.len()));
    }
    relay_batches::unlist(&side.service, &Vec::from_iter(batch.id)).await.map_err(|error| error.to_string())?;
    Ok((took, batch.messages))
}

/// What was claimed before is delivered, in one statement.
async fn settled(side: &Side) -> Result<f64, String> {
    let (_, messages) = claimed(side).await?;
    let settlements: Vec<Settlement> = messages.iter().map(delivered).collect();
    let began = Instant::now();
    let settled = settle::settle(&side.service, "history", &settlements).await.map_err(|error| error.to_string())?;
    let took = ms(began.elapsed());
    let lost = settled.iter().filter(|answer| answer.is_none()).count();
    // What the other question has claimed is not left for the release.
    finish(side).await?;
    if lost > 0 { Err(format!("{lost} settlements were lost")) } else { Ok(took) }
}

async fn finish(side: &Side) -> Result<(), String> {
    let finish = "update posthaste.deliveries set status = 'delivered', attempts = 1, next_attempt_at = null
        where status = 'pending'";
    sqlx::query(finish).execute(&side.db).await.map(drop).map_err(|error| error.to_string())
}

fn delivered(message: &Message) -> Settlement {
    let headers = [
        ("webhook-id", message.event_id.to_string()),
        ("webhook-timestamp", "1790000000".to_owned()),
        ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=".to_owned()),
    ];
    Settlement {
        key: DeliveryKey { event_id: message.event_id, endpoint_id: message.endpoint_id },
        attempt: 1,
        decision: Decision::Delivered,
        budget: None,
        status_code: Some(200),
        error: None,
        duration_ms: 12,
        started_at: Utc::now(),
        request_headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        response_headers: vec![("content-length".into(), "2".into())],
        response_body: Some("ok".into()),
    }
}
