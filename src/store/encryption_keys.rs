//! Which encryption keys the database knows, by their ids, and what each has sealed.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result};

/// A key that the database knows, or that something in it is sealed with.
#[derive(Debug, Clone, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
pub struct KnownKey {
    pub key_id: String,
    /// Null for a key that the database was never told of.
    pub added_at: Option<DateTime<Utc>>,
    /// Since when it seals nothing any more.
    pub retired_at: Option<DateTime<Utc>>,
    pub secrets: i64,
    pub headers: i64,
    pub client_certificates: i64,
    pub authorities: i64,
}

impl KnownKey {
    pub fn is_current(&self) -> bool {
        self.added_at.is_some() && self.retired_at.is_none()
    }

    pub fn values(&self) -> i64 {
        self.secrets + self.headers + self.client_certificates + self.authorities
    }
}

/// A value that no key of some list has sealed.
#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Unreadable {
    pub endpoint_id: Uuid,
    pub tenant: String,
    pub what: String,
    pub key_id: String,
}

/// Every sealed value as (endpoint_id, what, key_id).
macro_rules! sealed {
    () => {
        "select endpoint_id, 'secret' as what, key_id from posthaste.endpoint_secrets
         union all
         select e.id, v.what, encode(substr(v.sealed, 1, 8), 'escape')
           from posthaste.endpoints e
          cross join (values ('headers'), ('client_certificate'), ('authorities')) as n(what)
          cross join lateral (select n.what, case n.what when 'headers' then e.headers
                                                         when 'client_certificate' then e.client_identity
                                                         else e.ca end as sealed) v
          where v.sealed is not null"
    };
}

/// The id of the key that seals. `None`: nothing was ever sealed here.
pub async fn current(db: &Db) -> Result<Option<String>> {
    let read = "select key_id from posthaste.encryption_keys where retired_at is null";
    db.run(async |c| sqlx::query_scalar(read).fetch_optional(c).await).await
}

/// From now on this key seals. Waits for whoever is sealing at this moment.
pub async fn seal_with(db: &Db, key_id: &str) -> Result<()> {
    let seal = "select posthaste.seal_with($1)";
    db.run(async |c| sqlx::query(seal).bind(key_id).execute(c).await.map(drop)).await
}

/// The one that seals first. Reads all endpoints: for a command, or once.
pub async fn known(db: &Db) -> Result<Vec<KnownKey>> {
    let read = concat!(
        "with s as (",
        sealed!(),
        "), u as (
           select key_id, count(*) filter (where what = 'secret') as secrets,
                  count(*) filter (where what = 'headers') as headers,
                  count(*) filter (where what = 'client_certificate') as client_certificates,
                  count(*) filter (where what = 'authorities') as authorities
             from s group by key_id)
         select key_id, k.added_at, k.retired_at, coalesce(u.secrets, 0) as secrets, coalesce(u.headers, 0) as headers,
                coalesce(u.client_certificates, 0) as client_certificates, coalesce(u.authorities, 0) as authorities
           from posthaste.encryption_keys k full join u using (key_id)
          order by k.added_at is not null and k.retired_at is null desc, k.retired_at desc nulls last, key_id"
    );
    db.run(async |c| sqlx::query_as(read).fetch_all(c).await).await
}

/// Values that are sealed with none of these keys, and how many there are.
pub async fn unreadable(db: &Db, key_ids: &[String], limit: i64) -> Result<(i64, Vec<Unreadable>)> {
    let (count, list) = (
        concat!("select count(*) from (", sealed!(), ") s where s.key_id <> all ($1)"),
        concat!(
            "select s.endpoint_id, e.tenant, s.what, s.key_id from (",
            sealed!(),
            ") s join posthaste.endpoints e on e.id = s.endpoint_id
              where s.key_id <> all ($1) order by s.endpoint_id, s.what limit $2"
        ),
    );
    db.run(async |c| {
        let count = sqlx::query_scalar(count).bind(key_ids).fetch_one(&mut *c).await?;
        Ok((count, sqlx::query_as(list).bind(key_ids).bind(limit).fetch_all(c).await?))
    })
    .await
}
