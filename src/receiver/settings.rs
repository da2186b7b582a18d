//! What the test receiver is told, and what it keeps of requests.

use std::time::SystemTime;

use bytes::Bytes;

use super::behaviour::Behaviour;
use crate::domain::signature::Secret;

/// The largest body that is taken, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Webhook ids that are remembered unless set otherwise; about 100 bytes each.
pub const DEFAULT_MAX_IDS: usize = 1_000_000;

#[derive(Debug, Clone)]
pub struct Settings {
    /// Any of these may have signed. Without secrets, nothing is verified.
    pub secrets: Vec<Secret>,
    pub behaviour: Behaviour,
    /// How many of the last requests are kept for `Handle::requests`.
    pub record: usize,
    pub max_ids: usize,
    /// No log line per request.
    pub quiet: bool,
    /// Told the result of each verification: `ok`, or the label of the error.
    pub on_verification: Option<fn(&'static str)>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            secrets: Vec::new(),
            behaviour: Behaviour::Ok,
            record: 0,
            max_ids: DEFAULT_MAX_IDS,
            quiet: false,
            on_verification: None,
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub path: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub arrived: SystemTime,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
