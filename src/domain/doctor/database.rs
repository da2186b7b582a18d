//! PostgreSQL, and what is in it.

use super::{Check, some};

const OLDEST: i32 = 140_000;
/// Versions that the tests ran on.
const TRIED: [i32; 2] = [15, 17];
const SLOW_MS: f64 = 50.0;
const SKEW_MS: f64 = 1_000.0;
const BAD_SKEW_MS: f64 = 60_000.0;
/// Signatures are refused by receivers when their time is this far off.
const TOLERANCE: &str = "receivers refuse signatures that are 5 minutes off";
const OLD_TRANSACTION_S: f64 = 300.0;
const VERY_OLD_TRANSACTION_S: f64 = 3_600.0;
const OLD_OUTBOX_S: f64 = 60.0;
const OLD_BATCH_S: f64 = 60.0;
const OLD_MARKER_S: f64 = 60.0;

pub fn connection(answer_ms: f64) -> Check {
    let says = format!("connected; a statement takes {answer_ms:.1} ms");
    if answer_ms < SLOW_MS {
        return Check::ok("database.connection", says);
    }
    Check::warn(
        "database.connection",
        says,
        "an event takes several statements: run relays and workers near the database",
    )
}

pub fn version(number: i32, is_standby: bool) -> Check {
    let (name, major) = ("database.version", number / 10_000);
    if is_standby {
        return Check::fail(
            name,
            format!("PostgreSQL {major}, a standby that takes no writes"),
            "connect to the primary (database.url)",
        );
    }
    if number < OLDEST {
        return Check::fail(name, format!("PostgreSQL {major} is too old"), "upgrade to 14 or later");
    }
    if TRIED.contains(&major) {
        return Check::ok(name, format!("PostgreSQL {major}"));
    }
    Check::warn(
        name,
        format!("PostgreSQL {major}, on which the tests were not run"),
        "15 and 17 were tested; scripts/test runs on any",
    )
}

/// Migrations of this program that the database does not have.
pub fn schema(missing: usize) -> Check {
    if missing == 0 {
        return Check::ok("database.schema", "up to date");
    }
    Check::fail("database.schema", format!("{missing} migrations are missing"), "run `posthaste migrate`")
}

/// Positive: the server's clock is ahead of this host's. `doubt_ms`: how far off the reading may be.
pub fn clock(skew_ms: f64, doubt_ms: f64) -> Check {
    let (name, off) = ("database.clock", skew_ms.abs());
    let says = format!("this host and PostgreSQL are {off:.0} ms apart, to within {doubt_ms:.0} ms");
    let fix = format!("synchronise the clocks (NTP) of this host and the server; {TOLERANCE}");
    match off - doubt_ms {
        sure if sure > BAD_SKEW_MS => Check::fail(name, says, fix),
        sure if sure > SKEW_MS => Check::warn(name, says, fix),
        _ => Check::ok(name, says),
    }
}

/// Days after today that have partitions. Negative: not even today has them.
pub fn partitions(days_ahead: i32) -> Check {
    let name = "database.partitions";
    let fix = "a relay that leads makes them every hour: see that one runs, and what it logs";
    match days_ahead {
        ..0 => Check::fail(name, "today has no partitions, so events are refused", fix),
        0..3 => Check::warn(name, format!("partitions for {days_ahead} days ahead"), fix),
        _ => Check::ok(name, format!("partitions for {days_ahead} days ahead")),
    }
}

/// What keeps PostgreSQL from cleaning up behind the outbox, and so makes claims slow.
#[derive(Debug, Clone, PartialEq)]
pub struct Oldest {
    pub transaction_s: f64,
    pub prepared_s: f64,
    /// Replication slots that hold rows back.
    pub slots: i64,
    /// Sessions of other users, whose times this one may not see.
    pub hidden: i64,
}

pub fn oldest_transaction(oldest: &Oldest) -> Check {
    let name = "database.oldest_transaction";
    let (age, prepared) = (oldest.transaction_s.max(0.0), oldest.prepared_s.max(0.0));
    let mut says = format!("the oldest transaction is {age:.0} s old");
    if prepared > 0.0 {
        says.push_str(&format!(", the oldest prepared one {prepared:.0} s"));
    }
    if oldest.slots > 0 {
        says.push_str(&format!(", {} replication slots hold rows back", oldest.slots));
    }
    if oldest.hidden > 0 {
        says.push_str(&format!("; {} sessions of others cannot be seen (grant pg_read_all_stats)", oldest.hidden));
    }
    let fix = "end it (pg_stat_activity, pg_prepared_xacts): rows that were claimed cannot be cleaned up while it lasts, and claims slow down";
    match age.max(prepared) {
        oldest if oldest > VERY_OLD_TRANSACTION_S => Check::fail(name, says, fix),
        oldest if oldest > OLD_TRANSACTION_S => Check::warn(name, says, fix),
        _ => Check::ok(name, says),
    }
}

/// Rights that the database's role lacks of those that its part needs. `None`: no such role is used here.
pub fn role(name: &'static str, database_role: &str, missing: Option<&[String]>) -> Check {
    match missing {
        None => Check::ok(name, format!("no role {database_role} is used here")),
        Some([]) => Check::ok(name, format!("role {database_role} has every right that it needs")),
        Some(missing) => Check::fail(
            name,
            format!("role {database_role} lacks {}", some(missing)),
            "run what `posthaste roles sql` prints as a superuser: after an upgrade it grants what is new",
        ),
    }
}

/// What the user of this command may do.
pub fn user(user: &str, parts: &[&str]) -> Check {
    let says = match parts {
        [] => format!("user {user} has all rights of no role of `posthaste roles`"),
        parts => format!("user {user} has the rights of {}", parts.join(", ")),
    };
    Check::ok("database.user", says)
}

/// `ours`: the ids of the configured keys. Secrets by the id of the key that sealed them, and whether one of ours was opened.
pub fn encryption_key(ours: &[String], sealed: &[(String, i64)], opened: Option<bool>) -> Check {
    let name = "database.encryption_key";
    if ours.is_empty() {
        return Check::unknown(
            name,
            "security.encryption_key is not set here",
            "set it as the workers have it to check it",
        );
    }
    if opened == Some(false) {
        return Check::fail(
            name,
            format!("key id {} does not open what is sealed with it", ours.join(", ")),
            "the rows are damaged: rotate the endpoint's secret, or restore them",
        );
    }
    let with_ours: i64 = sealed.iter().filter(|(id, _)| ours.contains(id)).map(|(_, count)| count).sum();
    let others: Vec<String> = sealed
        .iter()
        .filter(|(id, _)| !ours.contains(id))
        .map(|(id, count)| format!("{count} by key id {id}"))
        .collect();
    let ours = ours.join(", ");
    match (with_ours, others.is_empty()) {
        (0, true) => Check::ok(name, "nothing is sealed yet"),
        (count, true) => Check::ok(name, format!("key id {ours} sealed all {count} secrets")),
        (0, false) => Check::fail(
            name,
            format!("this key (id {ours}) sealed no secret here, but {}", some(&others)),
            "set the key that the workers have",
        ),
        (count, false) => Check::fail(
            name,
            format!("key id {ours} sealed {count} secrets, and {} cannot be opened with it", some(&others)),
            "the endpoints of those cannot be sent to: rotate their secrets (posthaste endpoint rotate-secret)",
        ),
    }
}

/// Days of history that are kept, today included, and how many are configured.
pub fn retention(days: usize, configured: u32) -> Check {
    let says = format!("{days} days of partitions; retention.days = {configured}");
    // Some days are made ahead, and yesterday is always there.
    if days <= configured as usize + 10 {
        return Check::ok("database.retention", says);
    }
    Check::warn("database.retention", says, "`posthaste history show` says what keeps the old days (docs/retention.md)")
}

pub fn outbox(pending: i64, oldest_s: f64) -> Check {
    let says = format!("{pending} events wait, the oldest for {:.0} s", oldest_s.max(0.0));
    if oldest_s < OLD_OUTBOX_S {
        return Check::ok("flow.outbox", says);
    }
    Check::warn(
        "flow.outbox",
        says,
        "see that a relay and workers run and that RabbitMQ takes messages (docs/runbook.md)",
    )
}

pub fn unconfirmed(oldest_s: f64) -> Check {
    let says = format!("the oldest batch without a confirm is {:.0} s old", oldest_s.max(0.0));
    if oldest_s < OLD_BATCH_S {
        return Check::ok("flow.unconfirmed", says);
    }
    Check::warn("flow.unconfirmed", says, "RabbitMQ does not confirm: see broker.alarm, and the logs of the relay")
}

pub fn set_aside(rows: i64) -> Check {
    match rows {
        0 => Check::ok("flow.set_aside", "nothing is set aside"),
        rows => Check::warn(
            "flow.set_aside",
            format!("{rows} events are set aside"),
            "see posthaste.set_aside.error, and docs/runbook.md",
        ),
    }
}

/// The age of the newest marker that came through each work queue: a relay leads and publishes, a worker consumes. `None`: there is
/// none.
pub fn markers(ages_s: &[(String, f64)]) -> Check {
    let name = "flow.markers";
    let fix = "see that a relay and a worker run, and that their queue gets along (docs/runbook.md)";
    if ages_s.is_empty() {
        return Check::warn(name, "no marker has ever come through a work queue", fix);
    }
    let shown: Vec<String> = ages_s.iter().map(|(queue, age)| format!("{queue} {:.0} s ago", age.max(0.0))).collect();
    let says = format!("last marker: {}", shown.join(", "));
    if ages_s.iter().all(|(_, age)| *age < OLD_MARKER_S) { Check::ok(name, says) } else { Check::warn(name, says, fix) }
}
