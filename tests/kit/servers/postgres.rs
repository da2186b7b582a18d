use std::path::{Path, PathBuf};

use super::daemon::{Daemon, free_port, secret};
use super::programs::Programs;

pub struct Postgres {
    pub daemon: Daemon,
    pub bin: PathBuf,
    pub port: u16,
    pub password: String,
    pub options: Vec<String>,
}

impl Postgres {
    /// Not started yet. `options` are further settings of the server.
    pub fn create(programs: &Programs, parent: &Path, options: &[&str]) -> Result<Postgres, String> {
        let daemon = Daemon::new(parent, "postgres", &["postgres"])?;
        let password = secret();
        daemon.write("password", &password)?;
        let mut init = daemon.command(&programs.postgres.join("initdb"), &[]);
        init.args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]);
        init.args(["--auth=scram-sha-256", "--pwfile=password"]);
        let made = init.output().map_err(|error| format!("initdb: {error}"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let usual = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"];
        let options = usual.iter().chain(&["log_line_prefix=%m "]).chain(options).map(|option| (*option).to_owned());
        Ok(Postgres { daemon, bin: programs.postgres.clone(), port: free_port(), password, options: options.collect() })
    }

    /// Of the superuser; what follows is `/` and the name of a database.
    pub fn server_url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// Starts it unless it runs; whether it answers. By its own word: another server could be the one that answers at the
    /// port. After a kill it may end at once, while sessions of the old one still hold the memory that they share.
    pub fn poll(&mut self) -> bool {
        if self.daemon.has_ended() {
            let port = self.port.to_string();
            let options = self.options.iter().flat_map(|option| ["-c", option]);
            let arguments: Vec<&str> = ["-D", "data", "-p", &port].into_iter().chain(options).collect();
            self.daemon.launch(&self.bin.join("postgres"), &arguments, &[]);
        }
        let state = std::fs::read_to_string(self.daemon.directory.join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = state.lines().collect();
        let is_ours = lines.first().and_then(|id| id.parse().ok()) == self.daemon.id();
        is_ours && lines.get(7).is_some_and(|word| word.trim() == "ready")
    }
}
