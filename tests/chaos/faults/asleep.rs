//! All relays are struck while they sleep, with the flag up that makes producers notify. No producer may have to wait for a
//! relay that hears nothing.

use std::time::Duration;

use futures_util::future::join_all;

use super::{Verdict, really};
use crate::chaos::commits::{self, Latency};
use crate::chaos::kind::Role;
use crate::chaos::schedule::RELAYS;
use crate::chaos::service::Service;
use crate::chaos::stack::Stack;
use crate::wait_for;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    Kill,
    Freeze,
}

/// Until the relays sleep, once no producer commits.
const FALL_ASLEEP: Duration = Duration::from_secs(20);
/// Commits may take so many times what they took before, and so much on top.
const SLOWER: u32 = 5;
const SLACK: Duration = Duration::from_millis(20);

/// Relays that listen, where the flag is up and nothing is left to do.
const ASLEEP: &str = "select count(*) from pg_stat_activity
    where query like 'LISTEN \"posthaste_wake\"%' and state = 'idle' and not exists (select from posthaste.outbox)
        and (select last_value > date_part('epoch', clock_timestamp()) * 1000 from posthaste.wake)";

pub async fn strike(stack: &Stack, blow: Blow, hold: Duration) -> Result<Verdict, String> {
    stack.pause.set(true);
    let measured = while_paused(stack, blow).await;
    stack.pause.set(false);
    if measured.is_ok() {
        // The producers go on by themselves for that long.
        tokio::time::sleep(hold).await;
    }
    join_all(relays(stack).map(|relay| revive(relay, blow))).await;
    let (notifying, quiet) = measured?;
    let seen = format!(
        "with no relay awake, commits that notify took {} (p50) and {} (p99), others {} and {}",
        ms(notifying.p50),
        ms(notifying.p99),
        ms(quiet.p50),
        ms(quiet.p99)
    );
    Ok(Verdict::bounded(seen, notifying.p99 <= quiet.p99 * SLOWER + SLACK))
}

/// How long commits took after the blow, with the flag up and without it. Before the blow they would compete with all that
/// the relays and workers do with their events.
async fn while_paused(stack: &Stack, blow: Blow) -> Result<(Latency, Latency), String> {
    wait_for("sleep of all relays", FALL_ASLEEP, async || (asleep(stack).await? >= RELAYS as i64).then_some(()))
        .await?;
    let struck = join_all(relays(stack).map(|relay| hit(relay, blow))).await;
    really(struck.into_iter().all(|was_running| was_running), "a relay was not running")?;
    really(is_flagged(stack).await, "a relay was awake again")?;
    let notifying = commits::measure(stack).await;
    // As a relay that is awake does.
    let lower = sqlx::query("select setval('posthaste.wake', 0)").execute(&stack.db).await;
    lower.map_err(|error| error.to_string())?;
    Ok((notifying, commits::measure(stack).await))
}

fn relays(stack: &Stack) -> impl Iterator<Item = &Service> {
    stack.services.iter().map(AsRef::as_ref).filter(|service| service.role == Role::Relay)
}

async fn hit(relay: &Service, blow: Blow) -> bool {
    match blow {
        Blow::Kill => relay.kill().await,
        Blow::Freeze => relay.freeze(true).await,
    }
}

/// Also where it was not hit.
async fn revive(relay: &Service, blow: Blow) {
    match blow {
        Blow::Kill => relay.start_unless_running().await,
        Blow::Freeze => _ = relay.freeze(false).await,
    }
}

async fn asleep(stack: &Stack) -> Option<i64> {
    sqlx::query_scalar(ASLEEP).fetch_one(&stack.db).await.ok()
}

async fn is_flagged(stack: &Stack) -> bool {
    let flag = "select last_value > date_part('epoch', clock_timestamp()) * 1000 from posthaste.wake";
    sqlx::query_scalar(flag).fetch_one(&stack.db).await.unwrap_or(false)
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
