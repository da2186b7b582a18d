//! What processes that live through the whole run hold at the end of each tenth of it, and whether that has grown.

use serde::Serialize;

use crate::frame::Table;

/// The memory at the end, as a multiple of what it was after the first tenth.
const MEMORY: f64 = 1.2;
/// The end is the median of so many: the allocator keeps now more and now less of what a burst needed.
const LAST: usize = 3;
/// So many more of anything else may be there by chance: the pools of sessions shrink and grow with the load, and each session is a
/// handle.
const HANDLES: usize = 4;
const THREADS: usize = 1;
const TASKS: usize = 4;
/// Statements that are rare, and those of a new day where a run goes over midnight. Texts that have values in them would be many more.
const TEXTS: usize = 20;
const SESSIONS: usize = 4;
const CONNECTIONS: usize = 1;
const CHANNELS: usize = 1;

/// What one process holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Holding {
    pub process: u32,
    /// Its resident memory.
    pub memory_kib: u64,
    pub handles: usize,
    pub threads: usize,
    pub tasks: usize,
    /// Prepared statements of the session with PostgreSQL that has the most.
    pub statements: usize,
    /// Different texts of statements that it has prepared so far.
    pub texts: usize,
}

/// At the end of a part of the run, with nothing to do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    /// Events committed so far, and seconds since the start of the run.
    pub events: u64,
    pub seconds: f64,
    pub relay: Holding,
    pub worker: Holding,
    /// Of both together, as the servers see them.
    pub sessions: usize,
    pub broker_connections: usize,
    pub broker_channels: usize,
}

/// What has grown from the first time to the last.
pub fn grown(measured: &[Measured]) -> Vec<String> {
    let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return Vec::new() };
    let mut problems = Vec::new();
    let of_relay: fn(&Measured) -> &Holding = |part| &part.relay;
    for (name, of) in [("relay", of_relay), ("worker", |part| &part.worker)] {
        problems.extend(of_process(name, of(first), of(last)));
        let end = measured.iter().rev().take(LAST).map(|part| of(part).memory_kib);
        let times = median(end.collect()) as f64 / of(first).memory_kib.max(1) as f64;
        if times > MEMORY {
            problems.push(format!("memory of the {name}: {times:.2} times that of the first tenth"));
        }
    }
    let of_both = [
        ("sessions with PostgreSQL", first.sessions, last.sessions, SESSIONS),
        ("connections to the broker", first.broker_connections, last.broker_connections, CONNECTIONS),
        ("channels at the broker", first.broker_channels, last.broker_channels, CHANNELS),
    ];
    problems.extend(of_both.into_iter().filter_map(|(what, first, last, most)| more(what, first, last, most)));
    problems
}

fn of_process(name: &str, first: &Holding, last: &Holding) -> Vec<String> {
    if first.process != last.process {
        return vec![format!("the {name} of the beginning did not live to the end")];
    }
    let counts = [
        ("handles", first.handles, last.handles, HANDLES),
        ("threads", first.threads, last.threads, THREADS),
        ("tasks", first.tasks, last.tasks, TASKS),
        ("texts of statements", first.texts, last.texts, TEXTS),
    ];
    let counts = counts
        .into_iter()
        .filter_map(|(what, first, last, most)| more(&format!("{what} of the {name}"), first, last, most));
    // Which statements a session has depends on its luck; each one once.
    let doubled = (last.statements > last.texts)
        .then(|| format!("{} statements of the {name} in one session, with {} texts", last.statements, last.texts));
    counts.chain(doubled).collect()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn more(what: &str, first: usize, last: usize, tolerance: usize) -> Option<String> {
    (last > first + tolerance).then(|| format!("{what}: {first} after the first tenth, {last} at the end"))
}

/// Two lines for each time, and what both processes have together in the first.
pub fn table(measured: &[Measured]) -> Table {
    let of_process = ["memory", "handles", "threads", "tasks", "statements", "texts"];
    let of_both = ["sessions", "connections", "channels"];
    let mut table = Table::new(&[&["events", "s", "process"], of_process.as_slice(), of_both.as_slice()].concat());
    for part in measured {
        let both = [part.sessions, part.broker_connections, part.broker_channels].map(|count| count.to_string());
        let at = [format!("{:.0}", part.seconds), "relay".to_owned()];
        table.row(part.events.to_string(), at.into_iter().chain(part.relay.cells()).chain(both));
        let worker = [String::new(), "worker".to_owned()];
        table.row("", worker.into_iter().chain(part.worker.cells()));
    }
    table
}

impl Holding {
    fn cells(&self) -> [String; 6] {
        let memory = format!("{:.1} MiB", self.memory_kib as f64 / 1024.0);
        let [handles, threads, tasks, statements, texts] =
            [self.handles, self.threads, self.tasks, self.statements, self.texts].map(|count| count.to_string());
        [memory, handles, threads, tasks, statements, texts]
    }
}
