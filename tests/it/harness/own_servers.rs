//! Servers that a test may kill: from the installed programs, and thrown away as a whole.

use std::io::{Write, stderr};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::servers::{Servers, make_template};
use super::unix;
use crate::kit::operate;
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::programs::Programs;
use crate::kit::servers::rabbitmq::RabbitMq;

/// Larger messages are refused by this RabbitMQ.
pub const MAX_MESSAGE_BYTES: usize = 100_000;

static SHARED: Mutex<Option<OwnServers>> = Mutex::const_new(None);

pub struct OwnServers {
    pub servers: Servers,
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    directory: TempDir,
}

impl OwnServers {
    /// For one test at a time; made by the first one. `None`, with a word about it, where the programs are not installed.
    pub async fn lock(test: &str) -> Option<MutexGuard<'static, Option<OwnServers>>> {
        let mut shared = SHARED.lock().await;
        if shared.is_none() {
            if Programs::find().is_none() {
                // Not by the macro: what a passing test prints is not shown.
                let why =
                    "no PostgreSQL and RabbitMQ are installed here (POSTHASTE_POSTGRES_BIN, POSTHASTE_RABBITMQ_BIN)";
                let _ = writeln!(stderr(), "SKIPPED {test}: it kills servers of its own, and {why}");
                return None;
            }
            *shared = Some(OwnServers::start().await.expect("servers of our own"));
            unix::at_exit(at_exit);
        }
        Some(shared)
    }

    async fn start() -> Result<OwnServers, String> {
        let (directory, limit) = (directory(), format!("max_message_size = {MAX_MESSAGE_BYTES}\n"));
        let (postgres, rabbitmq) = operate::start(directory.path(), &[], &limit, "").await?;
        let (database_url, amqp_url) = (postgres.url(), rabbitmq.url());
        let template = make_template(&database_url).await?;
        Ok(OwnServers { servers: Servers { database_url, amqp_url, template }, postgres, rabbitmq, directory })
    }

    pub async fn memory_alarm(&self, raised: bool) {
        self.rabbitmq.memory_alarm(raised).await.expect("a limit of memory");
    }

    /// No disk is that large, so the broker raises its alarm at once.
    pub async fn disk_alarm(&self, raised: bool) {
        let limit = if raised { "1000000GB" } else { "1MB" };
        self.rabbitmq.control(&["set_disk_free_limit", limit]).await.expect("a limit of disk");
    }
}

/// For servers, whose users may pass through it.
pub fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("posthaste-it-").tempdir().expect("a directory for servers");
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory.path(), open).expect("a directory that the servers' users may enter");
    directory
}

extern "C" fn at_exit() {
    if let Ok(mut shared) = SHARED.try_lock()
        && let Some(own) = shared.take()
    {
        drop((own.postgres, own.rabbitmq));
        let _ = own.directory.close();
    }
}
