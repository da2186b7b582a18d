//! Looking for endpoints whose held deliveries may be released, and for those that are behind.
//!
//! Two looks in each tick. A slow one goes round through all endpoints that have held deliveries, a page at a time within a
//! share of the tick, so that disabled ones in any number keep nobody from being found. What it finds due is active, and
//! is looked at in each tick from then on, by its id.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::Utc;
use uuid::Uuid;

use crate::domain::circuit::State;
use crate::domain::flows::{BEHIND_MS, Due};
use crate::domain::window::Mode;
use crate::store::days::Day;
use crate::store::held::{self, HeldEndpoint};
use crate::store::{Db, StoreError};

/// Deliveries let go to find out whether an endpoint is back.
const PROBES: u32 = 3;
/// How often all days are asked whether they have held deliveries. The days of new events are asked in each tick.
const ALL_DAYS: Duration = Duration::from_secs(2);
/// Events may be this far ahead of the clock.
const AHEAD: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// Endpoints read with one statement of the slow look.
const PAGE: i64 = 500;
/// The share of a tick that the slow look takes.
const SHARE: Duration = Duration::from_millis(20);
/// What is due this soon is active already.
const SOON_MS: i64 = 1_000;
/// Endpoints that a claim is told of: it compares each new delivery with all of them. One that is left out costs its
/// deliveries a trip through the broker, and nobody else anything.
const MOST_BEHIND: usize = 2_000;
/// Active endpoints looked at in one tick; more of them take turns.
const TURN: usize = 1_000;
/// Active endpoints kept in mind. Beyond that, one that has had its turn makes room; the slow look finds it again.
const ACTIVE: usize = 20_000;

/// What the slow look has read of one day.
pub(super) struct Page {
    pub(super) day: Day,
    pub(super) held: Vec<HeldEndpoint>,
}

/// An active endpoint whose time has come, and the days that have deliveries for it.
pub(super) struct Waiting {
    pub(super) due: Due,
    pub(super) days: BTreeSet<Day>,
}

#[derive(Default)]
pub(super) struct HeldEndpoints {
    days: Vec<Day>,
    with_any: BTreeSet<Day>,
    asked_all: Option<Instant>,
    /// Where the slow look goes on.
    next: Option<(Day, Uuid)>,
    active: HashMap<Uuid, Active>,
    turns: VecDeque<Uuid>,
    ticks: usize,
}

#[derive(Default)]
struct Active {
    days: BTreeSet<Day>,
    behind: bool,
}

impl HeldEndpoints {
    /// Finds out which days have held deliveries at all.
    pub(super) async fn find_days(&mut self, db: &Db) -> Result<Vec<Day>, StoreError> {
        if self.asked_all.is_none_or(|last| last.elapsed() >= ALL_DAYS) {
            // A failure asks again in the next tick: a day may just have been dropped.
            self.asked_all = None;
            self.days = held::days(db).await?;
            self.with_any = held::days_with_any(db, &self.days).await?.into_iter().collect();
            self.asked_all = Some(Instant::now());
        } else {
            let fresh = self.fresh_days();
            let found = held::days_with_any(db, &fresh).await.inspect_err(|_| self.asked_all = None)?;
            self.with_any.retain(|day| !fresh.contains(day));
            self.with_any.extend(found);
        }
        Ok(self.with_any.iter().copied().collect())
    }

    /// Yesterday, today and, shortly before midnight, tomorrow, as far as they have partitions.
    fn fresh_days(&self) -> Vec<Day> {
        let now = Utc::now();
        let times = [now - chrono::TimeDelta::days(1), now, now + AHEAD];
        let fresh: BTreeSet<Day> = times.iter().map(|time| Day::from(time.date_naive())).collect();
        self.days.iter().copied().filter(|day| fresh.contains(day)).collect()
    }

    /// Goes on with the slow look, one page at least, and at most once round.
    pub(super) async fn look_round(&mut self, db: &Db) -> Result<Vec<Page>, StoreError> {
        let began = Instant::now();
        let mut pages = Vec::new();
        let mut finished = 0;
        while finished < self.with_any.len() {
            let Some((day, after)) = self.place() else { break };
            let held = held::page(db, day, after, PAGE).await?;
            self.next = match held.last() {
                Some(last) if held.len() as i64 == PAGE => Some((day, last.endpoint_id)),
                _ => {
                    finished += 1;
                    self.day_after(day).map(|day| (day, Uuid::nil()))
                }
            };
            held.iter().for_each(|held| self.found(day, held));
            pages.push(Page { day, held });
            if began.elapsed() >= SHARE {
                break;
            }
        }
        Ok(pages)
    }

    fn place(&self) -> Option<(Day, Uuid)> {
        let (day, after) = self.next.or_else(|| Some((*self.with_any.first()?, Uuid::nil())))?;
        match self.with_any.contains(&day) {
            true => Some((day, after)),
            false => self.day_after(day).map(|day| (day, Uuid::nil())),
        }
    }

    fn day_after(&self, day: Day) -> Option<Day> {
        let later = self.with_any.iter().find(|other| **other > day);
        later.or_else(|| self.with_any.first()).copied()
    }

    fn found(&mut self, day: Day, held: &HeldEndpoint) {
        if mode(held).is_none() || held.due_in_ms > SOON_MS {
            return;
        }
        let endpoint = held.endpoint_id;
        if !self.active.contains_key(&endpoint) {
            if self.active.len() >= ACTIVE {
                return;
            }
            self.turns.push_back(endpoint);
        }
        self.active.entry(endpoint).or_default().days.insert(day);
    }

    /// Looks at active endpoints by their ids. Returns those whose time has come, beginning elsewhere each time.
    pub(super) async fn look_at_active(&mut self, db: &Db, max_in_flight: u32) -> Result<Vec<Waiting>, StoreError> {
        let turn: Vec<Uuid> = self.turns.iter().take(TURN).copied().collect();
        let mut by_day: BTreeMap<Day, Vec<Uuid>> = BTreeMap::new();
        for endpoint in &turn {
            for day in self.active.get(endpoint).iter().flat_map(|active| &active.days) {
                by_day.entry(*day).or_default().push(*endpoint);
            }
        }
        let mut seen: HashMap<Uuid, Vec<(Day, HeldEndpoint)>> = HashMap::new();
        for (day, endpoints) in by_day {
            for held in held::of(db, day, &endpoints).await? {
                seen.entry(held.endpoint_id).or_default().push((day, held));
            }
        }
        self.turns.drain(..turn.len());
        let full = self.turns.len() + turn.len() >= ACTIVE;
        let mut waiting: Vec<Waiting> = Vec::new();
        for endpoint in turn {
            let days = seen.remove(&endpoint).unwrap_or_default();
            waiting.extend(waiting_of(&days, max_in_flight));
            self.had_its_turn(endpoint, &days, full);
        }
        self.ticks += 1;
        let begin = self.ticks % waiting.len().max(1);
        waiting.rotate_left(begin);
        Ok(waiting)
    }

    fn had_its_turn(&mut self, endpoint: Uuid, days: &[(Day, HeldEndpoint)], full: bool) {
        let stays = days.iter().any(|(_, held)| mode(held).is_some() && held.due_in_ms <= SOON_MS);
        if !stays || full {
            self.active.remove(&endpoint);
            return;
        }
        self.turns.push_back(endpoint);
        let active = self.active.entry(endpoint).or_default();
        active.days = days.iter().map(|(day, _)| *day).collect();
        active.behind = days.iter().any(|(_, held)| held.due_in_ms < -BEHIND_MS);
    }

    /// Endpoints with a held delivery that has been due for longer than two ticks.
    pub(super) fn behind(&self) -> Vec<Uuid> {
        let behind = self.active.iter().filter(|(_, active)| active.behind).map(|(endpoint, _)| *endpoint);
        behind.take(MOST_BEHIND).collect()
    }
}

fn waiting_of(days: &[(Day, HeldEndpoint)], max_in_flight: u32) -> Option<Waiting> {
    let due: Vec<&(Day, HeldEndpoint)> = days.iter().filter(|(_, held)| held.due_in_ms <= 0).collect();
    let (_, held) = due.first()?;
    let max_in_flight = held.max_in_flight.map_or(max_in_flight, |most| most.max(1) as u32);
    let due_now = Due { endpoint_id: held.endpoint_id, mode: mode(held)?, max_in_flight, rate_limit: held.rate_limit };
    Some(Waiting { due: due_now, days: due.iter().map(|(day, _)| *day).collect() })
}

/// `None`: nothing may be let go.
fn mode(held: &HeldEndpoint) -> Option<Mode> {
    match (held.exists && held.enabled && !held.paused, held.circuit()) {
        (false, _) | (_, State::Open) => None,
        (true, State::HalfOpen) => Some(Mode::Probe(PROBES)),
        (true, State::Closed) if held.circuit_trips > 0 => Some(Mode::Ramp),
        (true, State::Closed) => Some(Mode::Full),
    }
}
