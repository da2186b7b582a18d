//! The healthy endpoints that every measurement of fairness looks at: 50 of them, each of another tenant, one event a second
//! for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::isolation::figures::quantile;
use crate::isolation::latency::{self, Taken};
use crate::isolation::load::{Sent, steady_while};
use crate::isolation::receiver::Manner;
use crate::isolation::stack::{Customer, Stack};

const ENDPOINTS: usize = 50;
/// Events in a second.
pub const RATE: f64 = 50.0;
/// After the last commit: an event that takes longer than this is missing.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Healthy(Arc<Vec<Customer>>);

/// How long the events of a stretch took.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Taken>);

impl Healthy {
    pub async fn add(stack: &Stack) -> Result<Healthy, String> {
        Ok(Healthy(Arc::new(stack.customers("healthy", ENDPOINTS, Manner::Accept(0)).await?)))
    }

    /// For so long.
    pub async fn commit(&self, stack: &Stack, time: Duration) -> Result<Vec<Sent>, String> {
        self.commit_while(stack, |due| due < time).await
    }

    pub async fn commit_while(&self, stack: &Stack, go_on: impl Fn(Duration) -> bool) -> Result<Vec<Sent>, String> {
        steady_while(&stack.db, self.0.clone(), RATE, go_on, |event| event % self.0.len()).await
    }

    /// While the work goes on.
    pub async fn beside<T>(
        &self,
        stack: &Stack,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<(T, Times), String> {
        let ended = AtomicBool::new(false);
        let working = async {
            let out = work.await;
            ended.store(true, Ordering::Relaxed);
            out
        };
        let committing = self.commit_while(stack, |_| !ended.load(Ordering::Relaxed));
        let (out, sent) = tokio::try_join!(working, committing)?;
        Ok((out, self.times(&sent).await))
    }

    /// Waits for the events that were committed.
    pub async fn times(&self, sent: &[Sent]) -> Times {
        let mut taken = latency::all(&self.0, sent, PATIENCE).await;
        taken.sort_by_key(|taken| taken.committed);
        Times(taken)
    }

    pub async fn over(&self, stack: &Stack, time: Duration) -> Result<Times, String> {
        let sent = self.commit(stack, time).await?;
        Ok(self.times(&sent).await)
    }
}

impl Times {
    /// In milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        quantile(&self.ms(), share)
    }

    pub fn ms(&self) -> Vec<f64> {
        self.0.iter().map(|taken| taken.ms).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn missing(&self) -> usize {
        self.0.iter().filter(|taken| taken.ms.is_infinite()).count()
    }

    /// The p90 of the second half over that of the first: what grows is above 1. All quantiles of a queue grow, and the p99 of
    /// so few events is mostly chance.
    pub fn growth(&self) -> f64 {
        let half = |taken: &[Taken]| quantile(&taken.iter().map(|taken| taken.ms).collect::<Vec<_>>(), 0.9);
        let (first, second) = self.0.split_at(self.0.len() / 2);
        match (half(first), half(second)) {
            (_, second) if second.is_infinite() => f64::INFINITY,
            (first, second) => second / first.max(1e-3),
        }
    }

    /// Those that were committed within this time.
    pub fn between(&self, from: Instant, until: Instant) -> Times {
        let within = |taken: &&Taken| (from..until).contains(&taken.committed);
        Times(self.0.iter().filter(within).copied().collect())
    }

    pub fn and(mut self, other: &Times) -> Times {
        self.0.extend(&other.0);
        self
    }

    /// A quantile of each second, with the second's number.
    pub fn each_second(&self, began: Instant, share: f64) -> Vec<(f64, f64)> {
        let second = |taken: &Taken| taken.committed.saturating_duration_since(began).as_secs();
        let quantile = |chunk: &[Taken]| {
            let ms: Vec<f64> = chunk.iter().map(|taken| taken.ms).filter(|ms| ms.is_finite()).collect();
            (second(&chunk[0]) as f64, quantile(&ms, share))
        };
        self.0.chunk_by(|a, b| second(a) == second(b)).map(quantile).collect()
    }

    pub fn text(&self) -> String {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        let missing = match self.missing() {
            0 => String::new(),
            missing => format!(", {missing} MISSING"),
        };
        format!("p50 {p50:>7.1}  p99 {p99:>7.1}  max {max:>7.1} ms{missing}")
    }
}
