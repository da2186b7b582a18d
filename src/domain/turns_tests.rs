use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::ids;

const NOW_MS: i64 = 1_700_000_000_000;
const CHEAP: Duration = Duration::from_millis(1);
const DEAR: Duration = Duration::from_millis(100);

/// An outbox, and what the claim's statement does with it.
#[derive(Default)]
struct Outbox {
    /// Ids by tenant.
    rows: BTreeMap<String, BTreeSet<Uuid>>,
    committed: usize,
    clock_ms: i64,
}

impl Outbox {
    fn with(rows: &[(&str, usize)]) -> Outbox {
        let mut outbox = Outbox { clock_ms: NOW_MS, ..Outbox::default() };
        for (tenant, count) in rows {
            outbox.commit(tenant, *count, NOW_MS - 1_000);
        }
        outbox
    }

    fn commit(&mut self, tenant: &str, count: usize, ms: i64) {
        let rows = self.rows.entry(tenant.to_owned()).or_default();
        for _ in 0..count {
            let mut random = [0; 10];
            random[2..].copy_from_slice(&self.committed.to_be_bytes());
            rows.insert(ids::new_v7(ms as u64, random));
            self.committed += 1;
        }
    }

    fn left(&self) -> usize {
        self.rows.values().map(BTreeSet::len).sum()
    }

    /// The tenants that the statement visits, with their bounds.
    fn visited(&self, ask: &Ask, without: &[String]) -> Vec<(String, Uuid)> {
        let has_rows = |(tenant, bound): &(String, Uuid)| {
            self.rows.get(tenant).is_some_and(|rows| rows.range(*bound..).next().is_some()) && !without.contains(tenant)
        };
        let tenants: Vec<(String, Uuid)> = match &ask.from {
            From::Everyone { after } => {
                let ahead = self.rows.keys().filter(|tenant| *tenant > after);
                let again = self.rows.keys().filter(|tenant| *tenant <= after);
                ahead.chain(again).map(|tenant| (tenant.clone(), Uuid::nil())).collect()
            }
            From::Known(known) => {
                let recent = ids::floor(self.clock_ms - 500);
                let latest = self.rows.keys().filter(|tenant| !known.iter().any(|(name, _)| name == *tenant));
                latest.map(|tenant| (tenant.clone(), recent)).chain(known.iter().cloned()).collect()
            }
            From::Row(row) => vec![row.clone()],
            From::Few(_) => unreachable!("this outbox is not looked at"),
        };
        tenants.into_iter().filter(has_rows).take(ask.tenants as usize).collect()
    }

    fn claim(&mut self, ask: &Ask, without: &[String]) -> Found {
        let visited = self.visited(ask, without);
        let alone = visited.len() == 1;
        let (each, all) = if alone { (ask.alone, ask.alone) } else { (ask.each, ask.together) };
        let mut order = Vec::new();
        for (place, (tenant, bound)) in visited.iter().enumerate() {
            let rows = self.rows[tenant].range(*bound..).take(each as usize);
            order.extend(rows.enumerate().map(|(n, id)| ((n as u32 / TURN, place, n), tenant.clone(), *id)));
        }
        order.sort();
        order.truncate(all as usize);
        let mut taken: Vec<Taken> = Vec::new();
        for (tenant, _) in &visited {
            let ids: Vec<Uuid> = order.iter().filter(|(_, name, _)| name == tenant).map(|(_, _, id)| *id).collect();
            let Some(highest) = ids.iter().max().copied() else { continue };
            taken.push(Taken { tenant: tenant.clone(), rows: ids.len() as u32, highest });
            let left = self.rows.get_mut(tenant).unwrap();
            ids.iter().for_each(|id| assert!(left.remove(id)));
        }
        self.rows.retain(|_, rows| !rows.is_empty());
        let deliveries = order.len();
        Found { taken, last: visited.last().map(|(tenant, _)| tenant.clone()), deliveries, clock_ms: self.clock_ms }
    }
}

fn step(turns: &mut Turns, outbox: &mut Outbox, took: Duration, now_ms: u64) -> Vec<(String, u32)> {
    let ask = turns.ask(now_ms, &[]);
    let found = outbox.claim(&ask, &[]);
    turns.claimed(&ask, &found, took, now_ms);
    found.taken.into_iter().map(|taken| (taken.tenant, taken.rows)).collect()
}

fn rows(claimed: &[(String, u32)]) -> u32 {
    claimed.iter().map(|(_, rows)| rows).sum()
}

#[test]
fn a_tenant_alone_fills_every_claim() {
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[("a", 600)]));
    for _ in 0..3 {
        assert_eq!(step(&mut turns, &mut outbox, CHEAP, 0), [("a".to_owned(), 200)]);
    }
    assert_eq!(step(&mut turns, &mut outbox, CHEAP, 0), []);
}

#[test]
fn the_outbox_is_looked_at_while_little_comes_and_scans_are_cheap() {
    let seen = |count: usize| {
        let row = |n| Seen { id: Uuid::from_u128(n as u128), tenant: "a".into(), bytes: 10, endpoints: 1 };
        (0..count).map(row).collect::<Vec<_>>()
    };
    let mut turns = Turns::new(200);
    let ask = turns.ask(0, &[]);
    assert!(turns.looks_before(&ask, &[]));
    assert_eq!(
        turns.looked(ask.clone(), &seen(2), CHEAP, 0).from,
        From::Few(seen(2).iter().map(|row| row.id).collect())
    );
    assert_eq!(turns.looked(ask.clone(), &seen(few::LOOK), CHEAP, 0), ask);

    // A claim took more: the next one follows at once.
    step(&mut turns, &mut Outbox::with(&[("a", few::LOOK)]), CHEAP, 0);
    assert!(!turns.looks_before(&ask, &[]));
    step(&mut turns, &mut Outbox::default(), CHEAP, 0);
    assert!(turns.looks_before(&ask, &[]));
    turns.failed();
    assert!(!turns.looks_before(&ask, &[]));
    step(&mut turns, &mut Outbox::default(), CHEAP, 0);

    for _ in 0..3 {
        turns.looked(ask.clone(), &[], DEAR, 0);
    }
    assert!(!turns.looks_before(&ask, &[]), "a look reads what was deleted as well as a scan does");
}

#[test]
fn several_share_a_smaller_claim_and_get_what_others_leave() {
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[("a", 600), ("b", 2), ("c", 600)]));
    let claimed = step(&mut turns, &mut outbox, CHEAP, 0);
    assert_eq!(claimed, [("a".to_owned(), 24), ("b".to_owned(), 2), ("c".to_owned(), 24)]);
    outbox.commit("b", 1, NOW_MS);
    let claimed = step(&mut turns, &mut outbox, CHEAP, 0);
    assert!(rows(&claimed) >= 49, "{claimed:?}");
}

#[test]
fn tenants_with_few_rows_each_fill_a_claim_together() {
    let names: Vec<String> = (0..500).map(|n| format!("t{n:03}")).collect();
    let rows_of = |count| names.iter().map(|name| (name.as_str(), count)).collect::<Vec<_>>();
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&rows_of(1)));
    let sizes: Vec<usize> = (0..4).map(|_| step(&mut turns, &mut outbox, CHEAP, 0).len()).collect();
    assert_eq!(sizes, [12, 50, 50, 50]);
    outbox = Outbox::with(&rows_of(60));
    let claimed: Vec<_> = (0..3).map(|_| step(&mut turns, &mut outbox, CHEAP, 0)).collect();
    assert!(claimed.iter().all(|claimed| rows(claimed) >= 48 && claimed.len() <= 13), "{claimed:?}");
    assert!(turns.ask(0, &[]).tenants <= 13, "no more are read than are taken");
}

#[test]
fn more_tenants_than_are_known_do_not_wait_for_a_scan_though_it_is_dear() {
    let names: Vec<String> = (0..3_000).map(|n| format!("t{n:04}")).collect();
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[]));
    names.iter().for_each(|name| outbox.commit(name, 1, NOW_MS - 60_000));
    let mut claims = 0;
    while outbox.left() > 0 {
        step(&mut turns, &mut outbox, DEAR, claims);
        claims += 1;
        assert!(claims < 140, "every second one is a scan; {} are left", outbox.left());
    }
    for n in 0..10 {
        step(&mut turns, &mut outbox, DEAR, n);
    }
    assert!(matches!(turns.ask(10, &[]).from, From::Known(_)), "nothing more is there");
}

/// While a dear scan takes its time, each of them emits something, so the next claims are full.
#[test]
fn many_tenants_that_are_known_ask_for_no_more_dear_scans_than_few() {
    let names: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[]));
    let (mut now_ms, mut scans) = (0, 0);
    while now_ms < 20_000 {
        let is_scan = matches!(turns.ask(now_ms, &[]).from, From::Everyone { .. });
        let (took, emitting) = if is_scan { (DEAR, 60) } else { (CHEAP, 2) };
        outbox.clock_ms = NOW_MS + now_ms as i64;
        names.iter().take(emitting).for_each(|name| outbox.commit(name, 1, NOW_MS + now_ms as i64));
        step(&mut turns, &mut outbox, took, now_ms);
        scans += usize::from(is_scan);
        now_ms += took.as_millis() as u64;
    }
    assert!(scans < 30, "{scans} in 20 s, and one in two seconds is due");
}

#[test]
fn what_failed_is_asked_for_in_smaller_parts_and_grows_again() {
    let mut turns = Turns::new(200);
    for limit in [100, 50, 25, 12, 6, 3, 1, 1] {
        turns.failed();
        let ask = turns.ask(0, &[]);
        assert_eq!((ask.alone, ask.together), (limit, limit.min(TOGETHER)));
        assert!(ask.each <= ask.together && ask.tenants >= 1 && ask.tenants <= ask.alone);
    }
    assert!(turns.asks_for_one());
    let mut outbox = Outbox::with(&[("a", 600)]);
    let sizes: Vec<u32> = (0..9).map(|_| rows(&step(&mut turns, &mut outbox, CHEAP, 0))).collect();
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 200]);
}

#[test]
fn tenants_whose_rows_others_hold_do_not_stop_the_round() {
    let mut turns = Turns::new(200);
    let ask = turns.ask(0, &[]);
    let found = Found { last: Some("k".into()), ..Found::default() };
    turns.claimed(&ask, &found, CHEAP, 0);
    assert_eq!(turns.ask(0, &[]).from, From::Everyone { after: "k".into() });
}

/// A bulk transaction that commits late, beside live traffic, while scans are dear: once a scan has found it, its tenant's
/// bound follows it, and it drains with every claim and not with every scan.
#[test]
fn late_commits_drain_at_full_speed_while_scans_are_dear() {
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[("bulk", 10), ("live", 10)]));
    step(&mut turns, &mut outbox, DEAR, 0);
    outbox.commit("bulk", 50_000, NOW_MS - 300_000);
    let mut claims = 0;
    for now_ms in (1..).map(|n| n * 5) {
        if !outbox.rows.contains_key("bulk") {
            break;
        }
        outbox.clock_ms = NOW_MS + now_ms as i64;
        outbox.commit("live", 1, outbox.clock_ms);
        let claimed = step(&mut turns, &mut outbox, DEAR, now_ms);
        assert!(now_ms < 2_000 || claimed.iter().any(|(tenant, _)| tenant == "live"), "live traffic goes on");
        claims += 1;
        assert!(claims < 1_500, "{} are left", outbox.left());
    }
}

#[test]
fn an_id_far_ahead_of_the_clock_hides_no_other() {
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[]));
    outbox.commit("a", 1, NOW_MS + 50 * 60_000);
    assert_eq!(rows(&step(&mut turns, &mut outbox, DEAR, 0)), 1);
    outbox.commit("a", 300, NOW_MS - 10);
    assert_eq!(rows(&step(&mut turns, &mut outbox, DEAR, 5)), 200, "without a scan");
}

#[test]
fn a_tenant_never_seen_is_found_without_a_scan() {
    let (mut turns, mut outbox) = (Turns::new(200), Outbox::with(&[("a", 1)]));
    step(&mut turns, &mut outbox, DEAR, 0);
    outbox.commit("new", 1, NOW_MS);
    assert_eq!(step(&mut turns, &mut outbox, DEAR, 5), [("new".to_owned(), 1)]);
}

proptest! {
    /// With t tenants waiting a row is claimed after at most (rows of its tenant before it / 4 + 1) rounds of t tenants, and
    /// everything is claimed in the end, whether scans are cheap or dear.
    #[test]
    fn every_row_is_claimed_in_its_turn(
        counts in prop::collection::vec(1usize..60, 1..40),
        dear in any::<bool>(),
        batch in 1u32..300,
    ) {
        let names: Vec<String> = (0..counts.len()).map(|n| format!("t{n:03}")).collect();
        let mut outbox = Outbox::with(&names.iter().map(String::as_str).zip(counts.iter().copied()).collect::<Vec<_>>());
        let mut turns = Turns::new(batch);
        let most = counts.iter().max().copied().unwrap_or(0);
        let per_claim = (batch.min(TOGETHER) / TURN).clamp(1, TENANTS) as usize;
        let rounds = if batch < TURN { most } else { most / TURN as usize + 1 };
        let bound = rounds * counts.len().div_ceil(per_claim) + rounds;
        let mut claims = 0;
        while outbox.left() > 0 {
            step(&mut turns, &mut outbox, if dear { DEAR } else { CHEAP }, claims as u64 * 10);
            claims += 1;
            prop_assert!(dear || claims <= bound, "{} claims, {} are left", claims, outbox.left());
            prop_assert!(claims < 100_000);
        }
    }

    /// What a claim asks for is bounded, whatever happened before.
    #[test]
    fn what_is_asked_for_is_within_its_bounds(batch in 0u32..2_000, failures in prop::collection::vec(any::<bool>(), 0..40)) {
        let mut turns = Turns::new(batch);
        let mut outbox = Outbox::with(&[("a", 3_000), ("b", 3_000), ("c", 1)]);
        for failed in failures {
            if failed {
                turns.failed();
            } else {
                step(&mut turns, &mut outbox, CHEAP, 0);
            }
            let ask = turns.ask(0, &[]);
            prop_assert!((1..=batch.max(1)).contains(&ask.alone));
            prop_assert!((1..=TOGETHER).contains(&ask.together) && ask.together <= ask.alone);
            prop_assert!((1..=ask.together).contains(&ask.each));
            prop_assert!((1..=TOGETHER).contains(&ask.tenants) && ask.tenants * ask.each <= READ.max(TURN * TOGETHER));
        }
    }
}
