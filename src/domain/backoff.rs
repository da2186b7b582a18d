//! The retry schedule as a validated value: tiers, jitter slots, and the delay of one delivery's next attempt.
//!
//! A tier is a step of the schedule; a slot is one of the evenly spaced points of that step's jitter window. Each
//! (tier, slot) is one delay queue, so the spread of a burst comes from the number of slots. The slot of a delivery is a
//! stable hash: there is no shared random state, and the same delivery always falls on the same slot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::ids::DeliveryKey;

pub const MAX_DELAY_QUEUES: usize = 200;
/// The broker's limit for `x-message-ttl`.
pub const MAX_TTL_MS: u64 = u32::MAX as u64;
pub const MAX_JITTER_BPS: u32 = 10_000;

/// A named retry policy, ready to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    tiers: Vec<Tier>,
    /// Caps the retries (the initial attempt not counted) at run time; `None` is off.
    pub budget: Option<u32>,
    pub permanent_status_codes: BTreeSet<u16>,
    /// The longest wait of one delivery that a receiver may ask for, and of its endpoint as a whole.
    pub max_retry_after: Duration,
    pub max_pause: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tier {
    base_ms: u64,
    /// The delay of each slot, in milliseconds, ascending; equal ones are one queue.
    slots: Vec<u64>,
}

/// What a policy is made of, as configured.
#[derive(Debug, Clone)]
pub struct Settings {
    pub schedule: Vec<Duration>,
    pub jitter_bps: u32,
    pub slots: u32,
    pub budget: u32,
    pub permanent_status_codes: BTreeSet<u16>,
    /// The longest wait of one delivery that a receiver may ask for, and of its endpoint as a whole.
    pub max_retry_after: Duration,
    pub max_pause: Duration,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("schedule: is empty; list at least one delay, for example [\"30s\", \"2m\"]")]
    EmptySchedule,
    #[error("schedule: {steps} delays are more than the {MAX_DELAY_QUEUES} delay queues allowed; shorten the schedule")]
    TooManySteps { steps: usize },
    #[error("schedule: delay {index} is zero; the shortest delay is 1ms")]
    ZeroDelay { index: usize },
    #[error(
        "schedule: delay {index} is {ms} ms with jitter, over the broker's limit of {MAX_TTL_MS} ms (about 49 days); shorten it or lower jitter_bps"
    )]
    TooLong { index: usize, ms: u64 },
    #[error("slots: is 0; use 1 to {MAX_DELAY_QUEUES}")]
    NoSlots,
    #[error("permanent_status_codes: {0} is not an HTTP status code that can fail (300 to 599)")]
    StatusCode(u16),
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "retry: the policies need {needed} delay queues, over the limit of {MAX_DELAY_QUEUES}; lower retry.slots or shorten the schedules"
)]
pub struct TooManyQueues {
    pub needed: usize,
}

impl Policy {
    pub fn new(name: &str, settings: &Settings) -> Result<Policy, PolicyError> {
        let steps = settings.schedule.len();
        match steps {
            0 => return Err(PolicyError::EmptySchedule),
            _ if steps > MAX_DELAY_QUEUES => return Err(PolicyError::TooManySteps { steps }),
            _ if settings.slots == 0 => return Err(PolicyError::NoSlots),
            _ => {}
        }
        if let Some(code) = settings.permanent_status_codes.iter().find(|code| !(300..=599).contains(*code)) {
            return Err(PolicyError::StatusCode(*code));
        }
        let slots = (settings.slots as usize).min(MAX_DELAY_QUEUES / steps);
        let jitter_bps = settings.jitter_bps.min(MAX_JITTER_BPS);
        let tiers = settings
            .schedule
            .iter()
            .enumerate()
            .map(|(index, base)| Tier::new(index + 1, *base, jitter_bps, slots))
            .collect::<Result<_, _>>()?;
        Ok(Policy {
            name: name.to_owned(),
            tiers,
            budget: (settings.budget > 0).then_some(settings.budget),
            permanent_status_codes: settings.permanent_status_codes.clone(),
            max_retry_after: settings.max_retry_after,
            max_pause: settings.max_pause,
        })
    }

    /// The initial attempt and one per delay of the schedule.
    pub fn max_attempts(&self) -> i32 {
        1 + self.tiers.len() as i32
    }

    /// The base delays, in milliseconds.
    pub fn schedule_ms(&self) -> impl Iterator<Item = u64> + '_ {
        self.tiers.iter().map(|tier| tier.base_ms)
    }

    /// The delay before the attempt that follows the `made`-th one since the last requeue (`made` counts from 1).
    ///
    /// A delivery whose persisted `max_attempts` outlives a schedule that was shortened stays on the last tier.
    pub fn delay_ms(&self, made: i32, slot_seed: u64) -> u64 {
        let tier = &self.tiers[(made.max(1) as usize - 1).min(self.tiers.len() - 1)];
        tier.slots[(slot_seed % tier.slots.len() as u64) as usize]
    }

    /// Every delay that needs a queue.
    pub fn delays_ms(&self) -> BTreeSet<u64> {
        self.tiers.iter().flat_map(|tier| tier.slots.iter().copied()).collect()
    }

    /// Retries at most under this budget: one for each delay of the schedule, unless the budget ends sooner.
    pub fn retries(&self, budget: Option<u32>) -> u32 {
        let scheduled = self.tiers.len() as u32;
        budget.map_or(scheduled, |budget| budget.min(scheduled))
    }

    /// The longest time from commit to the dead letter, if every attempt takes its whole time-out and no receiver asks for
    /// time.
    pub fn worst_case(&self, budget: Option<u32>, timeout: Duration) -> Duration {
        self.worst(budget, timeout, Duration::ZERO)
    }

    /// The same where every answer asks for the longest wait that is granted. What is held for its endpoint comes on top.
    pub fn worst_case_when_asked(&self, budget: Option<u32>, timeout: Duration) -> Duration {
        self.worst(budget, timeout, self.max_retry_after)
    }

    fn worst(&self, budget: Option<u32>, timeout: Duration, asked: Duration) -> Duration {
        let retries = self.retries(budget);
        let longest = |tier: &Tier| Duration::from_millis(tier.slots[tier.slots.len() - 1]).max(asked);
        let waits: Duration = self.tiers.iter().take(retries as usize).map(longest).sum();
        waits + timeout * (retries + 1)
    }
}

impl Tier {
    fn new(index: usize, base: Duration, jitter_bps: u32, slots: usize) -> Result<Tier, PolicyError> {
        if base.is_zero() {
            return Err(PolicyError::ZeroDelay { index });
        }
        let base_ms = base.as_millis();
        let longest = base_ms * u128::from(MAX_JITTER_BPS + jitter_bps) / u128::from(MAX_JITTER_BPS);
        if longest > u128::from(MAX_TTL_MS) {
            return Err(PolicyError::TooLong { index, ms: longest.min(u128::from(u64::MAX)) as u64 });
        }
        let slots = (0..slots).map(|slot| slot_ms(base, jitter_bps, slot, slots)).collect();
        Ok(Tier { base_ms: (base_ms as u64).max(1), slots })
    }
}

/// base x (1 - j + 2j x (slot + 0.5) / slots): evenly spaced, symmetric, so the mean stays the base.
fn slot_ms(base: Duration, jitter_bps: u32, slot: usize, slots: usize) -> u64 {
    let jitter = f64::from(jitter_bps) / f64::from(MAX_JITTER_BPS);
    let point = (slot as f64 + 0.5) / slots as f64;
    let ms = base.as_secs_f64() * 1000.0 * (1.0 - jitter + 2.0 * jitter * point);
    (ms.round() as u64).clamp(1, MAX_TTL_MS)
}

/// The stable hash that places a delivery's next wait on a slot.
pub fn slot_seed(key: DeliveryKey, attempt: i32) -> u64 {
    let digest = Sha256::new()
        .chain_update(key.event_id.as_bytes())
        .chain_update(key.endpoint_id.as_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// All policies of a configuration: the default one and the named ones.
#[derive(Debug, Clone)]
pub struct Policies {
    default: Policy,
    named: BTreeMap<String, Policy>,
    delays: DelayQueues,
}

impl Policies {
    pub fn new(default: Policy, named: BTreeMap<String, Policy>) -> Result<Policies, TooManyQueues> {
        let delays: BTreeSet<u64> =
            std::iter::once(&default).chain(named.values()).flat_map(Policy::delays_ms).collect();
        if delays.len() > MAX_DELAY_QUEUES {
            return Err(TooManyQueues { needed: delays.len() });
        }
        Ok(Policies { default, named, delays: DelayQueues(delays) })
    }

    /// The named policy, or the default where the endpoint names none or one that is no longer configured.
    pub fn get(&self, name: Option<&str>) -> &Policy {
        name.and_then(|name| self.named.get(name)).unwrap_or(&self.default)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    pub fn default_policy(&self) -> &Policy {
        &self.default
    }

    pub fn named(&self) -> impl Iterator<Item = &Policy> {
        self.named.values()
    }

    pub fn delays(&self) -> &DelayQueues {
        &self.delays
    }

    /// The base delay of the first tier that uses a delay queue; none where the schedules have changed since.
    pub fn tier_of(&self, delay_ms: u64) -> Option<u64> {
        let tiers = std::iter::once(&self.default).chain(self.named.values()).flat_map(|policy| &policy.tiers);
        let mut using = tiers.filter(|tier| tier.slots.contains(&delay_ms));
        using.next().map(|tier| tier.base_ms)
    }
}

/// The delays, in milliseconds, for which a queue exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayQueues(BTreeSet<u64>);

impl DelayQueues {
    pub fn new(delays: impl IntoIterator<Item = u64>) -> DelayQueues {
        DelayQueues(delays.into_iter().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest queue that waits at least as long as asked: a retry is never early. `None` when none is that long.
    pub fn at_least(&self, ms: u64) -> Option<u64> {
        self.0.range(ms..).next().copied()
    }

    /// The longest queue, for what is further away than any queue reaches.
    pub fn longest(&self) -> Option<u64> {
        self.0.last().copied()
    }
}

#[cfg(test)]
#[path = "backoff_tests.rs"]
pub mod tests;
