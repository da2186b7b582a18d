//! Servers that a test may kill: from the installed programs, and thrown away as a whole.

use std::io::{Write, stderr};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::servers::{Servers, make_template};
use super::unix;
use crate::kit::operate;
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::programs::{Lack, Programs};
use crate::kit::servers::rabbitmq::RabbitMq;

/// Larger messages are refused by this RabbitMQ.
pub const MAX_MESSAGE_BYTES: usize = 100_000;

static SHARED: Mutex<Option<OwnServers>> = Mutex::const_new(None);

/// From the installed programs. They end when it is dropped, and their directory goes with them.
pub struct Native {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    _directory: TempDir,
}

pub struct OwnServers {
    pub servers: Servers,
    pub native: Native,
}

impl Native {
    /// With further options of PostgreSQL, and lines of rabbitmq.conf.
    pub async fn start(options: &[&str], settings: &str) -> Result<Native, String> {
        let directory = directory();
        let (postgres, rabbitmq) = operate::start(directory.path(), options, settings, "").await?;
        Ok(Native { postgres, rabbitmq, _directory: directory })
    }
}

/// For servers, whose users must be able to pass through it.
pub fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("posthaste-it-").tempdir().expect("a directory for servers");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).expect("our own directory");
    directory
}

impl OwnServers {
    /// For one test at a time; made by the first one. `None`, with a word about it, where the programs are not installed.
    pub async fn lock(test: &str) -> Option<MutexGuard<'static, Option<OwnServers>>> {
        let mut shared = SHARED.lock().await;
        if shared.is_none() {
            if let Err(lack @ Lack::Missing(_)) = Programs::find() {
                // Not by the macro: what a passing test prints is not shown.
                let _ = writeln!(stderr(), "SKIPPED {test}: it kills servers of its own ({lack})");
                return None;
            }
            *shared = Some(OwnServers::start().await.expect("servers of our own"));
            unix::at_exit(at_exit);
        }
        Some(shared)
    }

    async fn start() -> Result<OwnServers, String> {
        let native = Native::start(&[], &format!("max_message_size = {MAX_MESSAGE_BYTES}\n")).await?;
        let (database_url, amqp_url) = (native.postgres.url(), native.rabbitmq.url());
        let template = make_template(&database_url).await?;
        Ok(OwnServers { servers: Servers { database_url, amqp_url, template }, native })
    }

    pub async fn memory_alarm(&self, raised: bool) {
        self.native.rabbitmq.memory_alarm(raised).await.expect("a limit of memory");
    }

    /// No disk is that large, so the broker raises its alarm at once.
    pub async fn disk_alarm(&self, raised: bool) {
        let limit = if raised { "1000000GB" } else { "1MB" };
        self.native.rabbitmq.control(&["set_disk_free_limit", limit]).await.expect("a limit of disk");
    }
}

extern "C" fn at_exit() {
    if let Ok(mut shared) = SHARED.try_lock() {
        drop(shared.take());
    }
}
