//! Whose events are claimed next: those of each tenant in turn, so that a burst of one waits behind nobody and nobody
//! behind it.

use std::time::Duration;

use uuid::Uuid;

use super::bounds::Bounds;
use super::few::{self, Seen};

/// Rows of one tenant before it is the next one's turn.
pub const TURN: u32 = 4;
/// Tenants that one claim visits while they have many rows each: their turns fill it.
pub const TENANTS: u32 = 12;
/// Rows of one claim while several tenants wait. A tenant that waits alone gets the configured size of a batch.
pub const TOGETHER: u32 = 50;
/// Rows that one claim of several tenants reads at most, to take `TOGETHER` of them.
const READ: u32 = TENANTS * TOGETHER;
/// Known tenants that one claim looks at while scans are dear.
const KNOWN: usize = 100;

/// What a claim asks the outbox for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub from: From,
    /// Tenants with rows, at most.
    pub tenants: u32,
    /// Rows, where only one tenant has any.
    pub alone: u32,
    /// Rows of each tenant, where several have some.
    pub each: u32,
    /// Rows of all of them.
    pub together: u32,
}

/// Which tenants a claim looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// All that have rows, from the one after this one on, and round. Finds every row.
    Everyone { after: String },
    /// These, each from its bound on, and those of the latest events. Finds what is nearly always all.
    Known(Vec<(String, Uuid)>),
    /// The row of this tenant with this id, to find out whether it can be moved.
    Row((String, Uuid)),
    /// The rows with these ids, which a look has found to be all there are.
    Few(Vec<Uuid>),
}

/// What a claim took of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub tenant: String,
    pub rows: u32,
    pub highest: Uuid,
}

/// What a claim found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// In the order in which the tenants were visited; those of which nothing was taken are not here.
    pub taken: Vec<Taken>,
    /// The last tenant visited, whether or not its rows were free to be taken.
    pub last: Option<String>,
    /// Deliveries made of the rows.
    pub deliveries: usize,
    /// The database's clock.
    pub clock_ms: i64,
}

#[derive(Debug)]
pub struct Turns {
    batch: u32,
    /// At most this many rows; below `batch` after claims that failed.
    limit: u32,
    each: u32,
    /// Tenants to visit.
    tenants: u32,
    /// The tenant served last.
    after: String,
    bounds: Bounds,
    /// The last claim took few rows.
    few: bool,
    /// The last scan took all that a claim may, and some of it was of tenants that were not known.
    more_unknown: bool,
}

impl Turns {
    /// `batch`: rows of a tenant that waits alone.
    pub fn new(batch: u32) -> Turns {
        let batch = batch.max(1);
        Turns {
            batch,
            limit: batch,
            each: TOGETHER,
            tenants: TENANTS,
            after: String::new(),
            bounds: Bounds::default(),
            few: true,
            more_unknown: false,
        }
    }

    /// The next claim. `crowded` tenants have had their share for now.
    pub fn ask(&self, now_ms: u64, crowded: &[String]) -> Ask {
        let from = if self.bounds.scans(now_ms) {
            From::Everyone { after: self.after.clone() }
        } else {
            From::Known(self.bounds.after(&self.after, KNOWN, crowded))
        };
        let together = self.limit.min(TOGETHER);
        let tenants = self.limit.div_ceil(TURN).min(self.tenants);
        let each = self.each.min(READ / tenants).min(together).max(TURN.min(together));
        Ask { from, tenants, alone: self.limit, each, together }
    }

    pub fn claimed(&mut self, ask: &Ask, found: &Found, took: Duration, now_ms: u64) {
        let rows: u32 = found.taken.iter().map(|taken| taken.rows).sum();
        let served = found.taken.len() as u32;
        let full = served >= ask.tenants || rows >= ask.together;
        match ask.from {
            From::Everyone { .. } => {
                self.bounds.scanned(took, rows as usize + served as usize + found.deliveries, now_ms);
                self.more_unknown = full && found.taken.iter().any(|taken| !self.bounds.knows(&taken.tenant));
            }
            // Otherwise those who are not known would wait for the next scan that is due.
            From::Known(_) if !full && self.more_unknown => self.bounds.scan_next(),
            From::Known(_) | From::Row(_) | From::Few(_) => {}
        }
        for taken in &found.taken {
            self.bounds.learn(&taken.tenant, taken.highest, found.clock_ms);
        }
        self.few = rows as usize <= few::MOST;
        self.each = each(ask, &found.taken, rows);
        self.tenants = self.tenants(ask, served, rows);
        self.limit = self.limit.saturating_mul(2).min(self.batch);
        self.after = self.last(ask, found);
    }

    /// So many that their rows fill a claim, where those that were visited had too few for that.
    fn tenants(&self, ask: &Ask, served: u32, rows: u32) -> u32 {
        match &ask.from {
            _ if served >= ask.tenants => (served * TOGETHER).div_ceil(rows.max(1)).clamp(TENANTS, TOGETHER),
            From::Known(_) => self.tenants,
            From::Everyone { .. } | From::Row(_) | From::Few(_) => TENANTS,
        }
    }

    /// Tenants after the last one that gave something are visited first the next time; if none gave anything, because
    /// others hold their rows, the next ones are.
    fn last(&mut self, ask: &Ask, found: &Found) -> String {
        let gave = found.taken.last().map(|taken| taken.tenant.clone());
        match &ask.from {
            From::Everyone { .. } => gave.or(found.last.clone()).unwrap_or_else(|| std::mem::take(&mut self.after)),
            // Fewer than asked for: then all of these were looked at.
            From::Known(known) if (found.taken.len() as u32) < ask.tenants => {
                known.last().map_or_else(String::new, |(tenant, _)| tenant.clone())
            }
            From::Known(_) => gave.unwrap_or_default(),
            From::Few(_) => gave.unwrap_or_else(|| std::mem::take(&mut self.after)),
            From::Row((tenant, _)) => tenant.clone(),
        }
    }

    /// Whether to look at the outbox before this claim is made. While little comes, or little beside that of tenants that
    /// have had their share, a look costs far less than a claim that finds nothing, and so does a claim that need not choose.
    pub fn looks_before(&self, ask: &Ask, crowded: &[String]) -> bool {
        let little = self.few || (!crowded.is_empty() && self.limit == self.batch);
        little && matches!(ask.from, From::Everyone { .. }) && self.bounds.scans_are_cheap()
    }

    /// What a look has seen: whether these are all there are, and few enough to be taken as they are.
    pub fn looked(&mut self, ask: Ask, seen: &[Seen], took: Duration, now_ms: u64) -> Ask {
        self.bounds.scanned(took, seen.len(), now_ms);
        match few::all(seen) {
            Some(ids) => Ask { from: From::Few(ids), ..ask },
            None => ask,
        }
    }

    /// The claim failed, or took too long: fewer rows the next time, down to one.
    pub fn failed(&mut self) {
        self.few = false;
        self.limit = (self.limit / 2).max(1);
        self.scan_next();
    }

    /// Claims have failed until there is a single row to ask for.
    pub fn asks_for_one(&self) -> bool {
        self.limit == 1
    }

    /// Just this row.
    pub fn ask_for(tenant: String, id: Uuid) -> Ask {
        Ask { from: From::Row((tenant, id)), tenants: 1, alone: 1, each: 1, together: 1 }
    }

    /// Not even one row of this tenant can be claimed just now: the others shall not wait for it.
    pub fn pass_over(&mut self, tenant: String) {
        self.after = tenant;
    }

    /// The tenant after which the next claim begins.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// The next claim must see everything: before sleeping, after a failure, after a wake-up.
    pub fn scan_next(&mut self) {
        self.bounds.scan_next();
    }
}

/// So many rows of each tenant that those with many share what those with few leave, and the claim is full.
fn each(ask: &Ask, taken: &[Taken], rows: u32) -> u32 {
    let cut = rows >= ask.together;
    let has_more = |taken: &&Taken| taken.rows >= ask.each || (cut && taken.rows >= TURN);
    let full = taken.iter().filter(has_more).count() as u32;
    if full == 0 {
        return TOGETHER;
    }
    let few: u32 = taken.iter().filter(|taken| !has_more(taken)).map(|taken| taken.rows).sum();
    (TOGETHER.saturating_sub(few) / full).max(TURN)
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
