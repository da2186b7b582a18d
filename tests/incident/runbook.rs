//! The runbook's commands, run as they are written.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::isolation::stack::Stack;
use crate::kit::binary::finish;
use crate::kit::runbook;
use crate::kit::servers::programs::{Programs, path};
use crate::kit::servers::rabbitmq::RabbitMq;

const COMMAND: Duration = Duration::from_secs(120);

/// A directory with the programs that an operator has in PATH, set to our servers.
pub struct Desk {
    programs: PathBuf,
}

/// Values of the variables that the commands name.
pub type Variables<'a> = &'a [(&'a str, &'a str)];

impl Desk {
    pub fn new(dir: &Path, stack: &Stack) -> Result<Desk, String> {
        let programs = dir.join("bin");
        let set_up = || -> std::io::Result<()> {
            std::fs::create_dir(&programs)?;
            symlink(stack.command(&[]).get_program(), programs.join("posthaste"))?;
            for tool in ["rabbitmqctl", "rabbitmq-diagnostics"] {
                let file = programs.join(tool);
                std::fs::write(&file, wrapper(&stack.rabbitmq, tool)?)?;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
            }
            Ok(())
        };
        set_up().map_err(|error| format!("{}: {error}", programs.display()))?;
        let psql = Programs::find().map_err(|lack| lack.to_string())?.postgres.join("psql");
        symlink(psql, programs.join("psql")).map_err(|error| error.to_string())?;
        Ok(Desk { programs })
    }

    /// Every command of the section, in order, each of which must go well. How many there were.
    pub async fn follow(&self, stack: &Stack, section: &str, variables: Variables<'_>) -> Result<usize, String> {
        let commands = commands(section)?;
        for text in &commands {
            let output = finish(self.shell(stack, text, variables), COMMAND).await;
            let output = output.map_err(|error| format!("{text}: {error}"))?;
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                return Err(format!("{text}: {} {}", output.status, String::from_utf8_lossy(&said)));
            }
        }
        Ok(commands.len())
    }

    fn shell(&self, stack: &Stack, text: &str, variables: Variables<'_>) -> Command {
        let posthaste = stack.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-euc", text]).current_dir(env!("CARGO_MANIFEST_DIR"));
        for (name, value) in posthaste.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let ours = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path()).collect::<Vec<_>>());
        shell.env("PATH", std::env::join_paths(ours).expect("a path of paths"));
        shell.envs(variables.iter().copied());
        shell
    }
}

/// Blocks of commands below a heading.
fn commands(section: &str) -> Result<Vec<String>, String> {
    let found = runbook::sections().into_iter().find(|found| found.anchor == section);
    found.map(|found| found.blocks).ok_or_else(|| format!("docs/runbook.md has no section #{section}"))
}

/// A tool of the broker needs the cookie, the node's name, and the user that the node runs as.
fn wrapper(rabbitmq: &RabbitMq, tool: &str) -> std::io::Result<String> {
    let owner = std::fs::metadata(&rabbitmq.daemon.directory)?;
    let environment: Vec<String> =
        rabbitmq.environment.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
    let program = rabbitmq.bin.join(tool);
    let run = format!("env -i PATH=\"$PATH\" LANG=C.UTF-8 {} {} \"$@\"", environment.join(" "), program.display());
    // Where we are no other user, nothing has to change.
    let (user, group) = (owner.uid(), owner.gid());
    let change = format!("setpriv --reuid={user} --regid={group} --clear-groups");
    Ok(format!("#!/bin/sh\ncd /\nif [ \"$(id -u)\" = {user} ]; then exec {run}; fi\nexec {change} {run}\n"))
}
