//! A customer's service: it verifies what comes, and does its work once for each event, by the inbox.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use posthaste::receiver::event::Event;
use posthaste::receiver::inbox::{Answer, Handled, Inbox};
use posthaste::receiver::layer::VerifyLayer;
use posthaste::receiver::verify::Verifier;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;

pub const DATABASE: &str = "CUSTOMER_DATABASE";
pub const KEY: &str = "CUSTOMER_KEY";
pub const PORT: &str = "CUSTOMER_PORT";

/// Nothing in it forbids a second effect. The other table has each request that came.
pub const WORK_SCHEMA: &str =
    "create table effects (event_id text not null); create table requests (event_id text not null)";
/// Nobody waits for the disk: the last ones may be lost, and are only counted.
const NOTE: &str =
    "with s as (select set_config('synchronous_commit', 'off', true)) insert into requests select $1 from s";
/// Shorter than the sender waits.
const WAIT: Duration = Duration::from_secs(1);
/// One request in so many does its work, and its answer is lost: as after a time-out of something in between.
const LOST: u64 = 50;

struct Service {
    db: PgPool,
    inbox: Inbox,
    requests: AtomicU64,
}

/// Until it is killed.
pub async fn serve() -> ExitCode {
    let setting = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"));
    let verifier: Verifier = setting(KEY).parse().expect("a key");
    let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(WAIT);
    let db = pool.connect_lazy(&setting(DATABASE)).expect("the URL of a database");
    let service = Arc::new(Service { db, inbox: Inbox::default().with_wait(WAIT), requests: AtomicU64::new(0) });
    let hooks = Router::new().route("/hooks", post(hook)).layer(VerifyLayer::new(verifier)).with_state(service);
    let listener = TcpListener::bind(format!("127.0.0.1:{}", setting(PORT))).await.expect("the port");
    axum::serve(listener, hooks).await.expect("it serves");
    ExitCode::SUCCESS
}

async fn hook(State(service): State<Arc<Service>>, Extension(event): Extension<Event>) -> Response {
    match service.take(&event).await {
        Ok(handled) if service.requests.fetch_add(1, Ordering::Relaxed) % LOST == LOST - 1 => {
            drop(handled);
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Ok(handled) => handled.reply().into_response(),
        Err(error) => {
            eprintln!("{}: {error}", event.id);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Service {
    async fn take(&self, event: &Event) -> Result<Handled<sqlx::Error>, Box<dyn std::error::Error>> {
        sqlx::query(NOTE).bind(&event.id).execute(&self.db).await?;
        let work = async |transaction: &mut sqlx::PgConnection| {
            let insert = "insert into effects (event_id) values ($1)";
            sqlx::query(insert).bind(&event.id).execute(transaction).await?;
            Ok(Answer::new(202))
        };
        Ok(self.inbox.handle(&self.db, event, SystemTime::now(), work).await?)
    }
}
