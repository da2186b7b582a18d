//! The objective: of the deliveries to healthy endpoints, 99 % have their first attempt within a second of the event's commit.

/// Of 1.
pub const OBJECTIVE: f64 = 0.99;
pub const WITHIN_MS: i64 = 1_000;

/// First attempts that count, and those of them that began in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub all: i64,
    pub in_time: i64,
}

impl Counted {
    pub fn plus(self, other: Counted) -> Counted {
        Counted { all: self.all + other.all, in_time: self.in_time + other.in_time }
    }

    /// None without any: nothing was promised.
    pub fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.in_time as f64 / self.all as f64)
    }

    /// The share of what the objective allows to be late that is used up; over 1, it is missed.
    pub fn error_budget_used(&self) -> Option<f64> {
        self.share().map(|share| (1.0 - share) / (1.0 - OBJECTIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_of_a_hundred_uses_the_budget_up() {
        let counted = Counted { all: 60, in_time: 59 }.plus(Counted { all: 40, in_time: 40 });
        assert_eq!(counted.share(), Some(0.99));
        assert!((counted.error_budget_used().unwrap() - 1.0).abs() < 1e-9);
        assert_eq!((Counted::default().share(), Counted::default().error_budget_used()), (None, None));
    }
}
