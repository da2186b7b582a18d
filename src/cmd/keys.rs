//! `keys list` and `keys rotate`: the encryption keys.

use serde_json::{Value, json};

use super::compose;
use super::failure::{Failure, Outcome};
use super::output::{self, or_dash, time};
use crate::cli::Keys;
use crate::config::Config;
use crate::domain::sealing::Keyring;
use crate::store::Db;
use crate::store::encryption_keys::{self, KnownKey, Unreadable};

mod rotate;

/// Values that are named one by one.
const MOST_NAMED: i64 = 100;

pub async fn run(config: &Config, command: Keys) -> Outcome {
    match command {
        Keys::List(output) => list(config, output.json).await,
        Keys::Rotate(args) => rotate::run(config, &args).await,
    }
}

/// For a process that opens values. With a key of another installation, or one from before a rotation, it does not start: it
/// would hold everything. What it cannot open of older values is said, and the rest goes on.
pub async fn check(db: &Db, keys: &Keyring) -> Outcome {
    let known = encryption_keys::known(db).await?;
    let lacks = |key: &&KnownKey| key.values() > 0 && keys.by_id(&key.key_id).is_none();
    if let Some(key) = known.iter().filter(lacks).find(|key| key.is_current()) {
        return Err(Failure::Usage(format!(
            "security.encryption_key: no key that is configured (id {}) is the one that this database is sealed with, which has the id {}; \
             set that one, with a comma beside another if need be",
            keys.ids().join(", "),
            key.key_id
        )));
    }
    for key in known.iter().filter(lacks) {
        tracing::error!(
            key_id = key.key_id,
            values = key.values(),
            "no configured encryption key opens these values, and deliveries to their endpoints are held; see `posthaste keys list`"
        );
    }
    Ok(())
}

async fn list(config: &Config, as_json: bool) -> Outcome {
    let keys = compose::keys(config)?;
    let db = compose::command_db(config)?;
    let known = encryption_keys::known(&db).await?;
    let (count, unreadable) = encryption_keys::unreadable(&db, &keys.ids(), MOST_NAMED).await?;
    let unused = keys.ids().into_iter().filter(|id| known.iter().all(|key| key.key_id != *id)).map(|key_id| KnownKey {
        key_id,
        added_at: None,
        retired_at: None,
        secrets: 0,
        headers: 0,
        client_certificates: 0,
        authorities: 0,
    });
    let all: Vec<KnownKey> = known.iter().cloned().chain(unused).collect();
    if as_json {
        let keys: Vec<Value> = all.iter().map(|key| described(key, &keys)).collect();
        return output::json(&json!({"keys": keys, "unreadable_values": count, "unreadable": unreadable}));
    }
    let row = |key: &KnownKey| {
        let counts =
            [key.secrets, key.headers, key.client_certificates, key.authorities].map(|count| count.to_string());
        let named = [key.key_id.clone(), configured(key, &keys).into(), standing(key).into()];
        let times = [or_dash(key.added_at.map(time)), or_dash(key.retired_at.map(time))];
        named.into_iter().chain(counts).chain(times).collect::<Vec<String>>()
    };
    let header = [
        "key",
        "configured",
        "database",
        "secrets",
        "headers",
        "client certificates",
        "authorities",
        "added",
        "retired",
    ];
    output::table(&header, all.iter().map(row))?;
    if count == 0 {
        return Ok(());
    }
    output::line(&format!("\n{count} values are opened by no configured key:\n"))?;
    let row = |value: Unreadable| vec![value.endpoint_id.to_string(), value.tenant, value.what, value.key_id];
    output::table(&["endpoint", "tenant", "what", "key"], unreadable.into_iter().map(row))
}

fn described(key: &KnownKey, keys: &Keyring) -> Value {
    json!({
        "key_id": key.key_id, "configured": configured(key, keys), "database": standing(key), "added_at": key.added_at,
        "retired_at": key.retired_at, "secrets": key.secrets, "headers": key.headers,
        "client_certificates": key.client_certificates, "authorities": key.authorities,
    })
}

fn configured(key: &KnownKey, keys: &Keyring) -> &'static str {
    match keys.by_id(&key.key_id) {
        Some(_) if keys.first().id() == key.key_id => "first",
        Some(_) => "opens",
        None => "no",
    }
}

fn standing(key: &KnownKey) -> &'static str {
    match (key.added_at, key.retired_at) {
        (Some(_), None) => "seals",
        (Some(_), Some(_)) => "retired",
        (None, _) => "unknown",
    }
}
