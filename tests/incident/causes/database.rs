//! Sessions that hold what others need, rows that cannot be moved, partitions that are missing.

use sqlx::{Connection, PgConnection};

use crate::incident::scene::{Alerts, Scene, Seen};

/// A transaction that was forgotten: the relay can move nothing, and one of the leader's duties fails.
pub async fn locked(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    let mut session = session(scene).await?;
    let lock = "begin; lock table posthaste.events, posthaste.idempotency_keys in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut session).await.map_err(|error| error.to_string())?;
    let blocker = backend(&mut session).await?;
    scene.fire(alerts).await?;
    scene.follow("outbox-old", &[("BLOCKER", &blocker)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// The leader's lock is in the hands of a session that leads nothing, as behind a pooler that lends sessions.
pub async fn no_leader(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let mut session = session(scene).await?;
    let holder = backend(&mut session).await?;
    scene.begin();
    let leader = "select pid, classid::int8::int4, objid::int8::int4 from pg_locks
        where locktype = 'advisory' and granted and classid = 1885863938 and objid = 1";
    let (pid, class, object): (i32, i32, i32) =
        sqlx::query_as(leader).fetch_one(&scene.stack.db).await.map_err(|error| error.to_string())?;
    // Whoever waits for it gets it before those that only try.
    let waiting = tokio::spawn(async move {
        let lock = sqlx::query("select pg_advisory_lock($1, $2)").bind(class).bind(object);
        lock.execute(&mut session).await.map(|_| session)
    });
    let waits = async || {
        let waits = "select from pg_locks where locktype = 'advisory' and not granted";
        sqlx::query(waits).fetch_optional(&scene.stack.db).await.ok().flatten().map(drop)
    };
    crate::wait_for("our session to wait for the lock", super::SETTLED, waits).await?;
    scene.sql(&format!("select pg_terminate_backend({pid})")).await?;
    let _session = waiting.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    scene.fire(alerts).await?;
    scene.follow("no-leader", &[("HOLDER", &holder)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// An id that was used before.
pub async fn set_aside(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    let again = "insert into posthaste.outbox (id, tenant, event_type, payload)
        select id, tenant, event_type, payload from posthaste.events order by id desc limit 1";
    scene.sql(again).await?;
    scene.fire(alerts).await?;
    scene.follow("set-aside", &[]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// What the leader had made for the next days is gone, and it looks again within the hour only.
pub async fn partitions(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    let drop = "do $$ declare part regclass; begin
        for part in select c.oid from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass)
              and right(c.relname, 8) > to_char((now() at time zone 'utc')::date + 2, 'YYYYMMDD')
        loop execute format('drop table %s', part); end loop; end $$";
    scene.sql(drop).await?;
    scene.fire(alerts).await?;
    scene.follow("partitions-overdue", &[]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// Of days that are kept by default, and a day that has been over for longer.
const KEPT: i64 = 30;
const READ_AN_OLD_DAY: &str = "
begin;
select posthaste.create_partitions((now() at time zone 'utc')::date - 40, (now() at time zone 'utc')::date - 40);
insert into posthaste.events (id, tenant, event_type, payload, created_at)
select posthaste.uuid_v7_floor(now() - interval '40 days'), 'steady', 'order.created', '{}', now() - interval '40 days';
commit;
begin;
select count(*) from posthaste.events";

/// A report was forgotten in its transaction: no day that it has read can be dropped.
pub async fn retention(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    let mut session = session(scene).await?;
    sqlx::raw_sql(READ_AN_OLD_DAY).execute(&mut session).await.map_err(|error| error.to_string())?;
    let blocker = backend(&mut session).await?;
    scene.fire(alerts).await?;
    let day = (chrono::Utc::now() - chrono::TimeDelta::days(KEPT)).date_naive().to_string();
    scene.follow("retention-overdue", &[("BLOCKER", &blocker), ("DAY", &day)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

async fn session(scene: &Scene) -> Result<PgConnection, String> {
    PgConnection::connect(&scene.stack.binary.database_url).await.map_err(|error| error.to_string())
}

async fn backend(session: &mut PgConnection) -> Result<String, String> {
    let pid: sqlx::Result<i32> = sqlx::query_scalar("select pg_backend_pid()").fetch_one(session).await;
    pid.map(|pid| pid.to_string()).map_err(|error| error.to_string())
}
