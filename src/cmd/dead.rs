//! `dead list`, `dead show` and `requeue`.

use std::fmt::Display;
use std::num::NonZeroU32;

use serde_json::{Value, json};
use uuid::Uuid;

use super::event::life::Origin;
use super::event::show::{self, Found};
use super::failure::{Failure, Outcome};
use super::output::{self, or_dash, time};
use super::{compose, confirm, endpoint, progress};
use crate::broker::publisher::Publisher;
use crate::cli::{Dead, DeadFilter, DeliveryId, ListDead};
use crate::config::Config;
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::Status;
use crate::domain::left::{Left, MOST_COUNTED};
use crate::lifecycle::{EXIT_FORCED, Shutdown, signals};
use crate::relay;
use crate::requeue::sweep::{GRACE, Sweep, Swept};
use crate::requeue::{Done, Missing, Plan, Requeue};
use crate::store::locks::Role;
use crate::store::replay::Window;
use crate::store::requeue::{self, Filter, Last};
use crate::store::{Db, accounts, events};
use crate::telemetry::logging;

/// How a run ends that somebody has interrupted.
const STOPPED: &str = "stopped by a signal";
/// Events by their ids that are looked for where nothing was found.
const NAMED: usize = 20;

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
        window: None,
        last: Last { status_codes: filter.status_codes, errors: filter.errors },
    }
}

async fn list(config: &Config, args: ListDead) -> Outcome {
    let db = compose::command_db(config)?;
    let filter = filter(args.filter);
    let mut dead = requeue::list(&db, &filter, args.limit + MOST_COUNTED).await?;
    let left = dead.len().saturating_sub(args.limit as usize);
    dead.truncate(args.limit as usize);
    if dead.is_empty() {
        endpoint::must_be_of(&db, filter.endpoint, filter.tenant.as_deref()).await?;
    }
    if left > 0 {
        // Not on stdout, which is the list and nothing else.
        logging::say(&format!("{}; --limit shows more, and --until TIME older ones", Left::exactly(left as i64)));
    }
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
    let found = Found::read(&db, args.id, args.endpoint, Some(Status::Dead)).await?;
    if found.deliveries.is_empty() {
        endpoint::must_be_of(&db, args.endpoint, None).await?;
        return Err(Failure::Failed(format!("event {}: has no dead delivery (that matches)", args.id)));
    }
    let payload = show::payload(&db, args.id, args.payload).await?;
    if args.output.json {
        let mut value = json!({
            "event_id": args.id, "deliveries": found.json(&config.retry), "attempts": found.attempts,
        });
        show::add_payload(&mut value, payload);
        return output::json(&value);
    }
    let event = events::get(&db, args.id).await?;
    output::pairs(&[("event", args.id.to_string())])?;
    payload.as_deref().map_or(Ok(()), show::print_payload)?;
    let origin = Origin {
        emitted: event.as_ref().map_or(found.now, |event| event.created_at),
        claimed: event.and_then(|event| event.published_at),
        now: found.now,
    };
    found.print(&config.retry, &origin)
}

pub async fn requeue(config: &Config, args: crate::cli::Requeue) -> Outcome {
    let options = compose::service_options(config, "posthaste requeue")?;
    let broker = compose::broker_settings(config)?;
    let names = compose::topology(config).names;
    let db = Db::new(&options)?;
    let publisher = Publisher::new(broker.clone(), names.clone(), "posthaste requeue");
    let (session, relay) = relay::open_session(&options).await?;
    let selection = selection(&args);
    let shutdown = Shutdown::new();
    let missing = missing(config, &db, &args).await?;
    let requeue = Requeue {
        db: db.clone(),
        publisher: publisher.clone(),
        relay,
        filter: match &missing {
            Some(missing) => {
                Filter { endpoint: Some(missing.endpoint), window: Some(missing.window), ..Filter::default() }
            }
            None => filter(args.filter),
        },
        // As fast as possible, a great replay would take the servers' time from live traffic.
        rate: NonZeroU32::new(args.rate.map_or(config.relay.release_rate, i32::unsigned_abs)),
        grace: GRACE,
        missing,
        stop: shutdown.token().clone(),
    };
    let plan = requeue.plan().await?;
    if plan == Plan::default() {
        endpoint::must_be_of(&db, requeue.filter.endpoint, requeue.filter.tenant.as_deref()).await?;
        warn_of_unknown(&db, &requeue.filter.events).await?;
    }
    if args.dry_run {
        if let Some(whose) = endpoint::whose(&db, requeue.filter.endpoint).await?.filter(|_| !args.output.json) {
            output::pairs(&[("endpoint", whose)])?;
        }
        return report(args.output.json, &plan, Done::default(), true, None);
    }
    if plan.deliveries() > 0 {
        confirm::ask(&format!("Requeue {} deliveries?", plan.deliveries()), args.yes)?;
    }
    if !session.try_role_for_a_while(Role::Requeue).await? {
        return Err(Failure::Failed("another requeue is running; wait for it or stop it first".into()));
    }
    let signals = signals().map_err(|error| Failure::Failed(error.to_string()))?;
    shutdown.on_signals(signals, || std::process::exit(EXIT_FORCED));
    let done = grant(&db, &requeue, &plan, &selection).await?;
    let sweep = Sweep { db, broker, names, publisher: publisher.clone(), grace: GRACE };
    // A sweep may end anywhere: the next one does the rest.
    let swept = tokio::select! {
        biased;
        () = async {}, if args.no_sweep => None,
        () = shutdown.asked() => None,
        swept = sweep.run() => Some(swept.map_err(|error| unswept(done, &error))?),
    };
    publisher.close().await;
    session.close().await;
    let stopped = swept.is_none() && requeue.stop.is_cancelled();
    report(args.output.json, &plan, done, false, swept)?;
    if stopped { Err(Failure::Failed(format!("{STOPPED}; run the same again for the rest"))) } else { Ok(()) }
}

/// Nothing was found: perhaps since an id is wrong.
async fn warn_of_unknown(db: &Db, named: &[Uuid]) -> Outcome {
    for id in named.iter().take(NAMED) {
        if events::get(db, *id).await?.is_none() {
            tracing::warn!(event_id = %id, "there is no such event; it may be older than the retention");
        }
    }
    Ok(())
}

/// The run and its account.
async fn grant(db: &Db, requeue: &Requeue, plan: &Plan, selection: &Value) -> Result<Done, Failure> {
    let (account, _) = accounts::begin(db, "requeue", selection, plan.deliveries() as i64).await?;
    let bar = progress::bar(plan.deliveries(), "requeued");
    let done = requeue.run(plan, account, |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    let stopped = requeue.stop.is_cancelled().then(|| STOPPED.to_owned());
    let error = done.as_ref().err().map(ToString::to_string).or(stopped);
    accounts::finish(db, account, error.as_deref()).await?;
    done.map_err(|error| {
        Failure::Failed(format!(
            "{error}; nothing is lost: what was granted is published by a relay, and the rest by running the same again"
        ))
    })
}

fn unswept(done: Done, error: &impl Display) -> Failure {
    let count = done.total();
    Failure::Failed(format!("requeued {count}, but the dead-letter queue was not swept: {error}; run the same again"))
}

/// The selection as given, for the account.
fn selection(args: &crate::cli::Requeue) -> Value {
    let filter = &args.filter;
    json!({
        "events": filter.events, "endpoint": filter.endpoint, "tenant": filter.tenant, "event_type": filter.event_type,
        "reason": filter.reason.map(DeadReason::as_str), "since": filter.since, "until": filter.until, "all": args.all,
        "status_codes": filter.status_codes, "errors": filter.errors.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
        "missing": args.missing, "rate": args.rate,
    })
}

async fn missing(config: &Config, db: &Db, args: &crate::cli::Requeue) -> Result<Option<Missing>, Failure> {
    let (true, Some(id), Some(since)) = (args.missing, args.filter.endpoint, args.filter.since) else {
        return Ok(None);
    };
    let endpoint = endpoint::existing(db, id).await?;
    let until = match args.filter.until {
        Some(until) => until,
        None => requeue::now(db).await?,
    };
    let ceiling = config.retry.get(endpoint.retry_policy.as_deref()).max_attempts();
    Ok(Some(Missing { endpoint: id, window: Window { since, until }, ceiling }))
}

fn report(as_json: bool, plan: &Plan, done: Done, dry_run: bool, swept: Option<Swept>) -> Outcome {
    if as_json {
        return output::json(&json!({
            "dry_run": dry_run, "matched": plan.deliveries(), "requeued": done.requeued,
            "created": done.created,
            "skipped_endpoint_removed": plan.removed, "letters": swept,
        }));
    }
    let mut lines = vec![("matched", plan.deliveries().to_string()), ("requeued", done.requeued.to_string())];
    if plan.missing > 0 {
        lines.push(("missed and made", done.created.to_string()));
    }
    if dry_run {
        lines.push(("changed", "nothing (--dry-run)".into()));
    }
    if plan.removed > 0 {
        lines.push(("skipped", format!("{} of endpoints that were removed", plan.removed)));
    }
    if let Some(swept) = swept {
        let text = format!("{} kept, {} removed, {} written", swept.kept, swept.dropped, swept.written);
        lines.push(("dead-letter queue", text));
    }
    output::pairs(&lines)
}
