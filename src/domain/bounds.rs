//! From where on a claim reads each tenant's events, and how often it reads everything.
//!
//! Deleted rows stay in the index until no snapshot can see them, so under a snapshot held elsewhere a claim from the
//! beginning gets slower and slower. A lower bound for each tenant keeps it flat. But a transaction may commit late, with
//! ids below the bound; a full scan finds those, and the bound then follows them. Scanning is what guarantees, bounds only
//! make it cheap.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use uuid::Uuid;

use super::ids;

/// Rows that commit a little out of order are still found without a scan.
pub const MARGIN_MS: i64 = 250;
/// A scan that took no longer than this, beside what its rows account for, is the normal way to claim.
const CHEAP: Duration = Duration::from_millis(5);
/// What finding a tenant, moving one row, or making one delivery may take.
const PER_ROW: Duration = Duration::from_micros(50);
/// Dear scans come once in this, or once in twenty times their duration.
const RARELY: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
/// Tenants that are remembered.
const TENANTS: usize = 1000;

#[derive(Debug)]
pub struct Bounds {
    /// How long the last scans took beside their rows. The shortest counts: one that was held up says nothing.
    searches: [Duration; 3],
    last_scan_ms: Option<u64>,
    scan_now: bool,
    known: BTreeMap<String, Known>,
    /// Tenants by the claim that saw them last, to forget the one that was not seen for longest.
    seen: BTreeMap<u64, String>,
    claims: u64,
}

#[derive(Debug)]
struct Known {
    bound: Uuid,
    seen: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            searches: [Duration::ZERO; 3],
            last_scan_ms: None,
            scan_now: true,
            known: BTreeMap::new(),
            seen: BTreeMap::new(),
            claims: 0,
        }
    }
}

impl Bounds {
    /// Whether the next claim is a scan.
    pub fn scans(&self, now_ms: u64) -> bool {
        let pause = RARELY.max(self.search() * SHARE).as_millis() as u64;
        let due = self.last_scan_ms.is_none_or(|last| now_ms.saturating_sub(last) >= pause);
        self.scan_now || due || self.scans_are_cheap()
    }

    pub fn scans_are_cheap(&self) -> bool {
        self.search() <= CHEAP
    }

    fn search(&self) -> Duration {
        self.searches.into_iter().min().unwrap_or_default()
    }

    /// A scan has taken so long, and found so many rows, deliveries and tenants.
    pub fn scanned(&mut self, took: Duration, found: usize, now_ms: u64) {
        self.searches.rotate_right(1);
        self.searches[0] = took.saturating_sub(PER_ROW * found as u32);
        self.last_scan_ms = Some(now_ms);
        self.scan_now = false;
    }

    pub fn scan_next(&mut self) {
        self.scan_now = true;
    }

    /// A tenant's bound follows its last claim, also backwards, when a scan has found rows that committed late. It never
    /// passes the clock: an id from the future must not hide those of the present.
    pub fn learn(&mut self, tenant: &str, highest: Uuid, clock_ms: i64) {
        self.claims += 1;
        let bound = ids::floor(ids::unix_ms(highest).min(clock_ms) - MARGIN_MS);
        let known = Known { bound, seen: self.claims };
        if let Some(old) = self.known.insert(tenant.to_owned(), known) {
            self.seen.remove(&old.seen);
        }
        self.seen.insert(self.claims, tenant.to_owned());
        if self.known.len() > TENANTS
            && let Some((_, longest)) = self.seen.pop_first()
        {
            self.known.remove(&longest);
        }
    }

    pub fn knows(&self, tenant: &str) -> bool {
        self.known.contains_key(tenant)
    }

    /// Known tenants with their bounds, from the one after `tenant` on, and round.
    pub fn after(&self, tenant: &str, limit: usize, without: &[String]) -> Vec<(String, Uuid)> {
        let ahead = self.known.range::<str, _>((Excluded(tenant), Unbounded));
        let again = self.known.range::<str, _>((Unbounded, Included(tenant)));
        let wanted = ahead.chain(again).filter(|(tenant, _)| !without.contains(tenant));
        wanted.take(limit).map(|(tenant, known)| (tenant.clone(), known.bound)).collect()
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
