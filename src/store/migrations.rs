//! The texts of the schema, in their order. They are part of the program.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

/// A migration that begins like this runs outside a transaction.
const NO_TRANSACTION: &str = "-- no-transaction";

/// Number, name and text. What was released never changes.
const TEXTS: &[(i64, &str, &str)] = &[
    (1, "requirements", include_str!("migrations/0001_requirements.sql")),
    (2, "ids", include_str!("migrations/0002_ids.sql")),
    (3, "outbox", include_str!("migrations/0003_outbox.sql")),
    (4, "history", include_str!("migrations/0004_history.sql")),
    (5, "endpoints", include_str!("migrations/0005_endpoints.sql")),
    (6, "producer", include_str!("migrations/0006_producer.sql")),
    (7, "delay_queues", include_str!("migrations/0007_delay_queues.sql")),
    (8, "held", include_str!("migrations/0008_held.sql")),
    (9, "requeues", include_str!("migrations/0009_requeues.sql")),
    (10, "circuit", include_str!("migrations/0010_circuit.sql")),
    (11, "suspects", include_str!("migrations/0011_suspects.sql")),
    (12, "turns", include_str!("migrations/0012_turns.sql")),
    (13, "release", include_str!("migrations/0013_release.sql")),
    (14, "wake", include_str!("migrations/0014_wake.sql")),
    (15, "pauses", include_str!("migrations/0015_pauses.sql")),
    (16, "last_error", include_str!("migrations/0016_last_error.sql")),
    (17, "traceparent", include_str!("migrations/0017_traceparent.sql")),
    (18, "public_keys", include_str!("migrations/0018_public_keys.sql")),
    (19, "outgoing", include_str!("migrations/0019_outgoing.sql")),
    (20, "roles", include_str!("migrations/0020_roles.sql")),
    (21, "retention", include_str!("migrations/0021_retention.sql")),
    (22, "erasure", include_str!("migrations/0022_erasure.sql")),
    (24, "encryption_keys", include_str!("migrations/0024_encryption_keys.sql")),
    (25, "resends", include_str!("migrations/0025_resends.sql")),
    (27, "retry_budgets", include_str!("migrations/0027_retry_budgets.sql")),
    (29, "operations", include_str!("migrations/0029_operations.sql")),
    (31, "events_tenant", include_str!("migrations/0031_events_tenant.sql")),
];

pub(super) fn all() -> Vec<Migration> {
    let migration = |(version, name, text): &(i64, &str, &'static str)| {
        let (description, text) = (Cow::Owned(name.replace('_', " ")), text);
        let no_transaction = text.starts_with(NO_TRANSACTION);
        Migration::new(*version, description, MigrationType::Simple, text.into_sql_str(), no_transaction)
    };
    TEXTS.iter().map(migration).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_under_its_number_and_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
        let read = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        };
        let files: BTreeMap<String, String> = folder.read_dir().unwrap().map(|entry| read(entry.unwrap())).collect();
        let listed = TEXTS.iter().map(|(version, name, text)| (format!("{version:04}_{name}.sql"), (*text).to_owned()));
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), files);
        assert!(all().is_sorted(), "{TEXTS:?}");
    }
}
