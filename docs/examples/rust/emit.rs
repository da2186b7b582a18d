//! An order and its event in one transaction, with sqlx.
//!
//! ```toml
//! [dependencies]
//! serde_json = "1"
//! sqlx = { version = "0.9", features = ["postgres", "runtime-tokio", "tls-rustls-ring-native-roots", "uuid"] }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```

use serde_json::json;
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};

/// Both rows are there after the commit, or neither is.
async fn place_order(db: &mut PgConnection, tenant: &str, item: &str) -> sqlx::Result<(i64, Uuid)> {
    let mut tx = db.begin().await?;
    let order_id: i64 =
        sqlx::query_scalar("insert into orders (item) values ($1) returning id").bind(item).fetch_one(&mut *tx).await?;
    // As text, cast to json by the server: sqlx's own Json type is sent as jsonb, which reorders keys.
    let payload = json!({ "order_id": order_id }).to_string();
    let event_id: Uuid = sqlx::query_scalar("select posthaste.emit($1, $2, $3::json)")
        .bind(tenant)
        .bind("order.created")
        .bind(payload)
        .fetch_one(&mut *tx)
        .await?;
    // Without the commit, leaving this function rolls both back.
    tx.commit().await?;
    Ok((order_id, event_id))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut db = PgConnection::connect(&std::env::var("DATABASE_URL")?).await?;
    sqlx::query(
        "create table if not exists orders (id bigint generated always as identity primary key, item text not null)",
    )
    .execute(&mut db)
    .await?;
    let (order, event) = place_order(&mut db, "acme", "a box of tea").await?;
    println!("order {order}, event {event}");
    db.close().await?;
    Ok(())
}
