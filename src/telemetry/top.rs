//! Gauges with an endpoint as their label, for the few endpoints that have the most of something. The recorder would go on
//! exporting every series that it has seen once; these are gone when their endpoint is no longer one of the first.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{PoisonError, RwLock};

use uuid::Uuid;

use super::names::Metric;

/// What this process shows.
static TOP: RwLock<Top> = RwLock::new(Top(BTreeMap::new()));

/// By the name of the metric.
struct Top(BTreeMap<&'static str, Family>);

struct Family {
    metric: Metric,
    endpoints: Vec<(Uuid, f64)>,
}

/// From now on these are all series of the metric.
pub(super) fn set(metric: Metric, endpoints: Vec<(Uuid, f64)>) {
    TOP.write().unwrap_or_else(PoisonError::into_inner).set(metric, endpoints);
}

/// As Prometheus reads it.
pub(super) fn render() -> String {
    TOP.read().unwrap_or_else(PoisonError::into_inner).render()
}

impl Top {
    fn set(&mut self, metric: Metric, endpoints: Vec<(Uuid, f64)>) {
        self.0.insert(metric.name, Family { metric, endpoints });
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for Family { metric, endpoints } in self.0.values().filter(|family| !family.endpoints.is_empty()) {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", metric.name, metric.help);
            for (endpoint, value) in endpoints {
                let _ = writeln!(text, "{}{{endpoint=\"{endpoint}\"}} {value}", metric.name);
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names::{TOP_DUE, TOP_HELD};

    #[test]
    fn a_series_is_gone_with_its_endpoint_and_a_metric_with_its_last_one() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut top = Top(BTreeMap::new());
        top.set(TOP_HELD, vec![(first, 7.0), (second, 3.0)]);
        top.set(TOP_DUE, vec![(first, 1.5)]);
        let text = top.render();
        for line in [
            "# TYPE posthaste_endpoint_held_deliveries gauge",
            "posthaste_endpoint_held_deliveries{endpoint=\"00000000-0000-0000-0000-000000000001\"} 7",
            "posthaste_endpoint_held_deliveries{endpoint=\"00000000-0000-0000-0000-000000000002\"} 3",
            "posthaste_endpoint_held_oldest_due_seconds{endpoint=\"00000000-0000-0000-0000-000000000001\"} 1.5",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
        }

        top.set(TOP_HELD, vec![(second, 3.0)]);
        top.set(TOP_DUE, Vec::new());

        let text = top.render();
        assert!(
            text.contains("000002\"} 3\n") && !text.contains("000001") && !text.contains("held_oldest_due_seconds"),
            "{text}"
        );
    }
}
