//! The real PgBouncer, where it is installed, with the lines that docs/deployment.md gives.

use std::io::{Write, stderr};
use std::net::TcpStream;
use std::path::PathBuf;

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

use crate::harness::{Receiver, Stack, directory, eventually};
use crate::kit::proxy::by_way_of;
use crate::kit::servers::daemon::{Daemon, free_port};

/// Debian has it outside of most people's PATH.
const PLACES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// As docs/deployment.md has it, for the database in place of the role.
const GIVE: &str = "do $do$ declare setting text; begin
    foreach setting in array array['enable_seqscan = off', 'jit = off', 'plan_cache_mode = force_generic_plan',
        'statement_timeout = ''30s''', 'lock_timeout = ''2s''', 'idle_in_transaction_session_timeout = ''30s''',
        'TimeZone = ''UTC''', 'idle_session_timeout = ''15min''', 'tcp_keepalives_idle = ''10s''']
    loop execute format('alter database %I set %s', current_database(), setting); end loop;
end $do$";

/// In front of one database. It ends when it is dropped.
struct PgBouncer {
    daemon: Daemon,
    program: PathBuf,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    /// None, with a word about it, where it is not installed.
    async fn start(test: &str, pool_mode: &str, url: &str) -> Option<PgBouncer> {
        let Some(program) = installed() else {
            // Not by the macro: what a passing test prints is not shown.
            let _ = writeln!(stderr(), "SKIPPED {test}: PgBouncer is not installed (Debian: pgbouncer)");
            return None;
        };
        let (directory, port) = (directory(), free_port());
        let daemon = Daemon::new(directory.path(), "pgbouncer", &["postgres"]).unwrap();
        daemon.write("pgbouncer.ini", &configuration(pool_mode, url, port)).unwrap();
        let mut pooler = PgBouncer { daemon, program, port, _directory: directory };
        pooler.launch().await;
        Some(pooler)
    }

    async fn launch(&mut self) {
        self.daemon.launch(&self.program, &["pgbouncer.ini"], &[]);
        let port = self.port;
        eventually("PgBouncer listens", async || TcpStream::connect(("127.0.0.1", port)).ok()).await;
    }

    fn url(&self, url: &str) -> String {
        by_way_of(self.port, url)
    }
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    places.map(|place| place.join("pgbouncer")).find(|program| program.is_file())
}

fn configuration(pool_mode: &str, url: &str, port: u16) -> String {
    let url = Url::parse(url).unwrap();
    let (host, server, user) = (url.host_str().unwrap(), url.port().unwrap_or(5432), url.username());
    let password = url.password().map(|password| format!(" password={password}")).unwrap_or_default();
    format!(
        "[databases]\n* = host={host} port={server} user={user}{password}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = {pool_mode}\nignore_startup_parameters = extra_float_digits, options\ndefault_pool_size = 60\n"
    )
}

#[tokio::test]
async fn a_service_works_through_pgbouncer_in_session_mode_and_survives_its_end() {
    let test = "a_service_works_through_pgbouncer_in_session_mode_and_survives_its_end";
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let Some(mut pooler) = PgBouncer::start(test, "session", &stack.binary.database_url).await else { return };
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.execute(GIVE).await;
    let url = pooler.url(&stack.binary.database_url);
    for command in ["relay", "worker"] {
        stack.start(command, &[("database.url", &url)]).await;
    }
    stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;

    pooler.daemon.kill();
    stack.emit("acme", "order.created", "{}").await;
    pooler.launch().await;

    receiver.wait_for(2).await;
}

#[tokio::test]
async fn a_producer_emits_through_pgbouncer_in_transaction_mode() {
    let test = "a_producer_emits_through_pgbouncer_in_transaction_mode";
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let Some(pooler) = PgBouncer::start(test, "transaction", &stack.binary.database_url).await else { return };
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let url = pooler.url(&stack.binary.database_url);
    let mut producer = PgConnection::connect(&url).await.unwrap();

    let mut transaction = producer.begin().await.unwrap();
    let emit = "select posthaste.emit('acme', 'order.created', '{}', $1)";
    // Statements that are prepared by name are another session's in the next transaction.
    let emit = sqlx::query_scalar::<_, Uuid>(emit).bind("key-1").persistent(false);
    let id = emit.fetch_one(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(receiver.wait_for(1).await[0].id(), id.to_string());
}
