//! Which fault a duplicate is put down to, and whether any of them cost more than it may.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use crate::chaos::faults::Happened;
use crate::chaos::receiver::{Duplicate, Notes};

/// A request with its settlement takes no longer, in seconds.
const UNDER_WAY: f64 = 0.25;
/// So long after all work again, in seconds, a call may still wait for an answer that a fault has swallowed.
const AFTERMATH: f64 = 5.0;

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

pub fn seen_twice(faults: &[Happened], notes: &Notes) -> Vec<SeenTwice> {
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

/// The settlement of the first request was what a fault prevented: one that began while it must have been under way, else
/// one that went on at that time. Of two in one round it was the hard kill, if one was: that makes hard kills look worse
/// rather than better.
fn blame(faults: &[Happened], duplicate: &Duplicate) -> Option<usize> {
    let can = faults.iter().enumerate().filter(|(_, fault)| fault.kind.workers_hit() > 0);
    let soon = can.clone().filter(|(_, fault)| {
        duplicate.before < fault.began && fault.began < duplicate.before + UNDER_WAY && fault.began <= duplicate.at
    });
    let during = can.filter(|(_, fault)| {
        let over = fault.recovered.map_or(f64::MAX, |recovered| recovered + AFTERMATH);
        fault.began <= duplicate.before && duplicate.before <= over
    });
    let last = |a: &Happened, b: &Happened| {
        a.round.total_cmp(&b.round).then(a.kind.is_hard_kill().cmp(&b.kind.is_hard_kill()))
    };
    let soon = soon.max_by(|a, b| last(a.1, b.1));
    soon.or_else(|| during.max_by(|a, b| last(a.1, b.1))).map(|(number, _)| number)
}

pub fn by_fault(seen_twice: &[SeenTwice]) -> BTreeMap<Option<usize>, u64> {
    let mut counts = BTreeMap::new();
    for seen in seen_twice {
        *counts.entry(seen.fault).or_default() += 1;
    }
    counts
}

/// What cannot be explained by requests that were in flight at a fault. Two faults at the same time are looked at together,
/// since nobody can tell which of them kept a request from being settled.
pub fn excess(faults: &[Happened], blamed: &BTreeMap<Option<usize>, u64>) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(count) = blamed.get(&None) {
        problems.push(format!("{count} duplicates while no fault was near"));
    }
    for round in at_the_same_time(faults) {
        let at_most: u64 = round.iter().map(|number| faults[*number].duplicates_at_most()).sum();
        let count: u64 = round.iter().filter_map(|number| blamed.get(&Some(*number))).sum();
        if count > at_most {
            let names: Vec<&str> = round.iter().map(|number| faults[*number].name).collect();
            problems.push(format!("{count} duplicates of {}, at most {at_most} explained", names.join(" and ")));
        }
    }
    problems
}

fn at_the_same_time(faults: &[Happened]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<(f64, Vec<usize>)> = Vec::new();
    for (number, fault) in faults.iter().enumerate() {
        match rounds.iter_mut().find(|(round, _)| *round == fault.round) {
            Some((_, numbers)) => numbers.push(number),
            None => rounds.push((fault.round, vec![number])),
        }
    }
    rounds.into_iter().map(|(_, numbers)| numbers).collect()
}
