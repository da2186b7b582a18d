//! Claiming batches, tenants in turn, and handing them to the sender.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::adopt;
use super::held::Held;
use super::idle::Idle;
use super::publish::Publishing;
use super::sender::{self, Outbound};
use super::trace;
use crate::broker::silence::Silence;
use crate::domain::turns::{Ask, From, Turns};
use crate::reconnect::Backoff;
use crate::store::claim::{self, Batch, Ceilings, Claim};
use crate::store::{Db, StoreError, outbox, partitions, relay_batches};
use crate::supervise::Supervised;
use crate::telemetry::metrics;
use crate::telemetry::readiness::Readiness;

/// While the broker is blocked or away, ask it this often.
const BLOCKED: Duration = Duration::from_millis(250);
/// While tenants that have had their share wait to be published, others are looked for this often.
const OTHERS: Duration = Duration::from_millis(5);
/// Between a claim that failed and the smaller one. The search for a row that cannot be moved takes several.
const SMALLER: Duration = Duration::from_millis(50);
/// After a claim of which nothing is known it is looked this often, and this long, whether it was committed after all.
const STRAYS: Duration = Duration::from_secs(1);
const STRAYING: Duration = Duration::from_secs(30);

/// Where claims are made, and what they must know.
pub(super) struct Claiming {
    /// It may commit asynchronously.
    pub db: Db,
    pub ceilings: Ceilings,
    pub held: Arc<Held>,
    pub silence: Arc<Silence>,
    pub batch_size: u32,
    pub poll_interval: Duration,
}

struct Claimer {
    claiming: Claiming,
    publishing: Arc<Publishing>,
    readiness: Readiness,
    relay: i64,
    began: Instant,
    turns: Turns,
    outbound: Arc<Outbound>,
    unlist: Vec<i64>,
    strays: Option<Strays>,
}

/// A claim may have been committed without our knowledge: then its batch is listed, and nobody publishes it.
struct Strays {
    next: Instant,
    until: Instant,
}

pub(super) async fn run(
    (claiming, mut idle): (Claiming, Idle),
    publishing: Arc<Publishing>,
    readiness: Readiness,
    relay: i64,
    stop: CancellationToken,
    abandon: CancellationToken,
) {
    let outbound = Arc::new(Outbound::default());
    let mut tasks = Supervised::default();
    tasks.spawn("sender", sender::run(publishing.clone(), outbound.clone(), stop.clone(), abandon));
    let turns = Turns::new(claiming.batch_size);
    let (began, unlist) = (Instant::now(), Vec::new());
    let mut claimer = Claimer { claiming, publishing, readiness, relay, began, turns, outbound, unlist, strays: None };
    let claimed = tasks.during(claimer.until(&mut idle, &stop), &stop).await;
    claimer.outbound.close();
    // What nobody sends any more stays listed. That this task ends too is noticed by the relay.
    if let Err(ended) = claimed.and(tasks.finish().await) {
        return tracing::error!(%ended, "claiming is over");
    }
    claimer.finish().await;
    idle.awake().await;
}

impl Claimer {
    async fn until(&mut self, idle: &mut Idle, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            match self.step(idle, stop).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(%error, failures = backoff.failures(), "a claim failed; trying again");
                    let pause = self.recover(&error, backoff.fail()).await;
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// One claim, or one step towards sleep. Every wait ends with `stop`, but a claim is never left half-way: the server
    /// would commit it all the same, and the batch would wait for its adoption.
    async fn step(&mut self, idle: &mut Idle, stop: &CancellationToken) -> Result<(), StoreError> {
        let ready = async {
            self.broker_ready().await;
            self.outbound.has_room().await;
        };
        tokio::select! {
            () = ready => {}
            () = stop.cancelled() => return Ok(()),
        }
        self.look_for_strays(stop).await?;
        if idle.wants_scan() {
            self.turns.scan_next();
        }
        let crowded = self.outbound.crowded();
        let ask = self.turns.ask(self.now_ms(), &crowded);
        let scanned = matches!(ask.from, From::Everyone { .. });
        let mut found = false;
        if let Some(ask) = self.look(ask, &crowded).await? {
            let batch = self.claim(&ask, &crowded).await?;
            found = batch.events > 0;
            if found {
                self.outbound.add(batch);
                idle.busy().await;
            }
            // A few were all there was, so more is not to be expected at once.
            if found && !matches!(ask.from, From::Few(_)) {
                return Ok(());
            }
        }
        let poll = self.claiming.poll_interval;
        let wait = async {
            match (crowded.is_empty(), found) {
                (true, true) => tokio::time::sleep(poll).await,
                (true, false) => idle.empty(scanned).await,
                (false, _) => self.outbound.changed(OTHERS.max(poll)).await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    /// What to ask for, after a look where that is cheaper. `None`: there is nothing.
    async fn look(&mut self, ask: Ask, crowded: &[String]) -> Result<Option<Ask>, StoreError> {
        if !self.turns.looks_before(&ask, crowded) {
            return Ok(Some(ask));
        }
        let began = Instant::now();
        let db = &self.claiming.db;
        let seen = if crowded.is_empty() { outbox::look(db).await? } else { outbox::look_beside(db, crowded).await? };
        let ask = self.turns.looked(ask, &seen, began.elapsed(), self.now_ms());
        if !seen.is_empty() {
            return Ok(Some(ask));
        }
        // With a claim it costs nothing, and beside crowded tenants there is one soon.
        if crowded.is_empty() {
            self.unlist.extend(self.outbound.take_confirmed());
            relay_batches::unlist(db, &self.unlist).await?;
            self.unlist.clear();
        }
        Ok(None)
    }

    async fn claim(&mut self, ask: &Ask, without: &[String]) -> Result<Batch, StoreError> {
        self.unlist.extend(self.outbound.take_confirmed());
        let began = Instant::now();
        let Claiming { db, ceilings, held, .. } = &self.claiming;
        let claim =
            Claim { relay: self.relay, ask, without, ceilings, confirmed: &self.unlist, behind: &held.behind() };
        let batch = claim::claim(db, claim).await?;
        self.unlist.clear();
        self.turns.claimed(ask, &batch.found, began.elapsed(), self.now_ms());
        trace::claimed(&batch.messages);
        if batch.set_aside > 0 {
            tracing::error!(events = batch.set_aside, "set aside: their ids were used before (posthaste.set_aside)");
        }
        metrics::unmatched(batch.unmatched as u64);
        if batch.unmatched > 0 {
            tracing::debug!(events = batch.unmatched, "recorded; no endpoint matched");
        }
        Ok(batch)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// A relay must not move rows that it cannot publish: they would only wait elsewhere.
    async fn broker_ready(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.publishing.publisher.is_ready().await {
                Ok(true) => {
                    // A connection to a broker that is silent looks as good as before.
                    if !self.claiming.silence.is_on() {
                        self.readiness.ready("broker");
                    }
                    return;
                }
                Ok(false) => {
                    self.readiness.not_ready("broker", "blocked by a memory or disk alarm");
                    tokio::time::sleep(BLOCKED).await;
                }
                Err(error) => {
                    self.readiness.not_ready("broker", error.to_string());
                    tracing::warn!(%error, failures = backoff.failures(), "no broker; not claiming");
                    backoff.pause().await;
                }
            }
        }
    }

    /// What can be done about a claim that failed: a smaller one is tried, down to a single row; a missing day is made; a
    /// row that cannot be moved by itself is set aside. Returns how long to wait: `pause`, where nothing can be done.
    async fn recover(&mut self, error: &StoreError, pause: Duration) -> Duration {
        let single = self.turns.asks_for_one();
        self.turns.failed();
        if !matches!(error, StoreError::Refused { .. }) {
            let now = Instant::now();
            self.strays = Some(Strays { next: now + STRAYS, until: now + STRAYING });
        }
        let blames_data = error.blames_data();
        if !blames_data && !error.is_time_out() {
            return pause;
        }
        if blames_data
            && let Ok(made) = partitions::make_for_outbox(&self.publishing.db).await
            && made > 0
        {
            tracing::info!(partitions = made, "made the partitions of a missed day");
        } else if single && let Err(error) = self.try_one(blames_data).await {
            tracing::warn!(%error, "cannot set aside a row");
            return pause;
        }
        SMALLER
    }

    /// Claims the row whose turn it is, and no other; if that one is refused too, it is set aside. Where it only takes too
    /// long, the other tenants go on.
    async fn try_one(&mut self, blames_data: bool) -> Result<(), StoreError> {
        let Some((tenant, id)) = outbox::next_in_turn(&self.publishing.db, self.turns.after()).await? else {
            return Ok(());
        };
        if !blames_data {
            tracing::error!(event_id = %id, "an event takes longer to fan out than a statement may");
            self.turns.pass_over(tenant);
            return Ok(());
        }
        match self.claim(&Turns::ask_for(tenant, id), &[]).await {
            Ok(batch) => self.outbound.add(batch),
            Err(error) if error.blames_data() => self.set_aside(id, &error).await?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn set_aside(&self, id: Uuid, error: &StoreError) -> Result<(), StoreError> {
        if outbox::set_aside(&self.publishing.db, id, &error.to_string()).await? {
            tracing::error!(event_id = %id, %error, "set aside: the row cannot be moved");
        }
        Ok(())
    }

    /// Publishes what was claimed without our knowledge.
    async fn look_for_strays(&mut self, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = Instant::now();
        let Some(strays) = self.strays.as_mut().filter(|strays| now >= strays.next) else { return Ok(()) };
        strays.next = now + STRAYS;
        if now >= strays.until {
            self.strays = None;
        }
        self.unlist.extend(self.outbound.take_confirmed());
        let known = [self.outbound.known(), self.unlist.clone()].concat();
        adopt::strays(&self.publishing, self.relay, &known, stop).await
    }

    /// Forgets what was confirmed. What is left is adopted by another relay.
    async fn finish(mut self) {
        self.unlist.extend(self.outbound.take_confirmed());
        if let Err(error) = relay_batches::unlist(&self.publishing.db, &self.unlist).await {
            tracing::warn!(%error, "confirmed batches stay listed; adopting them publishes nothing twice that was settled");
        }
    }
}
