//! Names in the environment that begin as ours do and are no setting: a setting that is misspelt must not be ignored in silence.

use figment::value::Dict;

use super::error::ConfigError;
use super::shape;

pub(super) const PREFIX: &str = "POSTHASTE_";

/// Of other programs of this project: a command with a secret in the environment, scripts, the compose file, the build.
const OTHERS: [&str; 8] = [
    "POSTHASTE_DEMO_SECRET",
    "POSTHASTE_ENCRYPTION_KEY",
    "POSTHASTE_ERLANG_BIN",
    "POSTHASTE_POSTGRES_BIN",
    "POSTHASTE_RABBITMQ_BIN",
    "POSTHASTE_RECEIVER_SECRET",
    "POSTHASTE_REVISION",
    "POSTHASTE_SERVERS",
];
/// Of tests.
const TESTS: [&str; 2] = ["POSTHASTE_TEST_", "POSTHASTE_LAB_"];

/// Refuses the first name that nobody reads. A name with two underscores is a setting, and is checked as one.
pub fn check<'a>(names: impl IntoIterator<Item = &'a str>, reference: &Dict) -> Result<(), ConfigError> {
    let mut strange: Vec<&str> = names.into_iter().filter(|name| is_strange(name)).collect();
    strange.sort_unstable();
    let Some(name) = strange.first() else { return Ok(()) };
    let nearest = shape::keys(reference).into_iter().min_by_key(|key| distance(key, name)).unwrap_or_default();
    Err(ConfigError::UnknownVariable { name: (*name).to_owned(), nearest: variable(&nearest) })
}

/// Edits from the name to the key's variable. Its section may have been left out.
fn distance(key: &str, name: &str) -> usize {
    const SECTION: usize = 2;
    let (_, last) = key.split_once('.').unwrap_or(("", key));
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let without_section = SECTION + strsim::levenshtein(&last.to_uppercase(), rest);
    strsim::levenshtein(&variable(key), name).min(without_section)
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn is_strange(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    !rest.contains("__")
        && !OTHERS.contains(&name)
        && !TESTS.iter().any(|prefix| name.starts_with(prefix))
        && !is_of_a_service(name)
}

/// Kubernetes tells every container where the services of its namespace are: POSTHASTE_SERVICE_HOST for a service
/// `posthaste`, POSTHASTE_RELAY_PORT_9464_TCP_ADDR for `posthaste-relay`.
fn is_of_a_service(name: &str) -> bool {
    let rest = |mark: &str| name.rsplit_once(mark).map(|(_, rest)| rest);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_port = |rest: &str| {
        let mut parts = rest.splitn(3, '_');
        let port = parts.next().is_some_and(digits);
        let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
        port && protocol && parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part))
    };
    name.ends_with("_SERVICE_HOST")
        || rest("_SERVICE_PORT").is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        || name.ends_with("_PORT")
        || rest("_PORT_").is_some_and(is_port)
}
