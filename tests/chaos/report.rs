//! What a run has shown, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;

use crate::audit::Findings;
use crate::faults::Happened;
use crate::ledger::Books;
use crate::receiver::{Duplicate, Notes};
use crate::schedule::Kind;
use crate::stack::CONCURRENCY;

/// The worst single fault may cost at most this share of all deliveries, as an aim that is printed.
const AIM_PERCENT: f64 = 0.05;

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
    pub requeued: u64,
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
    /// Of the faults that had no other one beside them, in seconds.
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
    pub requeued: u64,
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
            requeued: run.requeued,
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

/// The settlement of the first request was what a fault prevented: one that went on at that time, else the next one that
/// began before the second request.
fn blame(faults: &[Happened], duplicate: &Duplicate) -> Option<usize> {
    let can = faults.iter().enumerate().filter(|(_, fault)| fault.kind.workers_hit() > 0);
    let during = can.clone().filter(|(_, fault)| {
        fault.began <= duplicate.before && duplicate.before <= fault.recovered.unwrap_or(f64::MAX)
    });
    let after = can.filter(|(_, fault)| duplicate.before < fault.began && fault.began <= duplicate.at);
    let latest = during.max_by(|a, b| a.1.began.total_cmp(&b.1.began));
    latest.or_else(|| after.min_by(|a, b| a.1.began.total_cmp(&b.1.began))).map(|(number, _)| number)
}

fn seen_twice(faults: &[Happened], notes: &Notes) -> Vec<SeenTwice> {
    let with_fault = notes.duplicates.iter().map(|duplicate| SeenTwice {
        id: duplicate.id,
        endpoint: duplicate.endpoint,
        before: duplicate.before,
        at: duplicate.at,
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

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (found, made) = (&self.findings, &self.transactions);
        writeln!(text, "\n{} with seed {}, {} build, {:.0} s", self.scenario, self.seed, self.program, self.seconds)?;
        writeln!(
            text,
            "events       {} committed in {} transactions, {:.0}/s; {} transactions rolled back, {} late,",
            found.events, made.committed, self.events_per_second, made.rolled_back, made.late
        )?;
        writeln!(
            text,
            "             {} with an idempotency key used twice, {} commits without an answer looked up",
            made.with_key, made.uncertain
        )?;
        let statuses: Vec<String> =
            found.deliveries_by_status.iter().map(|(status, n)| format!("{status} {n}")).collect();
        writeln!(text, "deliveries   {} owed; in the database: {}", found.deliveries, statuses.join(", "))?;
        writeln!(
            text,
            "attempts     {}, of them {} failed without a receiver that was told to fail",
            found.attempts, found.attempts_spent_on_our_faults
        )?;
        writeln!(
            text,
            "processes    {} messages published again as lost, {} stale copies discarded, {} held, {} requeued",
            self.republished, self.copies_discarded, self.held, self.requeued
        )?;
        self.write_faults(text)?;
        writeln!(text, "\nlost         {}   (must be 0)", found.lost)?;
        writeln!(text, "phantom      {}   delivered without a commit (must be 0)", found.phantom)?;
        let share = self.duplicate_share * 100.0;
        writeln!(
            text,
            "duplicates   {}   {share:.4} % of all deliveries (at most {} were in flight at the hard faults)",
            self.duplicates, self.duplicates_at_most
        )?;
        let worst = self.worst_fault_duplicates as f64 / found.deliveries.max(1) as f64 * 100.0;
        writeln!(
            text,
            "             worst single fault: {}, {worst:.4} % (the aim is {AIM_PERCENT} %)",
            self.worst_fault_duplicates
        )?;
        writeln!(
            text,
            "wrong        parked {}, altered {}, misdirected {}, bad signatures {}, not recorded {}, unexplained {}, keys used twice {}, left over {}",
            found.parked,
            found.altered,
            found.misdirected,
            found.bad_signatures,
            found.unrecorded,
            found.unexplained,
            found.doubled_keys,
            found.left_over
        )?;
        for line in found.examples.iter().chain(&self.problems) {
            writeln!(text, "             {line}")?;
        }
        writeln!(text, "result       {}", if self.is_good() { "good" } else { "BAD" })
    }

    fn write_faults(&self, text: &mut String) -> std::fmt::Result {
        if self.faults.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\n{:<28} {:>5} {:>10}   {:>8} {:>8} {:>8}   {:>8}",
            "fault", "times", "duplicates", "recovery", "", "beside", "whole"
        )?;
        writeln!(
            text,
            "{:<28} {:>5} {:>10}   {:>8} {:>8} {:>8}   {:>8}",
            "", "", "", "p50", "max", "another", "again"
        )?;
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
        for (name, of) in &self.kinds {
            writeln!(
                text,
                "{name:<28} {:>5} {:>10}   {:>8} {:>8} {:>8}   {:>8}",
                of.count,
                of.duplicates,
                seconds(of.recovery_p50),
                seconds(of.recovery_max),
                seconds(of.recovery_max_beside_another),
                seconds(of.made_whole_max)
            )?;
        }
        Ok(())
    }
}
