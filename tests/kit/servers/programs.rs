//! Where the programs of PostgreSQL, RabbitMQ and Erlang are: as the environment says, else in PATH and the usual places.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Wanted {
    /// The variable that names the directory.
    variable: &'static str,
    /// What must be in it. In Debian's /usr/bin and /usr/sbin are wrappers of some: only a complete directory counts.
    programs: &'static [&'static str],
    /// Directories, how the names of those below them begin, and where the programs are in these.
    places: &'static [(&'static str, &'static str, &'static str)],
}

const POSTGRES: Wanted = Wanted {
    variable: "POSTHASTE_POSTGRES_BIN",
    programs: &["initdb", "postgres", "psql"],
    places: &[
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/opt/local/lib", "postgresql", "bin"),
    ],
};
const RABBITMQ: Wanted = Wanted {
    variable: "POSTHASTE_RABBITMQ_BIN",
    programs: &["rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-defaults"],
    places: &[
        ("/usr/lib", "rabbitmq", "bin"),
        ("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin"),
        ("/opt/homebrew/opt", "rabbitmq", "sbin"),
        ("/usr/local/opt", "rabbitmq", "sbin"),
        ("/opt/local/lib", "rabbitmq", "bin"),
    ],
};
const ERLANG: Wanted = Wanted { variable: "POSTHASTE_ERLANG_BIN", programs: &["erl", "epmd"], places: &[] };
const OLDEST_POSTGRES: u32 = 14;

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
        let given = POSTGRES.given()?;
        if let Some(dir) = given.as_ref().filter(|dir| !is_new_enough(dir)) {
            let found = postgres_version(dir);
            let problem =
                format!(", whose postgres says version {found} (0: none); {OLDEST_POSTGRES} or newer is needed");
            return Err(POSTGRES.wrong(dir, &problem));
        }
        let postgres = given.or_else(|| POSTGRES.installed().find(|dir| is_new_enough(dir)));
        let erlang = ERLANG.given()?.or_else(|| ERLANG.installed().next());
        let rabbitmq = RABBITMQ.given()?.or_else(|| RABBITMQ.installed().next()).filter(|_| erlang.is_some());
        match (postgres, rabbitmq) {
            (Some(postgres), Some(rabbitmq)) => Ok(Programs { postgres, rabbitmq }),
            (Some(_), None) => Err(Lack::Missing(vec!["rabbitmq-server"])),
            (None, Some(_)) => Err(Lack::Missing(vec!["postgresql"])),
            (None, None) => Err(Lack::Missing(vec!["postgresql", "rabbitmq-server"])),
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

impl Wanted {
    fn given(&self) -> Result<Option<PathBuf>, Lack> {
        let value = std::env::var_os(self.variable).filter(|value| !value.is_empty());
        let Some(dir) = value.map(PathBuf::from) else { return Ok(None) };
        if !dir.is_absolute() {
            return Err(self.wrong(&dir, "; it must be a whole path, from / on"));
        }
        if let Some(missing) = self.programs.iter().find(|program| !dir.join(program).is_file()) {
            let all = self.programs.join(" ");
            let problem = format!(", and there is no {missing} in it; it must be the directory that has: {all}");
            return Err(self.wrong(&dir, &problem));
        }
        Ok(Some(dir))
    }

    fn wrong(&self, dir: &Path, problem: &str) -> Lack {
        Lack::Wrong(format!("{} is '{}'{problem}", self.variable, dir.display()))
    }

    /// What is in PATH comes first; of the versions in one place the newest.
    fn installed(&self) -> impl Iterator<Item = PathBuf> {
        let mut places = Vec::new();
        for (parent, begin, bin) in self.places {
            let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
            let entries = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(*begin));
            let mut versions: Vec<PathBuf> = entries.map(|entry| entry.path().join(bin)).collect();
            versions.sort_by_key(|dir| Reverse(number(&dir.to_string_lossy())));
            places.extend(versions);
        }
        let programs = self.programs;
        let is_complete = move |dir: &PathBuf| programs.iter().all(|program| dir.join(program).is_file());
        search_path().chain(places).filter(is_complete)
    }
}

/// Our PATH, with the directory of Erlang in front where one is named.
pub fn path() -> OsString {
    let all = ERLANG.given().ok().flatten().into_iter().chain(search_path());
    std::env::join_paths(all).unwrap_or_default()
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// The number in `postgres (PostgreSQL) 15.19`; 0 when it does not say.
pub fn postgres_version(dir: &Path) -> String {
    let output = Command::new(dir.join("postgres")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = text.strip_prefix("postgres (PostgreSQL) ").unwrap_or("0");
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

fn is_new_enough(dir: &Path) -> bool {
    number(&postgres_version(dir)) >= OLDEST_POSTGRES
}

/// The first number in a text.
fn number(text: &str) -> u32 {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
