//! Held deliveries that end without an attempt, as the look round finds them.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::dead_letters;
use super::held_endpoints::Page;
use crate::broker::publisher::Publisher;
use crate::domain::dead_reason::DeadReason;
use crate::domain::message::Message;
use crate::store::days::Day;
use crate::store::deliveries::Snapshot;
use crate::store::{Db, StoreError, ended};
use crate::telemetry::metrics;

/// Deliveries ended with one statement; the next round finds the rest.
const BATCH: u32 = 500;

pub(super) struct Ending {
    pub db: Db,
    pub publisher: Publisher,
    /// `delivery.held_ttl`; zero: never.
    pub held_ttl: Duration,
}

/// Ends what a page shows to be without an endpoint, and what is older than `delivery.held_ttl`. What fails here is tried
/// again with the next round, and keeps nothing else waiting.
pub(super) async fn of_page(Ending { db, publisher, held_ttl }: &Ending, page: &Page) {
    let removed: Vec<Uuid> = page.held.iter().filter(|held| !held.exists).map(|held| held.endpoint_id).collect();
    if !removed.is_empty() {
        let ended = ended::removed(db, page.day, &removed, BATCH).await;
        write(publisher, ended, DeadReason::EndpointRemoved, "dead: the endpoint was removed").await;
    }
    if may_have_expired(page.day, *held_ttl) {
        let all: Vec<Uuid> = page.held.iter().map(|held| held.endpoint_id).collect();
        let ended = ended::expired(db, page.day, &all, *held_ttl, BATCH).await;
        write(publisher, ended, DeadReason::Expired, "dead: held for longer than delivery.held_ttl").await;
    }
}

/// By this machine's clock, with a margin: the statement goes by the database's.
fn may_have_expired(day: Day, ttl: Duration) -> bool {
    const MARGIN: TimeDelta = TimeDelta::hours(1);
    let ttl = TimeDelta::from_std(ttl).ok().filter(|ttl| !ttl.is_zero());
    ttl.and_then(|ttl| (Utc::now() + MARGIN).checked_sub_signed(ttl))
        .is_some_and(|cutoff| day.date() <= cutoff.date_naive())
}

async fn write(
    publisher: &Publisher,
    ended: Result<Vec<(Message, Snapshot)>, StoreError>,
    reason: DeadReason,
    said: &'static str,
) {
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return tracing::warn!(%error, reason = reason.as_str(), "held deliveries could not be ended"),
    };
    for (_, snapshot) in &ended {
        metrics::dead_letter(reason);
        tracing::warn!(event_id = %snapshot.key.event_id, endpoint_id = %snapshot.key.endpoint_id, "{said}");
    }
    if !ended.is_empty() {
        dead_letters::write(publisher, ended).await;
    }
}
