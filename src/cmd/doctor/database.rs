//! PostgreSQL, and what is in it.

use std::time::Instant;

use chrono::Utc;

use super::super::compose;
use super::super::failure::Failure;
use crate::config::Config;
use crate::domain::doctor::{Check, database};
use crate::domain::message::Carried;
use crate::store::roles::Role;
use crate::store::vitals::{self, Server};
use crate::store::{Db, StoreError, migrate, outbox, stats};
use crate::worker;

/// The parts that have a role of their own, and the names of their checks.
const PARTS: [(Role, &str); 5] = [
    (Role::Producer, "database.role.producer"),
    (Role::Relay, "database.role.relay"),
    (Role::Worker, "database.role.worker"),
    (Role::Operator, "database.role.operator"),
    (Role::Observer, "database.role.observer"),
];

/// Without a connection or a schema, what comes after it is not asked.
pub async fn checks(config: &Config, role_prefix: &str) -> Vec<Check> {
    let db = match compose::command_db(config) {
        Ok(db) => db,
        Err(failure) => return vec![unreachable(&failure)],
    };
    let mut checks = Vec::new();
    match connection(&db, &mut checks).await {
        Ok(server) => {
            if schema(&db, &mut checks).await {
                of_the_schema(config, &db, &mut checks).await;
                rights(config, &db, &server, role_prefix, &mut checks).await;
            }
        }
        Err(error) => checks.push(unreachable(&error.into())),
    }
    db.close().await;
    checks
}

fn unreachable(failure: &Failure) -> Check {
    Check::fail(
        "database.connection",
        failure.to_string(),
        "see database.url, and that PostgreSQL runs and can be reached",
    )
}

/// The second answer counts: the first one has waited for the connection.
async fn connection(db: &Db, checks: &mut Vec<Check>) -> Result<Server, StoreError> {
    db.ping().await?;
    let (began, before_ms) = (Instant::now(), Utc::now().timestamp_millis() as f64);
    let server = vitals::server(db).await?;
    let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
    checks.push(database::connection(took_ms));
    checks.push(database::version(server.version, server.is_standby));
    checks.push(database::clock(server.now_ms - before_ms - took_ms / 2.0, took_ms / 2.0));
    checks.push(judged("database.oldest_transaction", vitals::oldest_transaction(db).await, |oldest| {
        database::oldest_transaction(&oldest)
    }));
    Ok(server)
}

/// False: there is none, or it is not known.
async fn schema(db: &Db, checks: &mut Vec<Check>) -> bool {
    let missing = migrate::missing(db).await;
    let is_there = missing.as_ref().is_ok_and(Vec::is_empty);
    checks.push(judged("database.schema", missing, |missing| database::schema(missing.len())));
    is_there
}

async fn of_the_schema(config: &Config, db: &Db, checks: &mut Vec<Check>) {
    match stats::watched(db).await {
        Ok(watched) => checks.extend([
            database::partitions(watched.partition_days_ahead),
            database::set_aside(watched.set_aside),
            database::unconfirmed(watched.unconfirmed_oldest_age_seconds),
        ]),
        Err(error) => checks.push(unread("database.partitions", &error)),
    }
    let days = config.retention.days;
    checks.push(judged("database.retention", vitals::days(db).await, |found| database::retention(found.len(), days)));
    checks.push(judged("flow.outbox", outbox::backlog(db).await, |backlog| {
        database::outbox(backlog.pending, backlog.oldest_age_seconds)
    }));
    checks.push(judged("flow.markers", vitals::marker_ages(db).await, |ages| database::markers(&ages)));
    checks.push(encryption_key(config, db).await);
}

async fn encryption_key(config: &Config, db: &Db) -> Check {
    let keys = compose::keys(config).ok();
    let ours = keys.as_ref().map(|keys| keys.ids()).unwrap_or_default();
    let sealed = match vitals::sealed_by(db).await {
        Ok(sealed) => sealed,
        Err(error) => return unread("database.encryption_key", &error),
    };
    let mut opened = None;
    if let (Some(keys), Some((id, _))) = (&keys, sealed.iter().find(|(id, _)| ours.contains(id)))
        && let Ok(Some(endpoint)) = vitals::sealed_with(db, id).await
        // Not everybody may read what is sealed.
        && let Ok(Some(ready)) = worker::load(db, keys, &compose::url_rules(config), endpoint).await
    {
        opened = Some(!ready.unreadable);
    }
    database::encryption_key(&ours, &sealed, opened)
}

async fn rights(config: &Config, db: &Db, server: &Server, prefix: &str, checks: &mut Vec<Check>) {
    let by_reference = config.broker.payload == Carried::Reference;
    let mut has = Vec::new();
    for (part, name) in PARTS {
        let role = format!("{prefix}_{}", part.as_str());
        let lacking = vitals::lacking(db, &role, part, by_reference).await;
        checks.push(judged(name, lacking, |lacking| database::role(name, &role, lacking.as_deref())));
        if let Ok(Some(lacking)) = vitals::lacking(db, &server.user, part, by_reference).await
            && lacking.is_empty()
        {
            has.push(part.as_str());
        }
    }
    checks.push(database::user(&server.user, &has));
}

/// What could not be read is no verdict on it.
fn judged<T>(name: &'static str, read: Result<T, StoreError>, judge: impl FnOnce(T) -> Check) -> Check {
    match read {
        Ok(value) => judge(value),
        Err(error) => unread(name, &error),
    }
}

fn unread(name: &'static str, error: &StoreError) -> Check {
    if error.is_denied() {
        return Check::unknown(name, "this user may not read it", "run it as an operator (posthaste roles sql)");
    }
    Check::fail(name, error.to_string(), "see that the server is well")
}
