//! What a run has shown, as a value and as JSON; `text` says it to people.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use crate::audit::Findings;
use crate::faults::Happened;
use crate::ledger::Books;
use crate::receiver::{Duplicate, Notes};
use crate::schedule::Kind;
use crate::stack::CONCURRENCY;

/// A request with its settlement takes no longer, in seconds.
const UNDER_WAY: f64 = 0.25;

#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub seed: u64,
    pub program: &'static str,
    pub seconds: f64,
    pub events_per_second: f64,
    #[serde(flatten)]
    pub findings: Findings,
    pub transactions: Transactions,
    pub duplicates: u64,
    pub duplicate_share: f64,
    /// At most so many requests could have been in flight at the faults that can cost one.
    pub duplicates_at_most: u64,
    pub worst_fault_duplicates: u64,
    pub republished: u64,
    pub copies_discarded: u64,
    pub held: u64,
    /// Deliveries that died and were requeued at the end, by reason.
    pub died: BTreeMap<String, u64>,
    /// What only this scenario measures.
    pub measured: BTreeMap<&'static str, String>,
    pub kinds: BTreeMap<&'static str, OfKind>,
    pub faults: Vec<Happened>,
    pub seen_twice: Vec<SeenTwice>,
    /// What went wrong beside the audit.
    pub problems: Vec<String>,
}

/// A duplicate with the number of the fault that is blamed for it.
#[derive(Debug, Serialize)]
pub struct SeenTwice {
    pub id: Uuid,
    pub endpoint: usize,
    pub before: f64,
    pub at: f64,
    pub attempts: (u32, u32),
    pub fault: Option<usize>,
}

#[derive(Debug, Serialize)]
pub struct Transactions {
    pub committed: u64,
    pub rolled_back: u64,
    pub late: u64,
    pub uncertain: u64,
    pub with_key: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct OfKind {
    pub count: u64,
    pub duplicates: u64,
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
pub struct Run {
    pub scenario: &'static str,
    pub seed: u64,
    pub program: &'static str,
    pub seconds: f64,
    pub load_seconds: f64,
    pub republished: u64,
    pub copies_discarded: u64,
    pub held: u64,
    pub died: BTreeMap<String, u64>,
    pub measured: BTreeMap<&'static str, String>,
    pub problems: Vec<String>,
}

impl Report {
    pub fn new(run: Run, findings: Findings, faults: Vec<Happened>, books: &Books, notes: &Notes) -> Report {
        let seen_twice = seen_twice(&faults, notes);
        let blamed = count_by_fault(&seen_twice);
        let duplicates = notes.duplicates.len() as u64;
        let at_most = faults.iter().map(|fault| (fault.kind.workers_hit() * CONCURRENCY) as u64).sum();
        let mut problems = run.problems;
        let failed = faults.iter().filter_map(|fault| Some(format!("{}: {}", fault.name, fault.problem.as_ref()?)));
        problems.extend(failed);
        // A receiver that fails too often is a reason to die. A fault of ours is none.
        let wrongly = run.died.iter().filter(|(reason, _)| *reason != "exhausted");
        problems.extend(wrongly.map(|(reason, count)| format!("{count} deliveries died: {reason}")));
        let stuck = faults.iter().filter(|fault| fault.recovered.is_none());
        problems.extend(stuck.map(|fault| format!("not recovered from: {} at {:.1} s", fault.name, fault.began)));
        Report {
            scenario: run.scenario,
            seed: run.seed,
            program: run.program,
            seconds: run.seconds,
            events_per_second: findings.events as f64 / run.load_seconds,
            duplicate_share: duplicates as f64 / (findings.deliveries.max(1)) as f64,
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
            worst_fault_duplicates: blamed.values().copied().max().unwrap_or(0),
            republished: run.republished,
            copies_discarded: run.copies_discarded,
            held: run.held,
            died: run.died,
            measured: run.measured,
            kinds: by_kind(&faults, &blamed, books, notes),
            faults,
            seen_twice,
            problems,
        }
    }

    pub fn is_good(&self) -> bool {
        self.findings.is_clean() && self.duplicates <= self.duplicates_at_most && self.problems.is_empty()
    }
}

/// The settlement of the first request was what a fault prevented: one that began while it must have been under way, else
/// one that went on at that time, else the next one that began before the second request.
fn blame(faults: &[Happened], duplicate: &Duplicate) -> Option<usize> {
    let can = faults.iter().enumerate().filter(|(_, fault)| fault.kind.workers_hit() > 0);
    let after = can.clone().filter(|(_, fault)| duplicate.before < fault.began && fault.began <= duplicate.at);
    let next = after.min_by(|a, b| a.1.began.total_cmp(&b.1.began));
    let during = can.filter(|(_, fault)| {
        fault.began <= duplicate.before && duplicate.before <= fault.recovered.unwrap_or(f64::MAX)
    });
    let latest = during.max_by(|a, b| a.1.began.total_cmp(&b.1.began));
    let soon = next.filter(|(_, fault)| fault.began - duplicate.before < UNDER_WAY);
    soon.or(latest).or(next).map(|(number, _)| number)
}

fn seen_twice(faults: &[Happened], notes: &Notes) -> Vec<SeenTwice> {
    let with_fault = notes.duplicates.iter().map(|duplicate| SeenTwice {
        id: duplicate.id,
        endpoint: duplicate.endpoint,
        before: duplicate.before,
        at: duplicate.at,
        attempts: duplicate.attempts,
        fault: blame(faults, duplicate),
    });
    with_fault.collect()
}

fn count_by_fault(seen_twice: &[SeenTwice]) -> BTreeMap<Option<usize>, u64> {
    let mut counts = BTreeMap::new();
    for seen in seen_twice {
        *counts.entry(seen.fault).or_default() += 1;
    }
    counts
}

fn by_kind(
    faults: &[Happened],
    blamed: &BTreeMap<Option<usize>, u64>,
    books: &Books,
    notes: &Notes,
) -> BTreeMap<&'static str, OfKind> {
    let mut kinds = BTreeMap::new();
    for kind in Kind::ALL {
        let of: Vec<(usize, &Happened)> = faults.iter().enumerate().filter(|(_, fault)| fault.kind == kind).collect();
        if of.is_empty() {
            continue;
        }
        let times = |beside: bool| {
            let of = of.iter().filter(|(_, fault)| fault.beside_another == beside);
            let mut times: Vec<f64> = of.filter_map(|(_, fault)| fault.recovery()).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let alone = times(false);
        let whole = of.iter().map(|(_, fault)| made_whole(fault, books, notes));
        let figures = OfKind {
            count: of.len() as u64,
            duplicates: of.iter().filter_map(|(number, _)| blamed.get(&Some(*number))).sum(),
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

/// What a receiver refused comes later for a reason of its own, and does not count.
fn made_whole(fault: &Happened, books: &Books, notes: &Notes) -> f64 {
    let of = notes.records.iter().filter(|((id, _), record)| {
        record.refused == 0 && books.committed.get(id).is_some_and(|committed| committed.at < fault.began)
    });
    of.filter_map(|(_, record)| record.first).map(|first| first - fault.ended).fold(0.0, f64::max)
}
