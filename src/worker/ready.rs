//! An endpoint ready to send to, with its secrets opened.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::budget;
use crate::domain::circuit::{Circuit, State};
use crate::domain::sealing::{Keyring, SealError};
use crate::domain::signing_key::SigningKey;
use crate::http::own_tls::OwnTls;
use crate::http::rules::Rules;
use crate::http::target;
use crate::store::sendable::Sendable;

/// An endpoint ready to send to.
pub struct Ready {
    pub id: Uuid,
    pub url: String,
    pub enabled: bool,
    pub max_in_flight: Option<usize>,
    pub rate_limit: Option<f64>,
    pub circuit: Circuit,
    paused_until: Option<Instant>,
    /// When its pauses were last lifted: what a worker learned before does not count any more.
    pub resumed_us: i64,
    /// It answered lately, when it was read, and nobody has made use of that yet.
    pub answers: AtomicBool,
    pub timeout: Option<Duration>,
    pub retry_policy: Option<String>,
    /// What is stored for its policy beside the configuration.
    pub budget: budget::Stored,
    /// Newest first.
    secrets: Vec<SigningKey>,
    /// The Unix millisecond in which each ends; 0: never.
    secret_ends_ms: Vec<i64>,
    /// Custom headers, decrypted.
    pub headers: Vec<(String, String)>,
    /// Certificates of its own, decrypted.
    pub own_tls: Option<OwnTls>,
    /// Why its URL must not be sent to.
    pub refused: Option<String>,
    /// No configured key opens the secrets: a fault of ours.
    pub unreadable: bool,
    /// Of the rows that this was made from.
    pub version: String,
}

/// The URL may hold a token, and a custom header a password.
impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Ready {
    /// The secrets that sign at this moment.
    pub fn live_secrets(&self, now_ms: i64) -> Cow<'_, [SigningKey]> {
        let is_live = |ends: &i64| *ends == 0 || *ends > now_ms;
        if self.secret_ends_ms.iter().all(is_live) {
            return Cow::Borrowed(&self.secrets);
        }
        let live = self.secrets.iter().zip(&self.secret_ends_ms).filter(|(_, ends)| is_live(ends));
        Cow::Owned(live.map(|(secret, _)| secret.clone()).collect())
    }

    /// It asked for time, and that is not over.
    pub fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    pub fn open(stored: Sendable, keys: &Keyring, rules: &Rules) -> Ready {
        let opened = open_secrets(&stored, keys);
        let headers = open_headers(&stored, keys);
        let own_tls = open_tls(&stored, keys);
        let errors = [opened.as_ref().err(), headers.as_ref().err(), own_tls.as_ref().err()];
        let error = errors.into_iter().flatten().next();
        if let Some(error) = error {
            tracing::error!(endpoint_id = %stored.id, %error, "the endpoint's secrets cannot be opened");
        }
        let unreadable = error.is_some();
        Ready {
            refused: refused(&stored, rules),
            id: stored.id,
            url: stored.url,
            enabled: stored.status == "enabled",
            max_in_flight: stored.max_in_flight.map(|n| n.max(1) as usize),
            rate_limit: stored.rate_limit_per_second,
            circuit: Circuit {
                state: State::parse(&stored.circuit_state).unwrap_or_default(),
                trips: stored.circuit_trips.max(0) as u32,
            },
            paused_until: stored.paused_ms.filter(|ms| *ms > 0).and_then(after),
            resumed_us: stored.resumed_us,
            answers: stored.answers.into(),
            timeout: stored.timeout_ms.map(|ms| Duration::from_millis(ms.max(1) as u64)),
            retry_policy: stored.retry_policy,
            budget: budget::Stored {
                named: stored.policy_budget.map(i32::unsigned_abs),
                default: stored.default_budget.map(i32::unsigned_abs),
            },
            secrets: opened.unwrap_or_default(),
            secret_ends_ms: stored.secret_ends_ms,
            headers: headers.unwrap_or_default(),
            own_tls: own_tls.unwrap_or_default(),
            unreadable,
            version: stored.version,
        }
    }
}

/// From now, as the database's clock has measured it.
fn after(ms: i64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_millis(ms.unsigned_abs()))
}

fn open_secrets(stored: &Sendable, keys: &Keyring) -> Result<Vec<SigningKey>, SealError> {
    let sealed = stored.secret_key_ids.iter().zip(&stored.secrets);
    let kinds = stored.secret_kinds.iter();
    kinds
        .zip(sealed)
        .map(|(kind, (key_id, sealed))| {
            let plain = keys.open(key_id, stored.id.as_bytes(), sealed)?;
            SigningKey::stored(kind, plain).ok_or(SealError::Damaged)
        })
        .collect()
}

/// A JSON list of pairs.
fn open_headers(stored: &Sendable, keys: &Keyring) -> Result<Vec<(String, String)>, SealError> {
    let Some(blob) = &stored.headers else { return Ok(Vec::new()) };
    serde_json::from_slice(&keys.open_blob(stored.id.as_bytes(), blob)?).map_err(|_| SealError::Damaged)
}

/// Both are PEM.
fn open_tls(stored: &Sendable, keys: &Keyring) -> Result<Option<OwnTls>, SealError> {
    let open =
        |blob: &Option<Vec<u8>>| blob.as_ref().map(|blob| keys.open_blob(stored.id.as_bytes(), blob)).transpose();
    let (identity, ca) = (open(&stored.client_identity)?, open(&stored.ca)?);
    OwnTls::open(identity.as_deref(), ca.as_deref()).map_err(|_| SealError::Damaged)
}

/// What cannot even be parsed is an attempt's failure.
fn refused(stored: &Sendable, rules: &Rules) -> Option<String> {
    let url = target::check_url(&stored.url).ok()?;
    rules.check(&url, stored.require_https).err().map(|refused| refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sealing::Key;

    impl Ready {
        /// Enabled, without a secret.
        pub fn for_test(id: Uuid) -> Ready {
            let stored = Sendable {
                id,
                url: "https://example.com/".into(),
                status: "enabled".into(),
                max_in_flight: None,
                rate_limit_per_second: None,
                timeout_ms: None,
                retry_policy: None,
                policy_budget: None,
                default_budget: None,
                circuit_state: "closed".into(),
                circuit_trips: 0,
                paused_ms: None,
                resumed_us: 0,
                answers: false,
                headers: None,
                client_identity: None,
                ca: None,
                require_https: false,
                secret_kinds: Vec::new(),
                secret_key_ids: Vec::new(),
                secrets: Vec::new(),
                secret_ends_ms: Vec::new(),
                version: String::new(),
            };
            Ready::open(stored, &Key::from_bytes([0; 32]).into(), &Rules::default())
        }
    }

    #[test]
    fn a_secret_signs_until_it_ends() {
        let secret = |n| SigningKey::stored("whsec", vec![n; 32]).unwrap();
        let ready = Ready {
            secrets: vec![secret(1), secret(2)],
            secret_ends_ms: vec![0, 1_000],
            ..Ready::for_test(Uuid::nil())
        };
        assert_eq!(*ready.live_secrets(999), [secret(1), secret(2)]);
        assert_eq!(*ready.live_secrets(1_000), [secret(1)]);
    }

    #[test]
    fn neither_urls_nor_headers_are_printed() {
        let headers = vec![("authorization".to_owned(), "hunter2".to_owned())];
        let ready = Ready { url: "https://example.com/hunter3".into(), headers, ..Ready::for_test(Uuid::nil()) };
        let printed = format!("{ready:?}");
        assert!(printed.contains("version") && !printed.contains("hunter"), "{printed}");
    }
}
