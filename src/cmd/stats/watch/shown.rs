//! Two looks as what is shown of them. Pure.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::super::output::plain;
use super::look::Look;

/// Characters of an error in a line.
const ERROR: usize = 60;

pub struct Shown<'a> {
    now: &'a Look,
    /// Per second, since the look before.
    rates: [(&'static str, f64); 4],
}

impl<'a> Shown<'a> {
    pub fn between(before: &Look, now: &'a Look) -> Shown<'a> {
        let seconds = now.instant.duration_since(before.instant).as_secs_f64().max(0.001);
        // Somebody may have reset the statistics.
        let rate = |of: fn(&Look) -> i64| (of(now) - of(before)).max(0) as f64 / seconds;
        let rates = [
            ("emitted", rate(|look| look.counters.emitted)),
            ("claimed", rate(|look| look.counters.claimed)),
            ("deliveries", rate(|look| look.counters.deliveries)),
            ("attempts", rate(|look| look.counters.attempts)),
        ];
        Shown { now, rates }
    }

    fn failed_share(&self) -> Option<f64> {
        let recent = &self.now.recent;
        (recent.attempts > 0).then(|| recent.failures as f64 / recent.attempts as f64)
    }

    pub fn json(&self) -> Value {
        let now = self.now;
        let pairs = |list: &mut dyn Iterator<Item = (String, Value)>| list.collect::<Map<_, _>>();
        let queues = now
            .depths
            .as_ref()
            .map(|ready| pairs(&mut ready.work.iter().map(|(name, n)| ((*name).to_owned(), json!(n)))));
        let tiers =
            now.depths.as_ref().map(|ready| pairs(&mut ready.tiers.iter().map(|(ms, n)| (ms.to_string(), json!(n)))));
        json!({
            "at": now.at,
            "per_second": pairs(&mut self.rates.iter().map(|(name, rate)| ((*name).to_owned(), json!(rate)))),
            "outbox_pending": now.backlog.pending, "outbox_oldest_age_seconds": now.backlog.oldest_age_seconds.max(0.0),
            "retrying": now.unfinished.retrying, "held": now.unfinished.held, "recent": now.recent,
            "failed_share": self.failed_share(),
            "queue_latency_seconds": pairs(&mut now.latencies.iter().map(|(name, s)| (name.clone(), json!(s)))),
            "queue_depth": queues, "waiting_by_tier_ms": tiers, "failing": now.failing,
        })
    }

    /// Whatever somebody else wrote is shown with its control characters escaped.
    pub fn lines(&self) -> Vec<String> {
        let now = self.now;
        let recent = &now.recent;
        let share = self.failed_share().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let mut lines = vec![
            now.at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            format!("per second  {}", joined(self.rates.iter().map(|(name, rate)| format!("{name} {rate:.1}")))),
            format!(
                "outbox      {} pending, the oldest for {:.1} s",
                now.backlog.pending,
                now.backlog.oldest_age_seconds.max(0.0)
            ),
            format!(
                "queues      {}",
                now.depths.as_ref().map_or("no answer from the broker".to_owned(), |ready| {
                    joined(ready.work.iter().map(|(name, messages)| format!("{name} {messages}")))
                })
            ),
            format!(
                "latency     {}",
                joined(now.latencies.iter().map(|(name, s)| format!("{name} {:.0} ms", s * 1_000.0)))
            ),
            format!("unfinished  retrying {}  held {}", now.unfinished.retrying, now.unfinished.held),
        ];
        if let Some(ready) = &now.depths {
            let tiers = ready.tiers.iter().map(|(ms, messages)| format!("{} {messages}", delay(*ms)));
            lines.push(format!("waiting     {}", joined(tiers)));
        }
        lines.push(format!("last minute {} attempts, {share} failed, {} in flight", recent.attempts, recent.in_flight));
        lines.extend(now.failing.iter().map(|failing| {
            let error: String = failing.last_error.as_deref().unwrap_or("-").chars().take(ERROR).collect();
            let text = format!(
                "failing     {}  {}  {} of {}  circuit {}  {error}",
                failing.endpoint_id, failing.tenant, failing.failures, failing.attempts, failing.circuit
            );
            plain(&text).into_owned()
        }));
        lines
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join("  ") }
}

fn delay(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string().replace(' ', "")
}
