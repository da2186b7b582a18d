//! A complete receiver of webhooks: axum, PostgreSQL, and `posthaste::receiver`.
//!
//! It verifies the raw body, notes each event once in the transaction that queues its work, answers fast, and does the work
//! afterwards. Before its first start:
//!
//! ```sh
//! psql "$DATABASE_URL" -f src/receiver/inbox/schema.sql -f examples/receiver.sql
//! ```
//!
//! ```sh
//! DATABASE_URL=postgres://... WEBHOOK_KEYS='whsec_... whpk_...' cargo run --example receiver-axum
//! ```

mod app;

use std::net::SocketAddr;

use posthaste::receiver::inbox::Inbox;
use posthaste::receiver::verify::Verifier;
use sqlx::postgres::PgPoolOptions;

const CONNECTIONS: u32 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let verifier: Verifier = std::env::var("WEBHOOK_KEYS")?.parse()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&std::env::var("DATABASE_URL")?).await?;
    let receiver = app::Receiver { pool, inbox: Inbox::default().keeping_failed() };
    let port = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let stop = async {
        // Without the signal, it runs until it is killed, which it survives too.
        let _ = tokio::signal::ctrl_c().await;
    };
    let router = app::router(receiver.clone(), verifier);
    let serving = async { axum::serve(listener, router).with_graceful_shutdown(stop).await };
    tokio::select! {
        result = serving => Ok(result?),
        () = app::work(receiver) => Ok(()),
    }
}
