//! What a run has shown, as a value and as JSON; `text` says it to people.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::chaos::audit::Findings;
use crate::chaos::blame::{SeenTwice, by_fault, excess, seen_twice};
use crate::chaos::faults::Happened;
use crate::chaos::growth::Measured;
use crate::chaos::kind::Kind;
use crate::chaos::ledger::Books;
use crate::chaos::receiver::Notes;

#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub run: Run,
    pub events_per_second: f64,
    #[serde(flatten)]
    pub findings: Findings,
    pub transactions: Transactions,
    pub duplicates: u64,
    pub duplicate_share: f64,
    /// At most so many requests could have been in flight at the faults that can cost one.
    pub duplicates_at_most: u64,
    pub hard_kills: HardKills,
    /// Answers of the receiver that came late, because the machine was busy.
    pub late_answers: u64,
    pub kinds: BTreeMap<&'static str, OfKind>,
    pub faults: Vec<Happened>,
    pub seen_twice: Vec<SeenTwice>,
    /// What processes held at the end of each tenth of a soak.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenths: Vec<Measured>,
    /// What went wrong beside the audit.
    pub problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Transactions {
    pub committed: u64,
    pub rolled_back: u64,
    pub late: u64,
    pub uncertain: u64,
    pub with_key: u64,
}

/// Of everything that was killed with SIGKILL: what it cost, and how soon a process was back.
#[derive(Debug, Default, Serialize)]
pub struct HardKills {
    pub count: u64,
    pub duplicates: u64,
    /// Of all deliveries, for one kill.
    pub mean_share: f64,
    pub worst_share: f64,
    /// Of a relay or worker that was killed alone, in seconds from its start.
    pub process_recovery_max: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub struct OfKind {
    pub count: u64,
    pub duplicates: u64,
    /// The duplicates for one fault, of all deliveries.
    pub share_per_fault: f64,
    /// Until an event that was committed after the end was delivered, in seconds.
    pub flowing_max: Option<f64>,
    /// Until every affected process worked again; of the faults that had no other one beside them.
    pub recovery_p50: Option<f64>,
    pub recovery_max: Option<f64>,
    /// Of those that had.
    pub recovery_max_beside_another: Option<f64>,
    /// Until everything that was committed before the fault began was delivered, counted from its end.
    pub made_whole_max: Option<f64>,
}

/// The figures that the processes and the run itself contribute.
#[derive(Debug, Serialize)]
pub struct Run {
    pub scenario: &'static str,
    pub seed: u64,
    pub program: &'static str,
    pub seconds: f64,
    #[serde(skip)]
    pub load_seconds: f64,
    pub republished: u64,
    pub copies_discarded: u64,
    pub held: u64,
    /// Deliveries that died and were requeued at the end, by reason.
    pub died: BTreeMap<String, u64>,
    /// What only this scenario measures.
    pub measured: BTreeMap<&'static str, String>,
    #[serde(skip)]
    pub problems: Vec<String>,
}

impl Report {
    pub fn new(run: Run, findings: Findings, faults: Vec<Happened>, books: &Books, notes: &Notes) -> Report {
        let seen_twice = seen_twice(&faults, notes);
        let blamed = by_fault(&seen_twice);
        let duplicates = notes.duplicates.len() as u64;
        let at_most = faults.iter().map(Happened::duplicates_at_most).sum();
        let deliveries = findings.deliveries.max(1) as f64;
        let problems = problems(&run, &faults, excess(&faults, &blamed));
        Report {
            events_per_second: findings.events as f64 / run.load_seconds,
            duplicate_share: duplicates as f64 / deliveries,
            findings,
            transactions: Transactions {
                committed: books.transactions,
                rolled_back: books.rolled_back,
                late: books.late,
                uncertain: books.uncertain,
                with_key: books.keyed,
            },
            duplicates,
            duplicates_at_most: at_most,
            hard_kills: hard_kills(&faults, &blamed, deliveries),
            late_answers: notes.late_answers,
            kinds: by_kind(&faults, &blamed, deliveries, books, notes),
            faults,
            seen_twice,
            tenths: Vec::new(),
            problems,
            run,
        }
    }

    pub fn is_good(&self) -> bool {
        self.findings.is_clean() && self.duplicates <= self.duplicates_at_most && self.problems.is_empty()
    }
}

fn problems(run: &Run, faults: &[Happened], excess: Vec<String>) -> Vec<String> {
    let mut problems = run.problems.clone();
    let failed = faults.iter().filter_map(|fault| Some(format!("{}: {}", fault.name, fault.problem.as_ref()?)));
    problems.extend(failed);
    // A receiver that fails too often is a reason to die. A fault of ours is none.
    let wrongly = run.died.iter().filter(|(reason, _)| *reason != "exhausted");
    problems.extend(wrongly.map(|(reason, count)| format!("{count} deliveries died: {reason}")));
    let stuck = faults.iter().filter(|fault| fault.recovered.is_none());
    problems.extend(stuck.map(|fault| format!("not recovered from: {} at {:.1} s", fault.name, fault.began)));
    problems.extend(excess);
    problems
}

fn hard_kills(faults: &[Happened], blamed: &BTreeMap<Option<usize>, u64>, deliveries: f64) -> HardKills {
    let kills: Vec<(usize, &Happened)> =
        faults.iter().enumerate().filter(|(_, fault)| fault.kind.is_hard_kill()).collect();
    let costs: Vec<u64> = kills.iter().map(|(number, _)| blamed.get(&Some(*number)).copied().unwrap_or(0)).collect();
    let duplicates: u64 = costs.iter().sum();
    let processes = kills.iter().filter(|(_, fault)| matches!(fault.kind, Kind::Kill(_)) && !fault.beside_another);
    HardKills {
        count: kills.len() as u64,
        duplicates,
        mean_share: duplicates as f64 / kills.len().max(1) as f64 / deliveries,
        worst_share: costs.iter().copied().max().unwrap_or(0) as f64 / deliveries,
        process_recovery_max: processes.filter_map(|(_, fault)| fault.recovery()).max_by(f64::total_cmp),
    }
}

fn by_kind(
    faults: &[Happened],
    blamed: &BTreeMap<Option<usize>, u64>,
    deliveries: f64,
    books: &Books,
    notes: &Notes,
) -> BTreeMap<&'static str, OfKind> {
    let mut kinds = BTreeMap::new();
    let delivered = Delivered::new(books, notes);
    for kind in faults.iter().map(|fault| fault.kind).collect::<HashSet<Kind>>() {
        let of: Vec<(usize, &Happened)> = faults.iter().enumerate().filter(|(_, fault)| fault.kind == kind).collect();
        let times = |beside: bool| {
            let of = of.iter().filter(|(_, fault)| fault.beside_another == beside);
            let mut times: Vec<f64> = of.filter_map(|(_, fault)| fault.recovery()).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let alone = times(false);
        let whole = of.iter().map(|(_, fault)| (delivered.until(fault.began) - fault.ended).max(0.0));
        let duplicates = of.iter().filter_map(|(number, _)| blamed.get(&Some(*number))).sum();
        let figures = OfKind {
            count: of.len() as u64,
            duplicates,
            share_per_fault: duplicates as f64 / of.len() as f64 / deliveries,
            flowing_max: of.iter().filter_map(|(_, fault)| Some(fault.flowing? - fault.ended)).max_by(f64::total_cmp),
            recovery_p50: alone.get(alone.len() / 2).copied(),
            recovery_max: alone.last().copied(),
            recovery_max_beside_another: times(true).last().copied(),
            made_whole_max: whole.max_by(f64::total_cmp),
        };
        kinds.insert(kind.name(), figures);
    }
    if let Some(unexplained) = blamed.get(&None) {
        kinds.insert("(no fault)", OfKind { duplicates: *unexplained, ..OfKind::default() });
    }
    kinds
}

/// The times of commits in their order, each with the time at which everything up to it was delivered.
struct Delivered(Vec<(f64, f64)>);

impl Delivered {
    /// What a receiver refused comes later for a reason of its own, and does not count.
    fn new(books: &Books, notes: &Notes) -> Delivered {
        let of = notes.records.iter().filter(|(_, record)| record.refused == 0);
        let times = of.filter_map(|((id, _), record)| Some((books.committed.get(id)?.at, record.first?)));
        let mut times: Vec<(f64, f64)> = times.collect();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut until = 0.0_f64;
        for (_, first) in &mut times {
            until = until.max(*first);
            *first = until;
        }
        Delivered(times)
    }

    /// When everything was delivered that had been committed before.
    fn until(&self, before: f64) -> f64 {
        let count = self.0.partition_point(|(committed, _)| *committed < before);
        count.checked_sub(1).map_or(0.0, |last| self.0[last].1)
    }
}
