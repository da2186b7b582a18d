//! Where the programs of PostgreSQL, RabbitMQ and Erlang are: as the environment says, else in PATH and the usual places.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variable that names a directory, and what must be in it.
type Wanted = (&'static str, &'static [&'static str]);

const POSTGRES: Wanted = ("POSTHASTE_POSTGRES_BIN", &["initdb", "postgres", "psql"]);
const RABBITMQ: Wanted =
    ("POSTHASTE_RABBITMQ_BIN", &["rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-defaults"]);
const ERLANG: Wanted = ("POSTHASTE_ERLANG_BIN", &["erl", "epmd"]);
const OLDEST_POSTGRES: u32 = 14;

/// Directories, and how those below them begin that have the programs in `bin` or `sbin`.
const POSTGRES_PLACES: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/opt/local/lib", "postgresql"),
];
const RABBITMQ_PLACES: [(&str, &str, &str); 5] = [
    ("/usr/lib", "rabbitmq", "bin"),
    ("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin"),
    ("/opt/homebrew/opt", "rabbitmq", "sbin"),
    ("/usr/local/opt", "rabbitmq", "sbin"),
    ("/opt/local/lib", "rabbitmq", "bin"),
];

pub struct Programs {
    pub postgres: PathBuf,
    pub rabbitmq: PathBuf,
}

/// Why there are no programs to start.
#[derive(Debug)]
pub enum Lack {
    /// The environment names a directory that will not do. It is never replaced by another one.
    Wrong(String),
    /// Not installed, as Debian's packages are called.
    Missing(Vec<&'static str>),
}

impl Programs {
    pub fn find() -> Result<Programs, Lack> {
        let (postgres, rabbitmq, erlang) = (given(POSTGRES)?, given(RABBITMQ)?, given(ERLANG)?);
        if let Some(dir) = postgres.as_ref().filter(|dir| !is_new_enough(dir)) {
            return Err(Lack::Wrong(format!(
                "{} is '{}', whose postgres says version {} (0: none); {OLDEST_POSTGRES} or newer is needed",
                POSTGRES.0,
                dir.display(),
                postgres_version(dir)
            )));
        }
        let has_erlang = erlang.is_some() || ERLANG.1.iter().all(|program| in_path(program));
        let postgres = postgres.or_else(installed_postgres);
        let rabbitmq = rabbitmq.or_else(installed_rabbitmq).filter(|_| has_erlang);
        match (postgres, rabbitmq) {
            (Some(postgres), Some(rabbitmq)) => Ok(Programs { postgres, rabbitmq }),
            (postgres, rabbitmq) => {
                let packages = [("postgresql", postgres.is_none()), ("rabbitmq-server", rabbitmq.is_none())];
                let missing = packages.into_iter().filter(|(_, missing)| *missing).map(|(package, _)| package);
                Err(Lack::Missing(missing.collect()))
            }
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Wrong(problem) => f.write_str(problem),
            Lack::Missing(packages) => write!(f, "not installed, or too old: {}", packages.join(", ")),
        }
    }
}

/// Our PATH, with the directory of Erlang in front where one is named.
pub fn path() -> OsString {
    let all = given(ERLANG).ok().flatten().into_iter().chain(search_path());
    std::env::join_paths(all).unwrap_or_default()
}

/// The number in `postgres (PostgreSQL) 15.19`; 0 when it does not say.
pub fn postgres_version(dir: &Path) -> String {
    let output = Command::new(dir.join("postgres")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = text.strip_prefix("postgres (PostgreSQL) ").unwrap_or_default();
    let number: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    if number.is_empty() { "0".to_owned() } else { number }
}

fn major(dir: &Path) -> u32 {
    postgres_version(dir).split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn is_new_enough(dir: &Path) -> bool {
    major(dir) >= OLDEST_POSTGRES
}

fn given((variable, programs): Wanted) -> Result<Option<PathBuf>, Lack> {
    let Some(dir) = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    let wrong = |problem: String| Err(Lack::Wrong(format!("{variable} is '{}'{problem}", dir.display())));
    if !dir.is_absolute() {
        return wrong("; it must be a whole path, from / on".to_owned());
    }
    match programs.iter().find(|program| !dir.join(program).is_file()) {
        Some(missing) => wrong(format!(
            ", and there is no {missing} in it; it must be the directory that has: {}",
            programs.join(" ")
        )),
        None => Ok(Some(dir)),
    }
}

/// In Debian's /usr/bin, psql is a wrapper and initdb is missing: only a complete directory counts.
fn installed_postgres() -> Option<PathBuf> {
    let below = POSTGRES_PLACES.iter().flat_map(|(parent, begin)| below(parent, begin)).map(|dir| dir.join("bin"));
    let mut places: Vec<PathBuf> = below.filter(|dir| has_all(dir, POSTGRES.1)).collect();
    places.sort_by_key(|dir| std::cmp::Reverse(major(dir)));
    let mut places = search_path().filter(|dir| has_all(dir, POSTGRES.1)).chain(places);
    places.find(|dir| is_new_enough(dir))
}

/// In /usr/sbin are wrappers that change to the user rabbitmq and to its settings, without `rabbitmq-defaults` beside them.
fn installed_rabbitmq() -> Option<PathBuf> {
    let below = |(parent, begin, bin): &(&str, &'static str, &'static str)| {
        below(parent, begin).map(move |dir| dir.join(bin)).collect::<Vec<_>>()
    };
    let mut places = RABBITMQ_PLACES.iter().flat_map(below).chain(search_path());
    places.find(|dir| has_all(dir, &["rabbitmq-server", "rabbitmq-defaults"]))
}

fn below(parent: &str, begin: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(begin)).map(|entry| entry.path())
}

fn has_all(dir: &Path, programs: &[&str]) -> bool {
    programs.iter().all(|program| dir.join(program).is_file())
}

fn in_path(program: &str) -> bool {
    search_path().any(|dir| dir.join(program).is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}
