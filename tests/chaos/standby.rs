//! A standby of PostgreSQL that receives what the primary writes, and can take its place.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::chaos::kind::Durability;
use crate::chaos::proxy::{Mode, Proxy};
use crate::kit::ask_until;
use crate::kit::servers::daemon::Daemon;
use crate::kit::servers::postgres::Postgres;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Standby {
    pub postgres: Postgres,
    /// Between it and the primary.
    link: Proxy,
}

impl Standby {
    /// A copy of the primary, in a directory with this name, which follows it.
    pub async fn of(primary: &Postgres, parent: &Path, name: &str, port: u16) -> Result<Standby, String> {
        let link = Proxy::deaf(&primary.url());
        let daemon = Daemon::new(parent, name, &["postgres"])?;
        let source = link.url(&primary.url());
        let mut copy = daemon.command(&primary.bin.join("pg_basebackup"), &[]);
        copy.args(["-D", "data", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &source]);
        let made =
            crate::kit::binary::finish(copy, PATIENCE).await.map_err(|error| format!("pg_basebackup: {error}"))?;
        if !made.status.success() {
            return Err(format!("pg_basebackup: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let (bin, password, options) = (primary.bin.clone(), primary.password.clone(), primary.options.clone());
        let mut postgres = Postgres { daemon, bin, port, password, options };
        postgres.start().await?;
        Ok(Standby { postgres, link })
    }

    /// Nothing that the primary writes arrives any more. The primary does not notice for a while.
    pub fn hold_up(&self) {
        self.link.set(Mode::Swallow);
    }

    /// Returns when it takes writes.
    pub async fn promote(&self) -> Result<(), String> {
        let mut connection = connect(&self.postgres).await?;
        let promoted = sqlx::query_scalar("select pg_promote()").fetch_one(&mut connection).await;
        promoted
            .map_err(|error| error.to_string())
            .and_then(|done: bool| done.then_some(()).ok_or_else(|| "the standby was not promoted in time".to_owned()))
    }
}

/// What a commit on the primary waits for; returns when the standby is there for it.
pub async fn wait_for_standby(primary: &Postgres, durability: Durability) -> Result<(), String> {
    let (names, commit, state) = match durability {
        Durability::RemoteApply => ("*", "remote_apply", "sync"),
        Durability::On => ("*", "on", "sync"),
        Durability::Asynchronous => ("", "on", "async"),
    };
    let mut connection = connect(primary).await?;
    for statement in [
        format!("alter system set synchronous_standby_names = '{names}'"),
        format!("alter system set synchronous_commit = '{commit}'"),
        "select pg_reload_conf()".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.map_err(|error| error.to_string())?;
    }
    let streams = "select count(*) from pg_stat_replication where state = 'streaming' and sync_state = $1";
    let there = async || {
        let count: i64 = sqlx::query_scalar(streams).bind(state).fetch_one(&mut connection).await.ok()?;
        (count == 1).then_some(())
    };
    ask_until(PATIENCE, LOOK_AGAIN, there).await.ok_or_else(|| format!("no standby is {state} within {PATIENCE:?}"))
}

/// Without a proxy.
pub async fn connect(server: &Postgres) -> Result<PgConnection, String> {
    let options: PgConnectOptions = server.url().parse().map_err(|error: sqlx::Error| error.to_string())?;
    options.connect().await.map_err(|error| error.to_string())
}
