//! What statements run on.

use sqlx::{PgConnection, PgPool};

pub type Pool = PgPool;
pub type Conn = PgConnection;
pub type Tx<'a> = sqlx::Transaction<'a, sqlx::Postgres>;
