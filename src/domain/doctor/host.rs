//! The host that the doctor runs on.

use super::{Check, some};

/// Files that a worker may have to open, and may open. `None`: no limit, or it is not told.
pub fn open_files(needed: usize, allowed: Option<usize>) -> Check {
    let name = "host.open_files";
    match allowed {
        None => Check::ok(name, "no limit"),
        Some(allowed) if allowed >= needed => Check::ok(name, format!("{allowed}; a worker needs up to {needed}")),
        Some(allowed) => Check::warn(
            name,
            format!("{allowed}; a worker needs up to {needed}"),
            "raise it (ulimit -n, LimitNOFILE), or lower worker.concurrency",
        ),
    }
}

/// How asking for hosts of endpoints went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub resolved: usize,
    /// Hosts that do not exist, or resolve to addresses that may not be sent to.
    pub refused: Vec<String>,
    /// Hosts for which the name servers gave no answer.
    pub unanswered: Vec<String>,
}

pub fn dns(names: &Names) -> Check {
    let name = "host.dns";
    let asked = names.resolved + names.refused.len() + names.unanswered.len();
    if asked == 0 {
        return Check::ok(name, "no host of an endpoint to ask for");
    }
    let says = format!("{} of {asked} hosts of endpoints resolve", names.resolved);
    if !names.unanswered.is_empty() {
        let says = format!("{says}; no answer for {}", some(&names.unanswered));
        let fix = "see /etc/resolv.conf and the name servers: their failures hold deliveries";
        return if names.resolved == 0 { Check::fail(name, says, fix) } else { Check::warn(name, says, fix) };
    }
    if names.refused.is_empty() {
        return Check::ok(name, says);
    }
    let says = format!("{says}; not {}", some(&names.refused));
    Check::warn(
        name,
        says,
        "these hosts do not exist, or are not public: see `posthaste endpoint list`, delivery.allow_cidrs",
    )
}
