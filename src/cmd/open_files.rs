//! Whether this process may have as many files open as its settings can ask for. One that runs out of them blames itself,
//! and everything waits.

use crate::config::Config;
use crate::http::client::MAX_KEPT_HOSTS;

/// For the connections to PostgreSQL and RabbitMQ, and whatever else.
const OTHERS: usize = 256;
/// Of a worker, beside those of its requests.
pub const BESIDE_REQUESTS: usize = MAX_KEPT_HOSTS + OTHERS;

/// Files that a worker with these settings may need, and what this process may open. Systems without `/proc` are believed.
pub fn needed_and_allowed(config: &Config) -> (usize, Option<usize>) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    (config.worker.capacity.requests + BESIDE_REQUESTS, allowed(&limits))
}

/// Says so where the limit is too low.
pub fn warn(config: &Config) {
    let (needed, allowed) = needed_and_allowed(config);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "the limit of open files is low: with many slow endpoints the worker may run out of them; raise it (ulimit -n, LimitNOFILE), or lower worker.concurrency"
        );
    }
}

/// The soft limit. `None`: there is none, or it is not told.
fn allowed(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             63000                63000                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(allowed(limits), Some(1024));
        assert_eq!(allowed("Max open files            unlimited            unlimited            files\n"), None);
        assert_eq!(allowed(""), None);
    }
}
