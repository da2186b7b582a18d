//! What stands beside the healthy endpoints.

use crate::isolation::options::Beside;
use crate::isolation::receiver::Manner;

/// How many requests an endpoint may have open, by default.
const IN_FLIGHT: f64 = 32.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Control,
    Beside(Beside),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Hardly longer than alone.
    AsAlone,
    /// They notice, within a bound: a burst has the whole machine, or more hang at once than the slow room has seats.
    Bounded,
}

/// Endpoints that behave alike, each of another tenant.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub name: &'static str,
    pub count: usize,
    pub manner: Manner,
    /// Events in a second for each of them.
    pub rate: f64,
    /// Further events for each of them, committed in one transaction, for each second that the period has.
    pub burst: usize,
}

impl Group {
    const fn steady(name: &'static str, count: usize, manner: Manner, rate: f64) -> Group {
        Group { name, count, manner, rate, burst: 0 }
    }

    /// The requests in a second that all of them together can be expected to get; nothing for those that hang.
    pub fn capacity(&self) -> Option<f64> {
        let of_one = match self.manner {
            Manner::Accept(0) => self.rate,
            Manner::Accept(ms) => (IN_FLIGHT / ms as f64 * 1e3).min(self.rate),
            _ => return None,
        };
        (of_one > 0.0).then_some(of_one * self.count as f64)
    }
}

const SLOW_40: Group = Group::steady("answers in 40 ms", 1, Manner::Accept(40), 1_200.0);

impl Kind {
    pub fn groups(self) -> Vec<Group> {
        let hang = |count, rate| Group::steady("hang", count, Manner::Hang, rate);
        let slow_400 = |count| Group::steady("answer in 400 ms", count, Manner::Accept(400), 120.0);
        match self {
            Kind::Control => Vec::new(),
            Kind::Beside(Beside::Prompt100) => vec![Group::steady("prompt", 100, Manner::Accept(0), 10.0)],
            Kind::Beside(Beside::Hang1) => vec![hang(1, 10.0)],
            Kind::Beside(Beside::Hang10) => vec![hang(10, 10.0)],
            Kind::Beside(Beside::Hang100) => vec![hang(100, 10.0)],
            Kind::Beside(Beside::Hang1000Minute) => vec![hang(1_000, 1.0 / 60.0)],
            Kind::Beside(Beside::Hang1000Second) => vec![hang(1_000, 1.0)],
            Kind::Beside(Beside::Slow40) => vec![SLOW_40],
            Kind::Beside(Beside::Slow400) => vec![slow_400(10)],
            Kind::Beside(Beside::Mixture) => vec![hang(20, 10.0), SLOW_40, slow_400(5)],
            Kind::Beside(Beside::MixtureBurst) => {
                let burst = Group { burst: 3_000, ..Group::steady("burst", 1, Manner::Accept(0), 0.0) };
                vec![hang(20, 10.0), SLOW_40, slow_400(5), burst]
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Control => "alone (control)",
            Kind::Beside(Beside::Prompt100) => "100 prompt, 10/s",
            Kind::Beside(Beside::Hang1) => "1 hangs, 10/s",
            Kind::Beside(Beside::Hang10) => "10 hang, 10/s",
            Kind::Beside(Beside::Hang100) => "100 hang, 10/s",
            Kind::Beside(Beside::Hang1000Minute) => "1000 hang, 1/min",
            Kind::Beside(Beside::Hang1000Second) => "1000 hang, 1/s",
            Kind::Beside(Beside::Slow40) => "40 ms, 1200/s",
            Kind::Beside(Beside::Slow400) => "ten of 400 ms, 120/s",
            Kind::Beside(Beside::Mixture) => "mixture",
            Kind::Beside(Beside::MixtureBurst) => "mixture and burst",
        }
    }

    /// What is claimed for the p99 of the healthy ones.
    pub fn claim(self) -> Option<Claim> {
        match self {
            Kind::Control | Kind::Beside(Beside::Prompt100) => None,
            Kind::Beside(Beside::MixtureBurst | Beside::Hang1000Second) => Some(Claim::Bounded),
            Kind::Beside(_) => Some(Claim::AsAlone),
        }
    }
}
