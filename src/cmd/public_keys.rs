//! `/jwks/ENDPOINT` on the telemetry listener: the public keys that verify an endpoint's `v1a` signatures.
//!
//! Whoever can reach the listener may ask, so what asking can cost is bounded: one session of the database, one statement
//! at a time with a pause before it, each endpoint once in some seconds, and a limited number of answers in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use moka::sync::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::compose;
use super::endpoint::jwk_set;
use super::failure::Failure;
use crate::config::Config;
use crate::store::{Db, Options, secrets};

/// How long an answer is given again. A new key is there within this time.
const KEPT: Duration = Duration::from_secs(5);
/// Answers in memory.
const MOST: u64 = 10_000;
/// Before each statement: never more than a hundred in a second.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// None, unless they are switched on.
pub fn routes(config: &Config) -> Result<Router, Failure> {
    if !config.telemetry.jwks {
        return Ok(Router::new());
    }
    let options = Options { max_connections: 1, ..compose::service_options(config, "posthaste jwks")? };
    let keys = Arc::new(PublicKeys {
        db: Db::new(&options)?,
        kept: Cache::builder().max_capacity(MOST).time_to_live(KEPT).build(),
        turn: Semaphore::new(1),
    });
    let answer = move |Path(id): Path<String>| async move { keys.answer(&id).await };
    Ok(Router::new().route("/jwks/{endpoint}", get(answer)))
}

struct PublicKeys {
    db: Db,
    /// `None`: there is no such endpoint, or it has no such key.
    kept: Cache<Uuid, Option<Arc<str>>>,
    turn: Semaphore,
}

impl PublicKeys {
    async fn answer(&self, id: &str) -> Response {
        let Ok(id) = Uuid::parse_str(id) else { return StatusCode::NOT_FOUND.into_response() };
        match self.set_of(id).await {
            Ok(Some(set)) => {
                let lifetime = format!("public, max-age={}", KEPT.as_secs());
                let headers = [(CONTENT_TYPE, "application/jwk-set+json".to_owned()), (CACHE_CONTROL, lifetime)];
                (headers, set.to_string()).into_response()
            }
            Ok(None) => StatusCode::NOT_FOUND.into_response(),
            Err(error) => {
                tracing::debug!(%error, "cannot read public keys");
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()
            }
        }
    }

    async fn set_of(&self, id: Uuid) -> Result<Option<Arc<str>>, Failure> {
        if let Some(kept) = self.kept.get(&id) {
            return Ok(kept);
        }
        let turn = tokio::time::timeout(PATIENCE, self.turn.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Failure::Failed("too many ask for public keys".into())) };
        // Whoever had the turn before may have asked for the same.
        if let Some(kept) = self.kept.get(&id) {
            return Ok(kept);
        }
        tokio::time::sleep(PAUSE).await;
        let live = secrets::live(&self.db, id).await?;
        let has_keys = live.iter().any(|key| key.public_key.is_some());
        let set: Option<Arc<str>> = if has_keys { Some(jwk_set(&live)?.to_string().into()) } else { None };
        self.kept.insert(id, set.clone());
        Ok(set)
    }
}
