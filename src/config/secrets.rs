//! Values that must not be printed: server URLs hold passwords, and the encryption key guards all other secrets.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use url::Url;

use super::error::ConfigError;
use super::values::Values;
use crate::domain::servers;

pub const KEY_BYTES: usize = 32;
/// Keys that are configured at once. A rotation needs two.
const MOST_KEYS: usize = 8;

/// The URL of a server. Shown without its password and its query, which may hold one as well.
#[derive(Clone)]
pub struct ServerUrl {
    full: SecretString,
    shown: String,
}

impl ServerUrl {
    pub fn expose(&self) -> &str {
        self.full.expose_secret()
    }

    pub fn scheme(&self) -> &str {
        self.shown.split(':').next().unwrap_or_default()
    }

    /// Of its query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let listed = servers::listed(self.expose()).ok()?;
        let url = Url::parse(listed.each.first()?).ok()?;
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The parser's message and ours never repeat the text.
    fn parse(text: &str, schemes: &[&str], example: &str) -> Result<ServerUrl, String> {
        let url = Url::parse(text).map_err(|error| {
            format!("is not a URL ({error}); write it like {example}, special characters in the password as %XX")
        })?;
        if !schemes.contains(&url.scheme()) {
            let fix = schemes.join(":// or ");
            return Err(format!("begins with {}://; use {fix}://, like {example}", url.scheme()));
        }
        if url.cannot_be_a_base() {
            return Err(format!("has no // after {}:; write it like {example}", url.scheme()));
        }
        Ok(ServerUrl { full: text.to_owned().into(), shown: redacted(url) })
    }

    /// One that may list several hosts, each of which has to be right.
    fn parse_list(text: &str, schemes: &[&str], example: &str) -> Result<ServerUrl, String> {
        let listed = servers::listed(text)?;
        let urls = listed.each.iter().map(|url| ServerUrl::parse(url, schemes, example));
        let urls = urls.collect::<Result<Vec<ServerUrl>, String>>()?;
        let in_query = |url: &ServerUrl| ["host", "hostaddr"].iter().any(|name| has_comma(url.parameter(name)));
        if urls.iter().any(in_query) {
            return Err(format!("lists hosts in its query; write them like {example}, with commas between them"));
        }
        let first = urls.first().map(|url| servers::with_hosts(&url.shown, servers::hosts(text)));
        Ok(ServerUrl { full: text.to_owned().into(), shown: first.unwrap_or_default() })
    }
}

fn has_comma(text: Option<String>) -> bool {
    text.is_some_and(|text| text.contains(','))
}

fn redacted(mut url: Url) -> String {
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return format!("{}://***", url.scheme());
    }
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A key that encrypts signing secrets and custom headers at rest. Never printed.
#[derive(Clone)]
pub struct EncryptionKey(Arc<SecretBox<[u8; KEY_BYTES]>>);

impl EncryptionKey {
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }

    fn parse(text: &str) -> Result<EncryptionKey, String> {
        let fix = "make one with `posthaste keygen`";
        let bytes = STANDARD.decode(text).map_err(|_| format!("is not base64 with padding; {fix}"))?;
        let length = bytes.len();
        let key: [u8; KEY_BYTES] =
            bytes.try_into().map_err(|_| format!("holds {length} bytes, not {KEY_BYTES}; {fix}"))?;
        Ok(EncryptionKey(Arc::new(SecretBox::new(Box::new(key)))))
    }
}

/// One key, or several with commas between them.
fn encryption_keys_of(text: &str) -> Result<Vec<EncryptionKey>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > MOST_KEYS {
        return Err(format!("holds {} keys; use at most {MOST_KEYS}", parts.len()));
    }
    let mut keys: Vec<EncryptionKey> = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        let named = |problem: String| if parts.len() > 1 { format!("key {number} {problem}") } else { problem };
        let key = EncryptionKey::parse(part).map_err(named)?;
        if let Some(same) = keys.iter().position(|other| other.expose() == key.expose()) {
            return Err(format!("key {number} is the same as key {}; leave one of them out", same + 1));
        }
        keys.push(key);
    }
    Ok(keys)
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey([redacted])")
    }
}

pub fn database_url(values: &Values) -> Result<Option<ServerUrl>, ConfigError> {
    let example = "postgres://user:password@localhost:5432/posthaste";
    optional(values, "database.url", |text| ServerUrl::parse_list(text, &["postgres", "postgresql"], example))
}

pub fn amqp_url(values: &Values) -> Result<Option<ServerUrl>, ConfigError> {
    let example = "amqp://guest:guest@localhost:5672";
    optional(values, "broker.url", |text| ServerUrl::parse(text, &["amqp", "amqps"], example))
}

/// By plain HTTP: it is asked from within the network that it is in.
pub fn management_url(values: &Values) -> Result<Option<ServerUrl>, ConfigError> {
    let example = "http://monitoring:password@localhost:15672";
    optional(values, "broker.management_url", |text| ServerUrl::parse(text, &["http"], example))
}

pub fn proxy_url(values: &Values) -> Result<Option<ServerUrl>, ConfigError> {
    let example = "http://user:password@proxy.internal:3128";
    optional(values, "delivery.proxy", |text| {
        let proxy = ServerUrl::parse(text, &["http", "https"], example)?;
        // Parsed just now.
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("has something after the port; write it like {example}"));
        }
        Ok(proxy)
    })
}

/// In their order; none where it is not set.
pub fn encryption_keys(values: &Values) -> Result<Vec<EncryptionKey>, ConfigError> {
    Ok(optional(values, "security.encryption_key", encryption_keys_of)?.unwrap_or_default())
}

fn optional<T>(
    values: &Values,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    match values.text(key)?.trim() {
        "" => Ok(None),
        text => parse(text).map(Some).map_err(|problem| values.invalid(key, problem)),
    }
}
