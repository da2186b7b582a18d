//! Sealed values one after the other, for a rotation: read in bounded batches, and replaced only where they are still what was
//! read. A row that somebody has locked is left for later.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Db, Result};

/// Where sealed values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Secrets,
    Headers,
    ClientCertificates,
    Authorities,
}

/// A sealed value: the key's id, then what it has sealed.
#[derive(Debug, Clone, sqlx_macros::FromRow)]
pub struct Value {
    /// Of its row, as a text.
    pub row: String,
    pub endpoint_id: Uuid,
    pub sealed: Vec<u8>,
}

/// A value and what takes its place.
#[derive(Debug)]
pub struct Resealed {
    pub old: Value,
    pub new: Vec<u8>,
}

impl Place {
    pub const ALL: [Place; 4] = [Place::Secrets, Place::Headers, Place::ClientCertificates, Place::Authorities];

    pub fn as_str(self) -> &'static str {
        match self {
            Place::Secrets => "secrets",
            Place::Headers => "headers",
            Place::ClientCertificates => "client_certificates",
            Place::Authorities => "authorities",
        }
    }

    /// Before the first row.
    pub fn beginning(self) -> String {
        match self {
            Place::Secrets => "0".into(),
            _ => Uuid::nil().to_string(),
        }
    }

    /// Values of one statement. Certificates have up to 128 KiB.
    fn batch(self) -> i64 {
        match self {
            Place::Secrets | Place::Headers => 200,
            Place::ClientCertificates | Place::Authorities => 50,
        }
    }

    /// Table, type of its id, column of the endpoint, the sealed value, and how a new one is written.
    fn names(self) -> [&'static str; 5] {
        let column = |sealed, write| ["endpoints", "uuid", "id", sealed, write];
        match self {
            Place::Secrets => [
                "endpoint_secrets",
                "bigint",
                "endpoint_id",
                "convert_to(t.key_id, 'UTF8') || t.key_ciphertext",
                "key_id = convert_from(substr(f.new, 1, 8), 'UTF8'), key_ciphertext = substr(f.new, 9)",
            ],
            Place::Headers => column("t.headers", "headers = f.new"),
            Place::ClientCertificates => column("t.client_identity", "client_identity = f.new"),
            Place::Authorities => column("t.ca", "ca = f.new"),
        }
    }
}

/// The next values after a row that another key than this one has sealed.
pub async fn next(db: &Db, place: Place, key_id: &str, after: &str) -> Result<Vec<Value>> {
    let [table, id, endpoint, sealed, _] = place.names();
    let text = format!(
        "select t.id::text as row, t.{endpoint} as endpoint_id, {sealed} as sealed from posthaste.{table} t
          where t.id > $1::text::{id} and substr({sealed}, 1, 8) <> convert_to($2, 'UTF8') order by t.id limit {}",
        place.batch()
    );
    db.run(async |c| sqlx::query_as(AssertSqlSafe(text)).bind(after).bind(key_id).fetch_all(c).await).await
}

/// Writes new values where the old ones are still there and nobody has the row locked. Returns how many were written.
pub async fn replace(db: &Db, place: Place, resealed: &[Resealed]) -> Result<u64> {
    if resealed.is_empty() {
        return Ok(0);
    }
    let [table, id, _, sealed, write] = place.names();
    let text = format!(
        "with f as materialized (
           select t.id, v.new from unnest($1::text[], $2::bytea[], $3::bytea[]) as v(row, old, new)
             join posthaste.{table} t on t.id = v.row::{id} where {sealed} = v.old order by t.id
              for no key update of t skip locked)
         update posthaste.{table} t set {write} from f where t.id = f.id"
    );
    let rows: Vec<&str> = resealed.iter().map(|value| value.old.row.as_str()).collect();
    let old: Vec<&[u8]> = resealed.iter().map(|value| value.old.sealed.as_slice()).collect();
    let new: Vec<&[u8]> = resealed.iter().map(|value| value.new.as_slice()).collect();
    let replaced =
        db.run(async |c| sqlx::query(AssertSqlSafe(text)).bind(rows).bind(old).bind(new).execute(c).await).await?;
    Ok(replaced.rows_affected())
}
