//! Commands by a shell, as a document shows them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::stack::{Done, Stack, finish};
use crate::kit::servers::programs::{Programs, path};

impl Stack {
    /// Runs them as they stand, in this directory, with the settings of the stack and these variables. `posthaste` is the
    /// binary of this build, `psql` whichever is found.
    pub async fn shell(&self, directory: &Path, commands: &str, variables: &[(&str, &str)]) -> Done {
        let binary = self.command(&[], &[]);
        let mut shell = Command::new("bash");
        let programs = "posthaste() { \"$BINARY\" \"$@\"; }\npsql() { \"$PSQL\" \"$@\"; }";
        shell.arg("-c").arg(format!("set -euo pipefail\n{programs}\n{commands}")).current_dir(directory);
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env("BINARY", binary.get_program()).env("PSQL", psql().unwrap_or_else(|| "psql".into()));
        shell.envs(variables.iter().copied());
        finish(shell).await
    }
}

/// PostgreSQL's own client.
pub fn psql() -> Option<PathBuf> {
    let in_path = std::env::split_paths(&path()).map(|dir| dir.join("psql")).find(|file| file.is_file());
    in_path.or_else(|| Some(Programs::find().ok()?.postgres.join("psql")))
}
