//! The endpoints in memory, with their secrets opened; changes by plain SQL apply within a second.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::circuit::{Circuit, State};
use crate::domain::reconnect;
use crate::domain::sealing::{Key, SealError};
use crate::domain::signature::Secret;
use crate::store::endpoints::{self, Sendable};
use crate::store::wake::{Alarm, ENDPOINTS, Wake};
use crate::store::{Db, StoreError};

/// A change that was not heard of is found at the latest then.
const FULL_RELOAD: Duration = Duration::from_secs(30);
/// Without LISTEN (behind a transaction pooler) the worker asks this often.
const POLL: Duration = Duration::from_millis(900);

/// An endpoint ready to send to.
#[derive(Debug)]
pub struct Ready {
    pub id: Uuid,
    pub url: String,
    pub enabled: bool,
    pub max_in_flight: Option<usize>,
    pub rate_limit: Option<f64>,
    pub circuit: Circuit,
    pub circuit_until: Option<DateTime<Utc>>,
    pub timeout: Option<Duration>,
    pub retry_policy: Option<String>,
    /// Secrets with the Unix millisecond in which they end (0: never), newest first.
    secrets: Vec<(Secret, i64)>,
    /// Custom headers, decrypted.
    pub headers: Vec<(String, String)>,
    /// The configured key does not open the secrets: a fault of ours.
    pub unreadable: bool,
}

impl Ready {
    /// The secrets that sign at this moment.
    pub fn live_secrets(&self, now_ms: i64) -> Vec<Secret> {
        let live = self.secrets.iter().filter(|(_, ends)| *ends == 0 || *ends > now_ms);
        live.map(|(secret, _)| secret.clone()).collect()
    }

    fn open(stored: Sendable, key: &Key) -> Ready {
        let opened = open_secrets(&stored, key);
        let headers = open_headers(&stored, key);
        if let Some(error) = opened.as_ref().err().or(headers.as_ref().err()) {
            tracing::error!(endpoint_id = %stored.id, %error, "the endpoint's secrets cannot be opened");
        }
        let unreadable = opened.is_err() || headers.is_err();
        Ready {
            id: stored.id,
            url: stored.url,
            enabled: stored.status == "enabled",
            max_in_flight: stored.max_in_flight.map(|n| n.max(1) as usize),
            rate_limit: stored.rate_limit_per_second,
            circuit: Circuit {
                state: State::parse(&stored.circuit_state).unwrap_or_default(),
                trips: stored.circuit_trips.max(0) as u32,
            },
            circuit_until: stored.circuit_until,
            timeout: stored.timeout_ms.map(|ms| Duration::from_millis(ms.max(1) as u64)),
            retry_policy: stored.retry_policy,
            secrets: opened.unwrap_or_default(),
            headers: headers.unwrap_or_default(),
            unreadable,
        }
    }
}

fn open_secrets(stored: &Sendable, key: &Key) -> Result<Vec<(Secret, i64)>, SealError> {
    let sealed = stored.secret_key_ids.iter().zip(&stored.secrets).zip(&stored.secret_ends_ms);
    sealed
        .map(|((key_id, sealed), ends)| {
            let plain = key.open(key_id, stored.id.as_bytes(), sealed)?;
            Ok((Secret::from_bytes(plain).map_err(|_| SealError::Damaged)?, *ends))
        })
        .collect()
}

/// The blob of custom headers: the key's id, then the sealed JSON list of pairs.
fn open_headers(stored: &Sendable, key: &Key) -> Result<Vec<(String, String)>, SealError> {
    let Some(blob) = &stored.headers else { return Ok(Vec::new()) };
    let (key_id, sealed) = blob.split_at_checked(8).ok_or(SealError::Damaged)?;
    let plain = key.open(&String::from_utf8_lossy(key_id), stored.id.as_bytes(), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)
}

/// Shared by all tasks. Reading never waits for the database, except for an endpoint that is not known yet.
#[derive(Clone)]
pub struct EndpointCache {
    db: Db,
    key: Key,
    all: Arc<RwLock<HashMap<Uuid, Arc<Ready>>>>,
}

impl EndpointCache {
    pub fn new(db: Db, key: Key) -> EndpointCache {
        EndpointCache { db, key, all: Arc::default() }
    }

    /// The endpoint, or `None` when it was removed.
    pub async fn get(&self, id: Uuid) -> Result<Option<Arc<Ready>>, StoreError> {
        let known = self.all.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        match known {
            Some(ready) => Ok(Some(ready)),
            None => self.refresh(id).await,
        }
    }

    pub async fn refresh(&self, id: Uuid) -> Result<Option<Arc<Ready>>, StoreError> {
        let stored = endpoints::sendable_one(&self.db, id).await?;
        let ready = stored.map(|stored| Arc::new(Ready::open(stored, &self.key)));
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        match &ready {
            Some(ready) => all.insert(id, ready.clone()),
            None => all.remove(&id),
        };
        Ok(ready)
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let stored = endpoints::sendable(&self.db).await?;
        let fresh = stored.into_iter().map(|s| (s.id, Arc::new(Ready::open(s, &self.key)))).collect();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Applies changes until told to stop.
    pub async fn keep_fresh(self, listen: bool, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let result = tokio::select! {
                result = async { if listen { self.follow(&mut failures).await } else { self.poll(&mut failures).await } } => result,
                () = stop.cancelled() => return,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot follow changes of endpoints; trying again");
                tokio::time::sleep(reconnect::pause(failures, rand::random())).await;
                failures += 1;
            }
        }
    }

    /// Reloading after LISTEN has begun leaves no gap in which a change is neither heard nor loaded.
    async fn follow(&self, failures: &mut u32) -> Result<(), StoreError> {
        let mut alarm = Alarm::listen(&self.db, ENDPOINTS).await?;
        self.reload().await?;
        *failures = 0;
        loop {
            match alarm.wait(FULL_RELOAD).await? {
                Wake::Notified(id) => match Uuid::parse_str(&id) {
                    Ok(id) => self.refresh(id).await.map(drop)?,
                    Err(_) => self.reload().await?,
                },
                Wake::Reconnected | Wake::TimedOut => self.reload().await?,
            }
        }
    }

    async fn poll(&self, failures: &mut u32) -> Result<(), StoreError> {
        self.reload().await?;
        *failures = 0;
        tokio::time::sleep(POLL).await;
        Ok(())
    }
}
