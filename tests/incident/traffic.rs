//! Producers that go on whatever happens, as those of customers do.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;

const TYPE: &str = "order.created";
const PAYLOAD: &str = r#"{"order_id": 17, "item": "a box of tea", "price": "4.20", "currency": "EUR"}"#;

/// Ends when it is dropped.
pub struct Traffic(JoinHandle<()>);

impl Traffic {
    /// So many events in a second, for the tenants in turn. What cannot be committed is not tried again.
    pub fn start(db: &PgPool, tenants: Vec<String>, rate: f64) -> Traffic {
        let db = db.clone();
        Traffic(tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            for tenant in tenants.iter().cycle() {
                tick.tick().await;
                let _ = emit(&db, tenant, 1, None).await;
            }
        }))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// So many events at once; returns the id of one of them.
pub async fn emit(db: &PgPool, tenant: &str, events: i32, max_attempts: Option<i32>) -> Result<uuid::Uuid, String> {
    let emit = "select posthaste.emit($1, $2, $3::text::json, null, $4) from generate_series(1, $5)";
    let emit = sqlx::query_scalar(emit).bind(tenant).bind(TYPE).bind(PAYLOAD).bind(max_attempts).bind(events);
    let ids: Vec<uuid::Uuid> = emit.fetch_all(db).await.map_err(|error| error.to_string())?;
    ids.last().copied().ok_or_else(|| "no event was emitted".to_owned())
}
