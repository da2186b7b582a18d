//! Endpoints as plain SQL makes them, any number at once. The command line takes one at a time.

use posthaste::domain::ids;
use posthaste::domain::sealing::Key;
use sqlx::PgPool;
use uuid::Uuid;

/// The key that all processes are started with.
pub const ENCRYPTION_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// What every endpoint signs with.
const SECRET: [u8; 32] = [7; 32];
/// Endpoints of one statement.
const TOGETHER: usize = 5_000;

pub struct New {
    pub tenant: String,
    pub url: String,
    pub status: &'static str,
}

impl New {
    pub fn enabled(tenant: &str, url: String) -> New {
        New { tenant: tenant.to_owned(), url, status: "enabled" }
    }
}

/// Their ids, in the same order.
pub async fn add(db: &PgPool, new: &[New]) -> Result<Vec<Uuid>, String> {
    let key = Key::parse(ENCRYPTION_KEY).map_err(|error| error.to_string())?;
    let mut added = Vec::with_capacity(new.len());
    for new in new.chunks(TOGETHER) {
        let now = chrono::Utc::now().timestamp_millis() as u64;
        let ids: Vec<Uuid> = new.iter().map(|_| ids::new_v7(now, rand::random())).collect();
        let seal = |id: &Uuid| key.seal(rand::random(), id.as_bytes(), &SECRET).map_err(|error| error.to_string());
        let sealed: Vec<Vec<u8>> = ids.iter().map(seal).collect::<Result<_, _>>()?;
        insert(db, new, &ids, &key.id(), &sealed).await.map_err(|error| error.to_string())?;
        added.extend(ids);
    }
    Ok(added)
}

async fn insert(db: &PgPool, new: &[New], ids: &[Uuid], key_id: &str, sealed: &[Vec<u8>]) -> sqlx::Result<()> {
    let tenants: Vec<&str> = new.iter().map(|new| new.tenant.as_str()).collect();
    let urls: Vec<&str> = new.iter().map(|new| new.url.as_str()).collect();
    let statuses: Vec<&str> = new.iter().map(|new| new.status).collect();
    let mut transaction = db.begin().await?;
    let endpoints = "insert into posthaste.endpoints (id, tenant, url, status)
                     select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])";
    let endpoints = sqlx::query(endpoints).bind(ids).bind(tenants).bind(urls).bind(statuses);
    endpoints.execute(&mut *transaction).await?;
    let secrets = "insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext)
                   select id, 'whsec', $2, sealed from unnest($1::uuid[], $3::bytea[]) as s (id, sealed)";
    sqlx::query(secrets).bind(ids).bind(key_id).bind(sealed).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Takes endpoints and all that is owed to them out of the database, as if they had never been there: the next measurement
/// must not pay for this one.
pub async fn forget(db: &PgPool, ids: &[Uuid], tenants: &[String]) -> sqlx::Result<()> {
    sqlx::query("delete from posthaste.endpoints where id = any ($1)").bind(ids).execute(db).await?;
    sqlx::query("delete from posthaste.outbox where tenant = any ($1)").bind(tenants).execute(db).await?;
    sqlx::query("delete from posthaste.deliveries where endpoint_id = any ($1)").bind(ids).execute(db).await?;
    Ok(())
}

/// Dead entries that a measurement has left behind.
pub async fn vacuum(db: &PgPool) -> sqlx::Result<()> {
    for statement in ["vacuum posthaste.outbox", "vacuum posthaste.relay_batches", "vacuum posthaste.deliveries"] {
        sqlx::query(statement).execute(db).await?;
    }
    Ok(())
}
