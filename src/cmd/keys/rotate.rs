//! `keys rotate`: everything is sealed again with the first configured key. Nothing has to stand still for it: from the beginning
//! the database refuses what another key seals, workers open both kinds, and each value is replaced only where it is still what
//! was read. Killed anywhere it may simply be run again.

use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use super::super::output;
use crate::cli::RotateKeys;
use crate::config::Config;
use crate::domain::sealing::{Keyring, SealError};
use crate::store::reseal::{self, Place, Resealed, Value};
use crate::store::{Db, encryption_keys};

/// How often everything is looked through for what was locked, or has changed meanwhile.
const PASSES: u32 = 10;
/// Values that do not open and are named one by one.
const MOST_NAMED: usize = 100;
const PAUSE: Duration = Duration::from_millis(500);

/// An account of what was done.
#[derive(Debug, Default)]
struct Done {
    /// For each place.
    resealed: [u64; Place::ALL.len()],
    /// Values that somebody had locked to the end.
    left: u64,
    /// Values that did not open, as far as they are named.
    unopened: Vec<(Place, Uuid, String)>,
    unopened_count: u64,
}

pub async fn run(config: &Config, args: &RotateKeys) -> Outcome {
    let keys = compose::keys(config)?;
    let db = compose::command_db(config)?;
    let key_id = keys.first().id();
    may_begin(&db, &keys).await?;
    if !args.dry_run {
        encryption_keys::seal_with(&db, &key_id).await?;
    }
    let mut done = Done::default();
    for pass in 1..=PASSES {
        let resealed = done.resealed;
        done = Done { resealed, ..Done::default() };
        for (n, place) in Place::ALL.into_iter().enumerate() {
            look_through(&db, &keys, (n, place), args.dry_run, &mut done).await?;
        }
        if args.dry_run || done.left == 0 || pass == PASSES {
            break;
        }
        // There is nothing to wait on: the locks are somebody else's.
        tokio::time::sleep(PAUSE).await;
    }
    report(args, &key_id, &done)?;
    finished(&done)
}

/// With the database's own key among those that are configured, they belong to it.
async fn may_begin(db: &Db, keys: &Keyring) -> Outcome {
    match encryption_keys::current(db).await? {
        Some(theirs) if keys.by_id(&theirs).is_none() => Err(Failure::Usage(format!(
            "security.encryption_key: the key of this database (id {theirs}) is not among those that are configured (id {}); \
             add it behind the new one, with a comma between them",
            keys.ids().join(", ")
        ))),
        _ => Ok(()),
    }
}

async fn look_through(
    db: &Db,
    keys: &Keyring,
    (n, place): (usize, Place),
    dry_run: bool,
    done: &mut Done,
) -> Result<(), Failure> {
    let key_id = keys.first().id();
    let mut after = place.beginning();
    loop {
        let values = reseal::next(db, place, &key_id, &after).await?;
        let Some(last) = values.last() else { return Ok(()) };
        after.clone_from(&last.row);
        let mut resealed = Vec::new();
        for value in values {
            match sealed_again(keys, &value) {
                Ok(new) => resealed.push(Resealed { old: value, new }),
                Err(error) => done.unopened(place, value.endpoint_id, &error),
            }
        }
        let count = resealed.len() as u64;
        let replaced = if dry_run { count } else { reseal::replace(db, place, &resealed).await? };
        done.resealed[n] += replaced;
        done.left += count - replaced;
    }
}

fn sealed_again(keys: &Keyring, value: &Value) -> Result<Vec<u8>, SealError> {
    let owner = value.endpoint_id.as_bytes();
    let plain = keys.open_blob(owner, &value.sealed)?;
    keys.first().seal_blob(rand::random(), owner, &plain)
}

impl Done {
    fn unopened(&mut self, place: Place, endpoint: Uuid, error: &SealError) {
        self.unopened_count += 1;
        if self.unopened.len() < MOST_NAMED {
            self.unopened.push((place, endpoint, error.to_string()));
        }
    }
}

fn report(args: &RotateKeys, key_id: &str, done: &Done) -> Outcome {
    let counts = Place::ALL.iter().zip(done.resealed);
    if args.output.json {
        let resealed: serde_json::Map<String, Json> =
            counts.map(|(place, count)| (place.as_str().to_owned(), count.into())).collect();
        let named = |(place, endpoint, error): &(Place, Uuid, String)| json!({"endpoint_id": endpoint, "what": place.as_str(), "error": error});
        return output::json(&json!({
            "dry_run": args.dry_run, "key_id": key_id, "resealed": resealed, "locked": done.left,
            "unopened_values": done.unopened_count, "unopened": done.unopened.iter().map(named).collect::<Vec<_>>(),
        }));
    }
    let mut lines = vec![("key", key_id.to_owned())];
    lines.extend(counts.map(|(place, count)| (place.as_str(), count.to_string())));
    if args.dry_run {
        lines.push(("changed", "nothing (--dry-run)".into()));
    }
    output::pairs(&lines)?;
    for (place, endpoint, error) in &done.unopened {
        output::line(&format!("{} of endpoint {endpoint}: {}", place.as_str(), output::plain(error)))?;
    }
    Ok(())
}

fn finished(done: &Done) -> Outcome {
    if done.unopened_count > 0 {
        return Err(Failure::Failed(format!(
            "{} values do not open and stay as they are; configure the key that has sealed them, or set them anew",
            done.unopened_count
        )));
    }
    if done.left > 0 {
        return Err(Failure::Failed(format!(
            "{} values are locked by somebody; run the same again when that transaction has ended",
            done.left
        )));
    }
    Ok(())
}
