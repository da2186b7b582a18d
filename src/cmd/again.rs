//! `resend` and `retry-now`: deliveries that have ended are sent again, and those that wait are tried at once.

use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::{compose, confirm, endpoint, output, progress};
use crate::broker::publisher::Publisher;
use crate::cli::{Resend, RetryNow};
use crate::config::Config;
use crate::lifecycle::{EXIT_FORCED, Shutdown, signals};
use crate::relay;
use crate::requeue::again::{Again, Meant};
use crate::requeue::sweep::{GRACE, Sweep, Swept};
use crate::store::accounts::{self, Account};
use crate::store::again::Kind;
use crate::store::locks::Role;
use crate::store::requeue;
use crate::store::{Db, Options};

mod selection;

/// What both commands take, besides their selection.
struct Asked {
    selection: Value,
    /// A run that was interrupted.
    earlier: Option<Account>,
    dry_run: bool,
    rate: Option<i32>,
    sweep: bool,
    yes: bool,
    json: bool,
}

/// What a run came to.
struct Report<'a> {
    kind: Kind,
    meant: Meant,
    done: u64,
    account: Option<i64>,
    dry_run: bool,
    swept: Option<&'a Swept>,
}

pub async fn resend(config: &Config, args: Resend) -> Outcome {
    let options = compose::service_options(config, "posthaste resend")?;
    let db = Db::new(&options)?;
    let earlier = match args.go_on {
        Some(number) => Some(interrupted(&db, number).await?),
        None => None,
    };
    let given = selection::of(&args.filter, args.status, args.all, args.rate);
    let selection = earlier.as_ref().map_or(given, |account| account.selection.clone());
    let (sweep, yes, json) = (!args.no_sweep, args.yes, args.output.json);
    let asked = Asked { selection, earlier, dry_run: args.dry_run, rate: args.rate, sweep, yes, json };
    run(config, &options, db, Kind::Resend, asked).await
}

pub async fn retry_now(config: &Config, args: RetryNow) -> Outcome {
    let options = compose::service_options(config, "posthaste retry-now")?;
    let selection = selection::of(&args.filter, None, args.all, args.rate);
    let (dry_run, rate, yes, json) = (args.dry_run, args.rate, args.yes, args.output.json);
    let asked = Asked { selection, earlier: None, dry_run, rate, sweep: false, yes, json };
    run(config, &options, Db::new(&options)?, Kind::RetryNow, asked).await
}

async fn interrupted(db: &Db, number: i64) -> Result<Account, Failure> {
    let account = accounts::get(db, number).await?;
    let Some(account) = account.filter(|account| account.kind == Kind::Resend.as_str()) else {
        return Err(Failure::Failed(format!("continue: there is no resend {number}; see posthaste.requeues")));
    };
    if account.finished_at.is_some() && account.error.is_none() {
        return Err(Failure::Failed(format!("continue: resend {number} has finished; nothing is left of it")));
    }
    Ok(account)
}

async fn run(config: &Config, options: &Options, db: Db, kind: Kind, asked: Asked) -> Outcome {
    let broker = compose::broker_settings(config)?;
    let names = compose::topology(config).names;
    let publisher = Publisher::new(broker.clone(), names.clone(), &options.application_name);
    let (session, relay) = relay::open_session(options).await?;
    let shutdown = Shutdown::new();
    let start = match &asked.earlier {
        Some(account) => account.started_at,
        None => requeue::now(&db).await?,
    };
    let mut again = Again {
        db: db.clone(),
        publisher: publisher.clone(),
        relay,
        selection: selection::read(kind, &asked.selection, start)?,
        // As fast as possible, a great many would take the servers' time from live traffic.
        rate: NonZeroU32::new(asked.rate.map_or(config.relay.release_rate, i32::unsigned_abs)),
        stop: shutdown.token().clone(),
    };
    let meant = again.plan().await?;
    if meant == Meant::default() {
        endpoint::must_be_of(&db, again.selection.endpoint, again.selection.tenant.as_deref()).await?;
    }
    let mut report = Report { kind, meant, done: 0, account: None, dry_run: asked.dry_run, swept: None };
    if asked.dry_run {
        if let Some(whose) = endpoint::whose(&db, again.selection.endpoint).await?.filter(|_| !asked.json) {
            output::pairs(&[("endpoint", whose)])?;
        }
        return print(asked.json, &report);
    }
    if meant.deliveries > 0 {
        confirm::ask(&format!("{} {} deliveries?", verb(kind), meant.deliveries), asked.yes)?;
    }
    if !session.try_role_for_a_while(Role::Requeue).await? {
        return Err(Failure::Failed(
            "another requeue, resend or retry-now is running; wait for it or stop it first".into(),
        ));
    }
    let signals = signals().map_err(|error| Failure::Failed(error.to_string()))?;
    shutdown.on_signals(signals, || std::process::exit(EXIT_FORCED));
    let account = account(&db, kind, &asked, meant, &mut again).await?;
    wait_for_dead_letters(&again, meant).await;
    report.done = grant(&again, &account, meant).await?;
    report.account = Some(account.id);
    let sweep = Sweep { db, broker, names, publisher: publisher.clone(), grace: GRACE };
    let swept = tokio::select! {
        biased;
        () = async {}, if !asked.sweep || meant.dead == 0 => None,
        () = shutdown.asked() => None,
        swept = sweep.run() => Some(swept.map_err(|error| unswept(report.done, &error.to_string()))?),
    };
    report.swept = swept.as_ref();
    publisher.close().await;
    session.close().await;
    print(asked.json, &report)?;
    if again.stop.is_cancelled() { Err(stopped(kind, account.id)) } else { Ok(()) }
}

/// The worker of what has just died may still be writing its dead letter.
async fn wait_for_dead_letters(again: &Again, meant: Meant) {
    if meant.dead > 0 {
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = again.stop.cancelled() => {}
        }
    }
}

/// The account of this run; what has changed since it was opened is not meant.
async fn account(db: &Db, kind: Kind, asked: &Asked, meant: Meant, again: &mut Again) -> Result<Account, Failure> {
    if let Some(account) = &asked.earlier {
        return Ok(account.clone());
    }
    let (id, started_at) = accounts::begin(db, kind.as_str(), &asked.selection, meant.deliveries as i64).await?;
    again.selection.start = started_at;
    if kind == Kind::Resend {
        tracing::info!(
            number = id,
            "the resend has begun; if it is killed, `posthaste resend --continue {id}` goes on with it"
        );
    }
    Ok(Account {
        id,
        kind: kind.as_str().into(),
        started_at,
        finished_at: None,
        selection: Value::Null,
        matched: meant.deliveries as i64,
        requeued: 0,
        error: None,
    })
}

async fn grant(again: &Again, account: &Account, meant: Meant) -> Result<u64, Failure> {
    let before = account.requeued.unsigned_abs();
    let bar = progress::bar(before + meant.deliveries, "on their way");
    let done = again.run(account.id, before, |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    let stopped = again.stop.is_cancelled().then(|| "stopped by a signal".to_owned());
    let error = done.as_ref().err().map(ToString::to_string).or(stopped);
    accounts::finish(&again.db, account.id, error.as_deref()).await?;
    done.map_err(|error| {
        let go_on = go_on(again.selection.kind, account.id);
        Failure::Failed(format!("{error}; nothing is lost: what was granted is published by a relay, and {go_on}"))
    })
}

fn go_on(kind: Kind, account: i64) -> String {
    match kind {
        Kind::Resend => format!("`posthaste resend --continue {account}` does the rest"),
        Kind::RetryNow => "running the same again does the rest".into(),
    }
}

fn stopped(kind: Kind, account: i64) -> Failure {
    Failure::Failed(format!("stopped by a signal; {}", go_on(kind, account)))
}

fn unswept(done: u64, error: &str) -> Failure {
    Failure::Failed(format!(
        "sent {done} again, but the dead-letter queue was not swept: {error}; `posthaste reconcile` does it"
    ))
}

fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Resend => "Send again",
        Kind::RetryNow => "Retry now",
    }
}

fn print(as_json: bool, report: &Report<'_>) -> Outcome {
    let Report { kind, meant, done, account, dry_run, swept } = report;
    let name = match kind {
        Kind::Resend => "resent",
        Kind::RetryNow => "retried",
    };
    if as_json {
        return output::json(&json!({
            "dry_run": dry_run, "matched": meant.deliveries, name: done, "number": account,
            "skipped_endpoint_removed": meant.removed, "letters": swept,
        }));
    }
    let mut lines = vec![("matched", meant.deliveries.to_string()), (name, done.to_string())];
    if *dry_run {
        lines.push(("changed", "nothing (--dry-run)".into()));
    }
    if let Some(account) = account {
        lines.push(("number", account.to_string()));
    }
    if meant.removed > 0 {
        lines.push(("skipped", format!("{} of endpoints that were removed", meant.removed)));
    }
    if let Some(swept) = swept {
        let text = format!("{} kept, {} removed, {} written", swept.kept, swept.dropped, swept.written);
        lines.push(("dead-letter queue", text));
    }
    output::pairs(&lines)
}
