//! For scripts/demo, compiled by rustc alone: both servers in the directory that is named, until this program is ended.

#[path = "mod.rs"]
mod servers;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use servers::daemon::free_port;
use servers::postgres::Postgres;
use servers::programs::Programs;
use servers::rabbitmq::RabbitMq;

/// RabbitMQ takes long to start on a machine that is busy elsewhere.
const START: Duration = Duration::from_secs(120);

fn main() -> Result<(), String> {
    let directory = std::env::args().nth(1).ok_or("usage: servers DIRECTORY")?;
    let directory = Path::new(&directory);
    let programs = Programs::find().ok_or("PostgreSQL or RabbitMQ is not installed")?;
    let ui = free_port();
    let settings = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {ui}\n");
    let mut postgres = Postgres::create(&programs, directory, &[])?;
    let mut rabbitmq = RabbitMq::create(&programs, directory, &settings, "rabbitmq_management")?;
    let began = Instant::now();
    while !(postgres.poll() & rabbitmq.poll()) {
        if began.elapsed() > START {
            return Err(format!("not both servers were ready within {START:?}"));
        }
        // Asking is the only signal that there is.
        std::thread::sleep(Duration::from_millis(100));
    }
    let (database, broker) = (postgres.server_url(), rabbitmq.url());
    tell(
        directory,
        &format!("DATABASE_SERVER={database}\nBROKER_URL={broker}\nMANAGEMENT_URL=http://127.0.0.1:{ui}\n"),
    )
    .map_err(|error| error.to_string())?;
    loop {
        std::thread::park();
    }
}

/// What a shell can read, once it is complete; there are passwords in it.
fn tell(directory: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = directory.join("addresses.new");
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(unfinished, directory.join("addresses"))
}
