//! The receiver itself: what verifies, notes and answers, and what does the work afterwards.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use posthaste::receiver::event::Event;
use posthaste::receiver::inbox::{Answer, Handled, Inbox};
use posthaste::receiver::layer::VerifyLayer;
use posthaste::receiver::verify::Verifier;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

const IDLE: Duration = Duration::from_millis(200);
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
const CLEAN_UP: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub struct Receiver {
    pub pool: PgPool,
    pub inbox: Inbox,
}

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    order: String,
    version: i64,
    state: String,
}

#[derive(Debug, thiserror::Error)]
enum WorkError {
    // Without the message of serde_json, which may repeat the payload.
    #[error("the body is no order")]
    Body(#[from] serde_json::Error),
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

pub fn router(receiver: Receiver, verifier: Verifier) -> Router {
    let hooks = Router::new().route("/hooks", post(hook)).layer(VerifyLayer::new(verifier));
    hooks.route("/healthz", get(async || "ok\n")).with_state(receiver)
}

/// Everything here was signed by the sender. The event and its job are committed together, and then it is answered.
async fn hook(State(receiver): State<Receiver>, Extension(event): Extension<Event>) -> Response {
    let work = async |transaction: &mut PgConnection| queue(transaction, &event).await;
    match receiver.inbox.handle(&receiver.pool, &event, SystemTime::now(), work).await {
        Ok(handled) => {
            if let Handled::Failed(error) = &handled {
                eprintln!("{} failed: {error}", event.id);
            }
            handled.reply().into_response()
        }
        Err(error) => {
            eprintln!("{}: {error}", event.id);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn queue(transaction: &mut PgConnection, event: &Event) -> Result<Answer, WorkError> {
    let order: Order = serde_json::from_slice(&event.body)?;
    let answer = Answer::json(202, serde_json::json!({"order": order.order}));
    let insert = "insert into jobs (event_id, payload) values ($1, $2)";
    sqlx::query(insert).bind(&event.id).bind(sqlx::types::Json(order)).execute(transaction).await?;
    Ok(answer)
}

/// Does what is queued, and forgets what is old. Ends with its caller.
pub async fn work(receiver: Receiver) {
    tokio::join!(work_off(&receiver.pool), clean_up(&receiver));
}

async fn work_off(pool: &PgPool) {
    loop {
        match work_one(pool).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(IDLE).await,
            Err(error) => {
                eprintln!("work failed, and is tried again: {error}");
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
    }
}

/// One job and its end in one transaction: a crash leaves it to be done.
async fn work_one(pool: &PgPool) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    let take = "delete from jobs where id = (select id from jobs order by id limit 1 for update skip locked)
                returning event_id, payload";
    let job: Option<(String, sqlx::types::Json<Order>)> =
        sqlx::query_as(take).fetch_optional(&mut *transaction).await?;
    let Some((event_id, sqlx::types::Json(order))) = job else { return Ok(false) };
    // An older event may come after a newer one: it changes nothing any more.
    let apply = "insert into orders as known (id, version, state) values ($1, $2, $3)
                 on conflict (id) do update set version = excluded.version, state = excluded.state
                  where known.version < excluded.version";
    let apply = sqlx::query(apply).bind(order.order).bind(order.version).bind(order.state);
    apply.execute(&mut *transaction).await?;
    sqlx::query("insert into effects (event_id) values ($1)").bind(event_id).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn clean_up(receiver: &Receiver) {
    loop {
        if let Err(error) = receiver.inbox.clean_up(&receiver.pool, SystemTime::now()).await {
            eprintln!("the clean-up failed: {error}");
        }
        tokio::time::sleep(CLEAN_UP).await;
    }
}
