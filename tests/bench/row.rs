//! One line of the report: a case with its rounds.

use serde::Serialize;

use crate::bench::floor::Floor;
use crate::bench::work::Round;
use crate::frame::Table;
use crate::isolation::cpu::Cpu;
use crate::isolation::figures::quantile;
use crate::isolation::report::number;

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub kind: &'static str,
    pub case: String,
    pub rounds: usize,
    /// In a round.
    pub deliveries: f64,
    /// Absent where the rate was given, and not found.
    pub per_second: Option<Spread>,
    /// Medians, in microseconds a delivery.
    pub cpu_us: Parts,
    /// Percent of the machine, median.
    pub busy: f64,
    pub latency_ms: Option<Latency>,
    /// The least that a part could cost over what it costs: 1 is the floor itself. None where a part did not run.
    pub of_floor: Option<Shares>,
    pub figures: Vec<Figure>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Parts {
    pub worker: f64,
    pub relay: f64,
    /// Without the producers' sessions.
    pub postgresql: f64,
    pub producers: f64,
    pub rabbitmq: f64,
    /// This program: producers, receivers, and what stands in for a part that does not run.
    pub program: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub longest: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Shares {
    /// Of worker and relay together.
    pub own: f64,
    pub postgresql: f64,
    pub rabbitmq: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

impl Row {
    pub fn of(kind: &'static str, case: impl Into<String>, rounds: &[Round]) -> Row {
        let median = |of: &dyn Fn(&Round) -> f64| quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
        let part = |index: usize| median(&|round: &Round| round.cpu.parts()[index]);
        let mut row = Row {
            kind,
            case: case.into(),
            rounds: rounds.len(),
            deliveries: median(&|round: &Round| round.deliveries),
            per_second: Some(Spread::of(rounds.iter().map(|round| round.deliveries / round.seconds))),
            cpu_us: Parts::from(std::array::from_fn(part)),
            busy: median(&|round: &Round| round.busy),
            latency_ms: None,
            of_floor: None,
            figures: Vec::new(),
        };
        row.figure("memory of the workers, at most", median(&|round: &Round| round.peaks.workers_mib), "MiB");
        row.figure("memory of the relay, at most", median(&|round: &Round| round.peaks.relays_mib), "MiB");
        row
    }

    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    pub fn compare(&mut self, floor: &Floor) {
        let Parts { worker, relay, postgresql, rabbitmq, .. } = self.cpu_us;
        // A part alone does less than the floor has.
        self.of_floor = (worker > 0.0 && relay > 0.0).then(|| Shares {
            own: floor.own_us() / (worker + relay),
            postgresql: floor.sql.server_us / postgresql,
            rabbitmq: floor.broker.server_us / rabbitmq,
        });
    }
}

impl From<[f64; 6]> for Parts {
    fn from([worker, relay, postgresql, producers, rabbitmq, program]: [f64; 6]) -> Parts {
        Parts { worker, relay, postgresql, producers, rabbitmq, program }
    }
}

impl From<Cpu> for Parts {
    fn from(cpu: Cpu) -> Parts {
        cpu.parts().into()
    }
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let values: Vec<f64> = values.into_iter().collect();
        let at = |share| quantile(&values, share);
        Spread { median: at(0.5), least: at(0.0), most: at(1.0) }
    }
}

impl Latency {
    pub fn of(ms: &[f64]) -> Latency {
        let at = |share| quantile(ms, share);
        Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), longest: at(1.0) }
    }
}

/// All rows of a kind.
pub fn text(rows: &[Row]) -> String {
    let head = [
        "us a delivery",
        "worker",
        "relay",
        "PostgreSQL",
        "producers",
        "RabbitMQ",
        "program",
        "a second",
        "least",
        "most",
        "busy %",
    ];
    let mut costs = Table::new(&head);
    let mut shares = Table::new(&["share of the floor", "own", "PostgreSQL", "RabbitMQ"]);
    let mut times = Table::new(&["ms", "p50", "p95", "p99", "longest"]);
    for row in rows {
        let Parts { worker, relay, postgresql, producers, rabbitmq, program } = row.cpu_us;
        let rate = |of: fn(&Spread) -> f64| row.per_second.as_ref().map_or("-".to_owned(), |spread| number(of(spread)));
        let cpu = [worker, relay, postgresql, producers, rabbitmq, program].map(number);
        let rates = [rate(|spread| spread.median), rate(|spread| spread.least), rate(|spread| spread.most)];
        costs.row(name(row), cpu.into_iter().chain(rates).chain([number(row.busy)]));
        if let Some(Shares { own, postgresql, rabbitmq }) = row.of_floor {
            shares.row(name(row), [own, postgresql, rabbitmq].map(|share| format!("{share:.2}")));
        }
        if let Some(Latency { p50, p95, p99, longest }) = row.latency_ms {
            times.row(name(row), [p50, p95, p99, longest].map(number));
        }
    }
    let figures = rows.iter().flat_map(|row| row.figures.iter().map(move |figure| (row, figure)));
    let figures = figures.map(|(row, figure)| {
        format!("  {:<74} {:>12} {}\n", format!("{}: {}", name(row), figure.name), number(figure.value), figure.unit)
    });
    let mut tables = vec![costs, shares, times];
    tables.retain(|table| !table.rows.is_empty());
    tables.iter().map(ToString::to_string).chain(figures).collect()
}

fn name(row: &Row) -> String {
    format!("{}, {}", row.kind, row.case)
}
