//! For scripts, compiled by rustc alone: finds the programs of PostgreSQL and RabbitMQ, and runs both servers.

mod containers;
#[path = "mod.rs"]
mod servers;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use containers::{Containers, engine_answers};
use servers::daemon::{free_port, secret};
use servers::postgres::Postgres;
use servers::programs::{Lack, Programs, path, postgres_version};
use servers::rabbitmq::RabbitMq;

/// RabbitMQ takes long to start on a machine that is busy elsewhere.
const START: Duration = Duration::from_secs(120);
/// Once the images are there.
const START_OF_CONTAINERS: Duration = Duration::from_secs(300);
/// What was asked for, or is set in the environment, cannot be.
const USAGE: u8 = 64;
const USAGE_TEXT: &str = "usage: servers programs | servers engine | servers native|docker DIRECTORY";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["programs"] => programs(),
        ["engine"] => return ExitCode::from(u8::from(!engine_answers())),
        ["native", directory] => native(Path::new(directory)).map_err(|problem| (1, problem)),
        ["docker", directory] => docker(Path::new(directory)).map_err(|problem| (1, problem)),
        _ => Err((USAGE, USAGE_TEXT.to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, problem)) => {
            eprintln!("error: {problem}");
            ExitCode::from(status)
        }
    }
}

/// Where they are, or what is missing, for a shell to read.
fn programs() -> Result<(), (u8, String)> {
    match Programs::find() {
        Ok(Programs { postgres, rabbitmq }) => {
            println!("MISSING=''\nPG_BIN={}\nPG_VERSION={}", quoted(&postgres), postgres_version(&postgres));
            println!("RABBIT_BIN={}\nRABBIT_PATH={}", quoted(&rabbitmq), quoted(Path::new(&path())));
            Ok(())
        }
        Err(Lack::Missing(packages)) => {
            println!("MISSING='{}'", packages.join(" "));
            Ok(())
        }
        Err(Lack::Wrong(problem)) => Err((USAGE, problem)),
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// In the directory, until this program is ended.
fn native(directory: &Path) -> Result<(), String> {
    let programs = Programs::find().map_err(|lack| lack.to_string())?;
    let ui = free_port();
    let settings = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {ui}\n");
    let mut postgres = Postgres::create(&programs, directory, &[])?;
    let mut rabbitmq = RabbitMq::create(&programs, directory, &settings, "rabbitmq_management")?;
    until_ready(START, || Ok(postgres.poll() & rabbitmq.poll()?))?;
    serve(directory, [postgres.server_url(), rabbitmq.url(), ui.to_string(), String::new()])
}

/// In containers, until this program is ended.
fn docker(directory: &Path) -> Result<(), String> {
    let containers = Containers::start(secret(), &[])?;
    until_ready(START_OF_CONTAINERS, || containers.poll())?;
    let ui = containers.port("rabbitmq", "15672")?;
    serve(directory, [containers.database_server()?, containers.broker_url()?, ui, containers.container("postgres")])
}

fn until_ready(limit: Duration, mut are_ready: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let began = Instant::now();
    while !are_ready()? {
        if began.elapsed() > limit {
            return Err(format!("not both servers were ready within {limit:?}"));
        }
        // Asking is the only signal that there is.
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Tells a shell the addresses, once they are complete; there are passwords in them.
fn serve(directory: &Path, [database, broker, ui, container]: [String; 4]) -> Result<(), String> {
    let unfinished = directory.join("addresses.new");
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&unfinished);
    let told = file.and_then(|mut file| {
        writeln!(file, "DATABASE_SERVER={database}\nBROKER_URL={broker}\nMANAGEMENT_URL=http://127.0.0.1:{ui}")?;
        writeln!(file, "POSTGRES_CONTAINER={container}")
    });
    let told = told.and_then(|()| std::fs::rename(unfinished, directory.join("addresses")));
    told.map_err(|error| format!("{}: {error}", directory.display()))?;
    loop {
        std::thread::park();
    }
}
