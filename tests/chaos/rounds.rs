//! Putting the faults of a plan into larger rounds, so that more of them fit into a run.

use crate::chaos::schedule::Fault;

/// The same faults in rounds of one, two, and so on up to `most`, in turn. One that excludes another waits for a later round.
pub fn gather(rounds: Vec<Vec<Fault>>, most: usize) -> Vec<Vec<Fault>> {
    let mut left: Vec<Fault> = rounds.into_iter().flatten().collect();
    let mut gathered = Vec::new();
    for size in (1..=most).cycle() {
        let mut round: Vec<Fault> = Vec::new();
        while round.len() < size
            && let Some(next) = left.iter().position(|fault| round.iter().all(|other| !fault.excludes(other)))
        {
            round.push(left.remove(next));
        }
        if round.is_empty() {
            break;
        }
        gathered.push(round);
    }
    gathered
}
