//! The circuit of an endpoint: stop sending to one that keeps failing, and find out gently when it is back.
//!
//! The state is stored on the endpoint and shared; the window in which failures are counted is each worker's own. Closed
//! opens with a failure after failures over a count, a share and a time. Open becomes half open when its cool-down has passed (the relay
//! sees to that, and lets a few deliveries go). Half open closes with the first success and opens again, for longer, with
//! the first failure. After closing the endpoint is on probation: the count alone opens it again.

use std::collections::BTreeSet;

use super::outcome::{Class, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub enabled: bool,
    pub min_failures: u32,
    pub min_duration_ms: u64,
    pub failure_share: f64,
    pub cooldown_ms: u64,
    pub max_cooldown_ms: u64,
}

/// What an outcome says about the endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Good,
    Bad,
    /// It answers, which says no more than that it is there: a request to slow down, or a refusal of this one event.
    Answering,
}

/// A change of the stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Open,
    Close,
    /// Probation is over.
    Heal,
}

/// What a worker knows of an endpoint's circuit when it folds an outcome in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circuit {
    pub state: State,
    /// How often it opened since it was last healthy for a whole window.
    pub trips: u32,
}

/// The outcomes since the first failure, in one worker.
#[derive(Debug, Clone, Default)]
pub struct Window {
    since_ms: Option<u64>,
    good: u32,
    bad: u32,
}

/// `permanent`: status codes that refuse one event and say nothing of the endpoint.
pub fn health(outcome: &Outcome, permanent: &BTreeSet<u16>) -> Health {
    let Outcome::Response(response) = outcome else { return Health::Bad };
    match response.class() {
        Class::Delivered => Health::Good,
        // One that is gone is disabled for that.
        Class::Gone | Class::SlowDown { .. } => Health::Answering,
        Class::Failed if permanent.contains(&response.status()) => Health::Answering,
        Class::Failed => Health::Bad,
    }
}

impl Window {
    /// Folds one outcome in. At most one worker's CAS on the stored state succeeds, so a turn may be asked for twice.
    pub fn fold(&mut self, health: Health, circuit: Circuit, rules: &Rules, now_ms: u64) -> Option<Turn> {
        if !rules.enabled {
            return None;
        }
        match circuit.state {
            // The answer to a request from before it opened.
            State::Open => None,
            // Whoever answers is back; what is refused or too much then is another matter.
            State::HalfOpen => {
                *self = Window::default();
                Some(if health == Health::Bad { Turn::Open } else { Turn::Close })
            }
            State::Closed if health == Health::Answering => None,
            State::Closed => self.fold_closed(health, circuit.trips > 0, rules, now_ms),
        }
    }

    fn fold_closed(&mut self, health: Health, probation: bool, rules: &Rules, now_ms: u64) -> Option<Turn> {
        if self.since_ms.is_none() && health == Health::Good && !probation {
            return None;
        }
        let since = *self.since_ms.get_or_insert(now_ms);
        match health {
            Health::Good => self.good = self.good.saturating_add(1),
            _ => self.bad = self.bad.saturating_add(1),
        }
        let spanned = now_ms.saturating_sub(since) >= rules.min_duration_ms;
        let failing = self.share() >= rules.failure_share;
        // Not with a success, whatever came before it: the endpoint may just be back.
        if health == Health::Bad && self.over_the_limits(rules) && (spanned || probation) {
            *self = Window::default();
            return Some(Turn::Open);
        }
        if spanned && !failing {
            // A quiet look at the past: what is good now counts from now.
            *self = Window::default();
            return probation.then_some(Turn::Heal);
        }
        None
    }

    /// Whether what fails now should wait in PostgreSQL, and not in a delay queue: its circuit is not closed, or will open
    /// if this goes on.
    pub fn keeps_failing(&self, circuit: Circuit, rules: &Rules) -> bool {
        rules.enabled && (circuit.state != State::Closed || self.over_the_limits(rules))
    }

    fn over_the_limits(&self, rules: &Rules) -> bool {
        self.bad >= rules.min_failures && self.share() >= rules.failure_share
    }

    fn share(&self) -> f64 {
        f64::from(self.bad) / f64::from((self.good + self.bad).max(1))
    }

    /// Nothing is remembered that could still open the circuit.
    pub fn is_empty(&self) -> bool {
        self.since_ms.is_none()
    }
}

/// How long the circuit stays open: twice as long after each failed probe, within ±20 % so that endpoints that fell
/// together do not come back together. `random` is within 0..1.
pub fn cooldown_ms(rules: &Rules, trips: u32, random: f64) -> u64 {
    let doubled = rules.cooldown_ms.saturating_mul(1 << trips.min(20));
    let capped = doubled.min(rules.max_cooldown_ms.max(rules.cooldown_ms));
    (capped as f64 * (0.8 + 0.4 * random.clamp(0.0, 1.0))) as u64
}

impl State {
    pub const ALL: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;
