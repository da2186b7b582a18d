//! `erase`: the payloads, headers and answers of an event, a tenant or an endpoint.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::NaiveDate;
use serde_json::json;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::{compose, confirm, output};
use crate::broker::publisher::Publisher;
use crate::cli;
use crate::config::Config;
use crate::relay;
use crate::requeue::sweep::{GRACE, Sweep};
use crate::store::days::Day;
use crate::store::erase::{self, Erased, Target};
use crate::store::locks::{Role, Session};
use crate::store::slices::{Order, Slice, Slices};
use crate::store::{Db, StoreError};

/// How often a batch is tried again of which somebody has rows locked.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

struct Run<'a> {
    db: &'a Db,
    target: &'a Target,
    done: Erased,
    /// Days in which something was found.
    days: BTreeSet<NaiveDate>,
}

pub async fn run(config: &Config, args: cli::Erase) -> Outcome {
    let target = match (args.event, args.tenant, args.endpoint) {
        (Some(event), ..) => Target::Event(event),
        (_, Some(tenant), _) => Target::Tenant(tenant),
        (.., Some(endpoint)) => Target::Endpoint(endpoint),
        _ => return Err(Failure::Usage("--event, --tenant or --endpoint: one is needed".into())),
    };
    let options = compose::service_options(config, "posthaste erase")?;
    let db = Db::new(&options)?;
    let longest = longest_delay(config, &db).await?;
    let mut run = Run { db: &db, target: &target, done: Erased::default(), days: BTreeSet::new() };
    if args.dry_run {
        run.count().await?;
        return report(&args.output, &run, true, longest);
    }
    let question = format!("Erase what is known of {} {}? It cannot be brought back.", target.kind(), target.value());
    confirm::ask(&question, args.yes)?;
    let (session, _) = relay::open_session(&options).await?;
    let account = erase::begin(&db, &target).await?;
    let erased = match run.erase(account).await {
        Ok(()) => run.sweep(config, &session).await,
        Err(error) => Err(error.into()),
    };
    let error = erased.as_ref().err().map(ToString::to_string);
    erase::account(&db, account, &run.done, Some(error.as_deref().unwrap_or_default())).await?;
    session.close().await;
    report(&args.output, &run, false, longest)?;
    erased
}

/// A copy that waits in a delay queue is dropped when it comes due; nothing can take it out before.
async fn longest_delay(config: &Config, db: &Db) -> Result<Duration, Failure> {
    let declared = erase::longest_delay_ms(db, compose::topology(config).names.prefix()).await?;
    let configured = config.retry.delays().longest().unwrap_or_default();
    Ok(Duration::from_millis(configured.max(declared.unwrap_or_default().unsigned_abs())))
}

impl Run<'_> {
    async fn erase(&mut self, account: i64) -> Result<(), StoreError> {
        // The relay moves events from the one to the other, so this is the order.
        while let moved @ 1.. = erase::outbox(self.db, self.target).await? {
            self.done.from_outbox += moved;
        }
        while let changed @ 1.. = erase::set_aside(self.db, self.target).await? {
            self.done.set_aside += changed;
        }
        for slice in self.slices().await? {
            self.erase_slice(slice, account).await?;
        }
        Ok(())
    }

    async fn erase_slice(&mut self, mut slice: Slice, account: i64) -> Result<(), StoreError> {
        loop {
            let events = erase::next(self.db, self.target, &slice).await?;
            let Some(last) = events.last().copied() else { return Ok(()) };
            let day = Day::of(last);
            let batch = self.batch(day, &events).await?;
            self.add(day, &batch);
            erase::account(self.db, account, &self.done, None).await?;
            slice.from = after(last);
            if (events.len() as i64) < erase::BATCH {
                return Ok(());
            }
        }
    }

    async fn batch(&self, day: Day, events: &[Uuid]) -> Result<Erased, StoreError> {
        let mut tries = 1;
        loop {
            match erase::batch(self.db, self.target, day, events).await {
                Err(error) if error.is_locked() && tries < TRIES => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
            tries += 1;
        }
    }

    async fn count(&mut self) -> Result<(), StoreError> {
        let waiting = erase::waiting(self.db, self.target).await?;
        (self.done.from_outbox, self.done.set_aside) = (waiting.outbox, waiting.set_aside);
        for mut slice in self.slices().await? {
            loop {
                let events = erase::next(self.db, self.target, &slice).await?;
                let Some(last) = events.last().copied() else { break };
                let day = Day::of(last);
                let batch = erase::count(self.db, self.target, day, &events).await?;
                self.add(day, &batch);
                slice.from = after(last);
                if (events.len() as i64) < erase::BATCH {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Bounded parts of the history, or the one event.
    async fn slices(&self) -> Result<Vec<Slice>, StoreError> {
        if let Target::Event(id) = self.target {
            return Ok(vec![Slice { from: *id, to: after(*id) }]);
        }
        let mut slices = Slices::new(self.db, Uuid::nil(), Uuid::max(), Order::OldestFirst).await?;
        let mut all = Vec::new();
        while let Some(slice) = slices.next(self.db).await? {
            all.push(slice);
        }
        Ok(all)
    }

    fn add(&mut self, day: Day, batch: &Erased) {
        let Erased { events, ended, dead, attempts, .. } = *batch;
        if events + ended + dead + attempts > 0 {
            self.days.insert(day.date());
        }
        self.done.events += events;
        self.done.ended += ended;
        self.done.dead += dead;
        self.done.attempts += attempts;
    }

    /// A sweep drops the dead letters of what is erased.
    async fn sweep(&mut self, config: &Config, session: &Session) -> Outcome {
        if !session.try_role_for_a_while(Role::Requeue).await? {
            let text = "a requeue or a reconcile is running, so dead letters were not looked through; run the same again after it";
            return Err(Failure::Failed(text.into()));
        }
        // A worker may just be writing one.
        tokio::time::sleep(GRACE).await;
        let (broker, names) = (compose::broker_settings(config)?, compose::topology(config).names);
        let publisher = Publisher::new(broker.clone(), names.clone(), "posthaste erase");
        let sweep = Sweep { db: self.db.clone(), broker, names, publisher: publisher.clone(), grace: GRACE };
        let swept = sweep.run().await;
        publisher.close().await;
        match swept {
            Ok(swept) => {
                self.done.dead_letters = swept.erased as i64;
                Ok(())
            }
            Err(error) => Err(Failure::Failed(format!(
                "everything is erased from PostgreSQL, but dead letters were not looked through: {error}; run the same again"
            ))),
        }
    }
}

/// The next id.
fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

fn report(output: &cli::Output, run: &Run<'_>, dry_run: bool, longest: Duration) -> Outcome {
    let done = &run.done;
    if output.json {
        return output::json(&json!({
            "dry_run": dry_run, run.target.kind(): run.target.value(), "erased": done, "days": run.days,
            "longest_delay_seconds": longest.as_secs_f64(),
        }));
    }
    let mut lines = vec![
        (run.target.kind(), run.target.value()),
        ("payloads", done.events.to_string()),
        ("in the outbox", done.from_outbox.to_string()),
        ("set aside", done.set_aside.to_string()),
        ("unfinished deliveries", done.ended.to_string()),
    ];
    if dry_run {
        lines.push(("changed", "nothing (--dry-run)".into()));
        return output::pairs(&lines);
    }
    let days: Vec<String> = run.days.iter().map(ToString::to_string).collect();
    let longest = humantime::format_duration(longest);
    lines.extend([
        ("dead deliveries", done.dead.to_string()),
        ("headers and answers", done.attempts.to_string()),
        ("dead letters", done.dead_letters.to_string()),
        ("in delay queues", format!("copies are dropped unsent when they come due, in {longest} at the latest")),
        ("days", if days.is_empty() { "none".into() } else { days.join(", ") }),
    ]);
    output::pairs(&lines)
}
