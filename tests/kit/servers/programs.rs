//! Where the programs of PostgreSQL, RabbitMQ and Erlang are: as the environment says, else in the usual places.

use std::ffi::OsString;
use std::path::PathBuf;

const POSTGRES: &str = "POSTHASTE_POSTGRES_BIN";
const RABBITMQ: &str = "POSTHASTE_RABBITMQ_BIN";
const ERLANG: &str = "POSTHASTE_ERLANG_BIN";

pub struct Programs {
    pub postgres: PathBuf,
    pub rabbitmq: PathBuf,
}

impl Programs {
    /// `None` where they are not installed. A directory that somebody names is never replaced by another one.
    pub fn find() -> Option<Programs> {
        let postgres = given(POSTGRES, "initdb").or_else(newest_postgres)?;
        let rabbitmq = given(RABBITMQ, "rabbitmq-server").unwrap_or_else(|| "/usr/lib/rabbitmq/bin".into());
        let complete = postgres.join("initdb").exists() && rabbitmq.join("rabbitmq-server").exists();
        complete.then_some(Programs { postgres, rabbitmq })
    }
}

/// Our PATH, with the directory of Erlang in front where one is named.
pub fn path() -> OsString {
    let ours = std::env::var_os("PATH").unwrap_or_default();
    let all = given(ERLANG, "epmd").into_iter().chain(std::env::split_paths(&ours));
    std::env::join_paths(all).unwrap_or(ours)
}

fn given(variable: &str, program: &str) -> Option<PathBuf> {
    let directory = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)?;
    let is_right = directory.is_absolute() && directory.join(program).exists();
    assert!(is_right, "{variable} is {directory:?}: it must be the whole path of the directory that has {program}");
    Some(directory)
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| version(path).unwrap_or(0_u32))?;
    Some(newest.join("bin"))
}
