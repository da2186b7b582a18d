use std::time::Duration;

use posthaste::store::{Db, Options};
use sqlx::PgPool;
use uuid::Uuid;

use crate::isolation::endpoints::{self, New};
use crate::isolation::stack::Stack;
use crate::kit::binary::Binary;

/// Tenants with one endpoint each. Nothing is sent to these.
const TENANTS: usize = 200;
pub const SMALL: &str = "small";
const URL: &str = "https://192.0.2.1/";

/// One of the two databases.
pub struct Side {
    pub db: PgPool,
    pub binary: Binary,
    /// As a worker opens its sessions, and as a relay does for claims.
    pub service: Db,
    pub claims: Db,
    pub tenants: Vec<String>,
    pub endpoints: Vec<Uuid>,
    /// Of the small tenant: one that got everything, and one that was added later.
    pub small: [Uuid; 2],
}

impl Side {
    pub async fn new(db: PgPool, binary: Binary) -> Result<Side, String> {
        let tenants: Vec<String> = (1..=TENANTS).map(|number| format!("tenant-{number}")).collect();
        let new: Vec<New> = tenants.iter().map(|tenant| New::enabled(tenant, URL.into())).collect();
        let small: Vec<New> = (0..2).map(|_| New::enabled(SMALL, URL.into())).collect();
        let endpoints = endpoints::add(&db, &new).await?;
        let small = endpoints::add(&db, &small).await?;
        let (service, claims) = (open(&binary, false)?, open(&binary, true)?);
        Ok(Side { db, binary, service, claims, tenants, endpoints, small: [small[0], small[1]] })
    }

    /// With sessions that begin now.
    pub fn afresh(&self) -> Result<Side, String> {
        Ok(Side {
            db: self.db.clone(),
            binary: self.binary.clone(),
            service: open(&self.binary, false)?,
            claims: open(&self.binary, true)?,
            tenants: self.tenants.clone(),
            endpoints: self.endpoints.clone(),
            small: self.small,
        })
    }

    /// Another one on the same server.
    pub async fn beside(stack: &Stack, name: &str) -> Result<Side, String> {
        let (db, binary) = stack.beside(name).await?;
        Side::new(db, binary).await
    }
}

fn open(binary: &Binary, claims: bool) -> Result<Db, String> {
    let options = Options {
        url: binary.database_url.clone().into(),
        found: Default::default(),
        tls: posthaste::tls::Files::default(),
        max_connections: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(120),
        lock_timeout: Duration::from_secs(60),
        application_name: "posthaste history".into(),
        service: true,
        asynchronous_commit: claims,
        by_reference: false,
    };
    Db::new(&options).map_err(|error| error.to_string())
}
