//! `stats`: how much waits where.

mod slo;
mod watch;

use chrono::Utc;
use serde_json::{Map, json};

use super::failure::Outcome;
use super::{compose, output};
use crate::cli::Stats;
use crate::config::Config;
use crate::domain::delivery::Status;
use crate::store::{outbox, stats};

/// Endpoints listed, those with the most trouble first.
const ENDPOINTS: i64 = 20;

pub async fn run(config: &Config, args: &Stats) -> Outcome {
    if args.watch { watch::run(config, args).await } else { once(config, args.output.json).await }
}

async fn once(config: &Config, as_json: bool) -> Outcome {
    let db = compose::command_db(config)?;
    let backlog = outbox::backlog(&db).await?;
    let counted = stats::by_status(&db).await?;
    let set_aside = stats::set_aside(&db).await?;
    let endpoints = stats::by_endpoint(&db, ENDPOINTS).await?;
    let month = slo::read(&db, Utc::now()).await?;
    let count = |status: Status| counted.iter().find(|(name, _)| name == status.as_str()).map_or(0, |(_, n)| *n);
    if as_json {
        let deliveries: Map<_, _> = Status::ALL.iter().map(|s| (s.as_str().to_owned(), count(*s).into())).collect();
        return output::json(&json!({
            "outbox_pending": backlog.pending, "outbox_oldest_age_seconds": backlog.oldest_age_seconds,
            "deliveries": deliveries, "set_aside": set_aside, "endpoints_last_24h": endpoints,
            "slo": month.json(),
        }));
    }
    let mut lines = vec![("outbox pending", backlog.pending.to_string())];
    lines.extend(Status::ALL.iter().map(|status| (status.as_str(), count(*status).to_string())));
    lines.push(("set aside", set_aside.to_string()));
    lines.push(("this month", month.text()));
    output::pairs(&lines)?;
    if endpoints.is_empty() {
        return Ok(());
    }
    output::line("\nendpoints, last 24 hours, those with the most trouble first:")?;
    let rows = endpoints.into_iter().map(|e| {
        let figures = [e.delivered, e.pending, e.retrying, e.held, e.dead].map(|n| n.to_string());
        [vec![e.endpoint_id.to_string(), e.tenant, e.status], figures.to_vec()].concat()
    });
    output::table(&["endpoint", "tenant", "state", "delivered", "pending", "retrying", "held", "dead"], rows)
}
