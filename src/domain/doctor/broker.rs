//! RabbitMQ.

use super::{Check, some};

/// Older ones have no quorum queues that dead-letter at least once.
const OLDEST: (u32, u32) = (3, 10);
const TRIED: [(u32, u32); 2] = [(3, 10), (4, 0)];
const SLOW_MS: f64 = 100.0;

pub fn connection(answer_ms: f64) -> Check {
    let says = format!("connected in {answer_ms:.0} ms");
    if answer_ms < SLOW_MS {
        return Check::ok("broker.connection", says);
    }
    Check::warn("broker.connection", says, "the broker is far away or busy; its confirms set the pace of everything")
}

/// As the broker greets. `None`: it could not be asked.
pub fn version(version: Option<&str>) -> Check {
    let name = "broker.version";
    let Some(version) = version else {
        return Check::unknown(
            name,
            "the broker's greeting could not be read",
            "see `rabbitmqctl version`; 3.10 or later is needed",
        );
    };
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
        return Check::unknown(name, format!("RabbitMQ {version}"), "this is no version that was expected");
    };
    if (major, minor) < OLDEST {
        return Check::fail(name, format!("RabbitMQ {version} is too old"), "upgrade to 3.10 or later");
    }
    if TRIED.contains(&(major, minor)) {
        return Check::ok(name, format!("RabbitMQ {version}"));
    }
    Check::warn(
        name,
        format!("RabbitMQ {version}, on which the tests were not run"),
        "3.10 and 4.0 were tested; scripts/test runs on any",
    )
}

/// What differs from the configuration. `compared`: the arguments, too, and not only that the queues exist.
pub fn topology(queues: usize, differences: &[String], compared: bool) -> Check {
    let name = "broker.topology";
    match (differences, compared) {
        ([], true) => Check::ok(name, format!("all {queues} queues and their exchanges are as configured")),
        ([], false) => Check::ok(name, format!("all {queues} queues exist; this user may not compare their arguments")),
        (differences, _) => Check::fail(
            name,
            format!("{} differences: {}", differences.len(), some(differences)),
            "`posthaste topology check` lists them; `posthaste topology declare` makes what is missing",
        ),
    }
}

/// What the management API says of the file handles of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handles {
    NotAsked,
    NoAnswer(String),
    /// This version reserves none for queues.
    NotCounted,
    /// Of the node that has the fewest left.
    Counted {
        total: u64,
        used: u64,
    },
}

/// What the queues need, and what the broker has left.
pub fn file_handles(queues: usize, needed: usize, handles: &Handles) -> Check {
    let name = "broker.file_handles";
    let needs = format!("{queues} queues, for which RabbitMQ 3 reserves {needed} file handles");
    let fix = "raise the limit (LimitNOFILE, ulimit -n) of the broker, or have fewer delays, retry.slots or policies";
    match handles {
        Handles::NotAsked => {
            Check::unknown(name, needs, "set broker.management_url, or compare with `rabbitmqctl status`")
        }
        Handles::NoAnswer(why) => Check::unknown(
            name,
            format!("{needs}; the management API: {why}"),
            "see broker.management_url and its user's tag",
        ),
        Handles::NotCounted => Check::ok(name, format!("{queues} queues; this RabbitMQ does not count file handles")),
        Handles::Counted { total, used } => {
            let says = format!("{needs}; the broker may open {total} and has {used} open");
            // The queues that exist already are among those in use.
            let is_enough = (needed as u64) < *total && *used < total / 10 * 9;
            if is_enough { Check::ok(name, says) } else { Check::fail(name, says, fix) }
        }
    }
}

/// Messages in the queue of dead letters.
pub fn dead_letters(messages: u32) -> Check {
    let name = "flow.dead_letters";
    if messages == 0 {
        return Check::ok(name, "no dead letters");
    }
    Check::warn(
        name,
        format!("messages in the queue of dead letters: {messages}"),
        "`posthaste dead list` says why they died; `posthaste requeue` sends them again",
    )
}

/// A message that nobody gets was published and confirmed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Confirmed,
    Blocked,
    Silent,
    /// This user may not publish.
    Refused,
}

pub fn alarm(probe: Probe) -> Check {
    let name = "broker.alarm";
    let fix = "`rabbitmq-diagnostics alarms` names it: free memory or disk of the broker; nothing is lost meanwhile";
    match probe {
        Probe::Confirmed => Check::ok(name, "no alarm: messages were taken and confirmed"),
        Probe::Blocked => Check::fail(name, "the broker has an alarm and takes no messages", fix),
        Probe::Silent => Check::fail(name, "a message was not confirmed in time", fix),
        Probe::Refused => Check::unknown(
            name,
            "this user may not publish",
            "run it as the relay's user, or see `rabbitmq-diagnostics alarms`",
        ),
    }
}
