//! `dead list`, `dead show` and `requeue`.

use std::io::IsTerminal;
use std::num::NonZeroU32;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::output::{self, or_dash, time};
use super::{Failure, Outcome, compose, confirm, event};
use crate::broker::publisher::Publisher;
use crate::cli::{Dead, DeadFilter, DeliveryId, ListDead};
use crate::config::Config;
use crate::relay;
use crate::relay::requeue::{Plan, Requeue};
use crate::relay::sweep::{GRACE, Sweep, Swept};
use crate::store::locks::Role;
use crate::store::requeue::{self, Filter};
use crate::store::{Db, attempts, deliveries};

pub async fn run(config: &Config, command: Dead) -> Outcome {
    match command {
        Dead::List(args) => list(config, args).await,
        Dead::Show(args) => show(config, args).await,
    }
}

fn filter(filter: DeadFilter) -> Filter {
    Filter {
        events: filter.events,
        endpoint: filter.endpoint,
        tenant: filter.tenant,
        event_type: filter.event_type,
        reason: filter.reason,
        since: filter.since,
        until: filter.until,
    }
}

async fn list(config: &Config, args: ListDead) -> Outcome {
    let db = compose::command_db(config)?;
    let dead = requeue::list(&db, &filter(args.filter), args.limit).await?;
    if args.output.json {
        return output::json(&dead);
    }
    let rows = dead.into_iter().map(|d| {
        vec![
            d.event_id.to_string(),
            d.endpoint_id.to_string(),
            d.tenant,
            d.event_type,
            or_dash(d.dead_reason),
            d.attempts.to_string(),
            or_dash(d.last_status_code),
            or_dash(d.last_error),
            time(d.died_at),
        ]
    });
    output::table(&["event", "endpoint", "tenant", "type", "reason", "attempts", "code", "last error", "died"], rows)
}

async fn show(config: &Config, args: DeliveryId) -> Outcome {
    let db = compose::command_db(config)?;
    let mut found = deliveries::of_event(&db, args.id).await?;
    found.retain(|d| d.status == "dead" && args.endpoint.is_none_or(|endpoint| endpoint == d.endpoint_id));
    if found.is_empty() {
        return Err(Failure::Failed(format!("event {}: has no dead delivery (that matches)", args.id)));
    }
    let attempts = attempts::of_event(&db, args.id, args.endpoint).await?;
    if args.output.json {
        return output::json(&json!({"event_id": args.id, "deliveries": found, "attempts": attempts}));
    }
    output::pairs(&[("event", args.id.to_string())])?;
    event::print_deliveries(&found)?;
    event::print_attempts(&attempts)
}

pub async fn requeue(config: &Config, args: crate::cli::Requeue) -> Outcome {
    let options = compose::service_options(config, "posthaste requeue")?;
    let broker = compose::broker_settings(config)?;
    let topology = compose::topology(config);
    let db = Db::new(&options)?;
    let publisher = Publisher::new(broker.clone(), topology.names.clone(), "posthaste requeue");
    let (mut session, relay) = relay::open_session(&options).await?;
    let requeue = Requeue {
        db: db.clone(),
        publisher: publisher.clone(),
        relay,
        filter: filter(args.filter),
        rate: args.rate.and_then(|rate| NonZeroU32::new(rate.unsigned_abs())),
        grace: GRACE,
    };
    let plan = requeue.plan().await?;
    if args.dry_run {
        return report(args.output.json, &plan, 0, true, None);
    }
    if plan.deliveries() > 0 {
        confirm::ask(&format!("Requeue {} dead deliveries?", plan.deliveries()), args.yes)?;
    }
    if !session.try_role(Role::Requeue).await? {
        return Err(Failure::Failed("another requeue is running; wait for it or stop it first".into()));
    }
    let bar = progress(plan.deliveries());
    let done = requeue.run(&plan, |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    let done = done.map_err(|error| {
        Failure::Failed(format!(
            "{error}; nothing is lost: what was granted is published by a relay, and the rest by running the same again"
        ))
    })?;
    let sweep = Sweep { db, broker, names: topology.names, publisher: publisher.clone(), grace: GRACE };
    let swept = sweep.run().await.map_err(|error| {
        Failure::Failed(format!(
            "requeued {done}, but the dead-letter queue was not swept: {error}; run the same again"
        ))
    })?;
    publisher.close().await;
    session.close().await;
    report(args.output.json, &plan, done, false, Some(swept))
}

fn progress(total: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let template = "{wide_bar} {pos}/{len} requeued, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn report(as_json: bool, plan: &Plan, done: u64, dry_run: bool, swept: Option<Swept>) -> Outcome {
    if as_json {
        return output::json(&json!({
            "dry_run": dry_run, "matched": plan.deliveries(), "requeued": done,
            "skipped_endpoint_removed": plan.removed, "letters": swept,
        }));
    }
    let mut lines = vec![("matched", plan.deliveries().to_string()), ("requeued", done.to_string())];
    if dry_run {
        lines.push(("changed", "nothing (--dry-run)".into()));
    }
    if plan.removed > 0 {
        lines.push(("skipped", format!("{} of endpoints that were removed", plan.removed)));
    }
    if let Some(swept) = swept {
        let text = format!("{} kept, {} dropped, {} written", swept.kept, swept.dropped, swept.written);
        lines.push(("dead-letter queue", text));
    }
    output::pairs(&lines)
}
