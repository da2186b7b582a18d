//! A broker that says nothing at all: it is frozen, or the network swallows what is said. Its connections look as good as before
//! until heartbeats have been missing for twice their interval, which is too late for who watches this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{BrokerError, Result};

/// For the answer to a question that takes no time.
pub const LIMIT: Duration = Duration::from_secs(6);

/// What is said of it.
pub const REASON: &str = "the broker is silent: it has not answered for 6 s";

/// Whether the last question was left without an answer.
#[derive(Debug, Default)]
pub struct Silence(AtomicBool);

impl Silence {
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks, for no longer than `LIMIT`. An error is an answer, too.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = LIMIT;
        let operation = "a question whether it answers";
        let late = |_| Err(BrokerError::TimedOut { operation, limit });
        let answer = tokio::time::timeout(limit, question).await.unwrap_or_else(late);
        self.note(&answer);
        answer
    }

    fn note<T>(&self, answer: &Result<T>) {
        self.0.store(matches!(answer, Err(BrokerError::TimedOut { .. })), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_does_not_answer_is_silent() {
        let silence = Silence::default();
        let refused = BrokerError::Refused { code: 403, text: "no".into() };
        for (answer, is_silent) in [
            (Err(BrokerError::TimedOut { operation: "queue.declare", limit: LIMIT }), true),
            (Err(refused), false),
            (Err(BrokerError::TimedOut { operation: "connect", limit: LIMIT }), true),
            (Ok(()), false),
        ] {
            silence.note(&answer);
            assert_eq!(silence.is_on(), is_silent, "{answer:?}");
        }
        assert!(REASON.contains(&format!(" {} s", LIMIT.as_secs())));
    }
}
