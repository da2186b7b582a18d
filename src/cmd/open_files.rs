//! Whether this process may have as many files open as its settings can ask for. One that runs out of them blames itself,
//! and everything waits.

use crate::config::Config;
use crate::http::client::MAX_KEPT_HOSTS;

/// For the connections to PostgreSQL and RabbitMQ, and whatever else.
const OTHERS: usize = 256;

/// Says so where the limit is too low. Systems without `/proc` are believed.
pub fn warn(config: &Config) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let needed = config.worker.capacity.requests + MAX_KEPT_HOSTS + OTHERS;
    if let Some(allowed) = allowed(&limits).filter(|allowed| *allowed < needed) {
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
