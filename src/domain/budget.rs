//! The retry budget in force: what an operator has set while the service runs wins over the configuration.
//!
//! A budget counts the retries of one delivery, and anew after a requeue. So one failing endpoint cannot use up what another
//! needs, and whoever requeues a delivery means that it is tried again.

use super::backoff::{Policies, Policy};

/// What is stored for the policy that an endpoint names, and for the default one. 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub named: Option<u32>,
    pub default: Option<u32>,
}

impl Stored {
    /// The budget of an endpoint that names this policy; one that is no longer configured is the default one.
    pub fn in_force(&self, policies: &Policies, name: Option<&str>) -> Option<u32> {
        let is_named = name.is_some_and(|name| policies.contains(name));
        in_force(policies.get(name), if is_named { self.named } else { self.default })
    }
}

pub fn in_force(policy: &Policy, stored: Option<u32>) -> Option<u32> {
    match stored {
        Some(0) => None,
        Some(budget) => Some(budget),
        None => policy.budget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backoff::tests::settings;

    #[test]
    fn what_is_stored_wins_and_a_policy_that_is_not_configured_is_the_default_one() {
        let policy = |name: &str, budget| {
            let settings = crate::domain::backoff::Settings { budget, ..settings(&[1_000, 2_000, 3_000], 0, 1) };
            Policy::new(name, &settings).unwrap()
        };
        let policies = Policies::new(policy("default", 2), [("gold".to_owned(), policy("gold", 0))].into()).unwrap();
        let stored = Stored { named: Some(1), default: Some(0) };
        assert_eq!(stored.in_force(&policies, Some("gold")), Some(1));
        assert_eq!(stored.in_force(&policies, Some("gone")), None, "0 lifts the configured one");
        assert_eq!(stored.in_force(&policies, None), None);
        let none = Stored::default();
        assert_eq!(
            [Some("gold"), Some("gone"), None].map(|name| none.in_force(&policies, name)),
            [None, Some(2), Some(2)]
        );
    }
}
