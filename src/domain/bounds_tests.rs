use super::*;

const NOW_MS: i64 = 1_700_000_000_000;
const DEAR: Duration = Duration::from_millis(100);

fn bounds(of: &[(&str, i64)]) -> Bounds {
    let mut bounds = Bounds::default();
    for (tenant, ms) in of {
        bounds.learn(tenant, ids::floor(*ms), NOW_MS);
    }
    bounds
}

fn bound(bounds: &Bounds, tenant: &str) -> Option<i64> {
    let all = bounds.after("", usize::MAX, &[]);
    all.into_iter().find(|(known, _)| known == tenant).map(|(_, bound)| ids::unix_ms(bound))
}

#[test]
fn cheap_scans_are_the_rule_and_dear_ones_are_rationed() {
    let mut bounds = Bounds::default();
    assert!(bounds.scans(0), "nothing is known at the start");
    bounds.scanned(Duration::from_millis(2), 0, 0);
    assert!(bounds.scans(0), "cheap");
    bounds.scanned(Duration::from_millis(14), 200, 0);
    assert!(bounds.scans(0), "its rows account for it");
    bounds.scanned(DEAR, 0, 0);
    bounds.scanned(DEAR, 0, 0);
    assert!(bounds.scans(0), "held up for a moment");
    bounds.scanned(DEAR, 0, 0);
    assert!(!bounds.scans(1_999));
    assert!(bounds.scans(2_000), "twenty times its duration");
    bounds.scan_next();
    assert!(bounds.scans(0));
}

#[test]
fn a_bound_follows_the_last_claim_of_its_tenant_also_backwards() {
    let mut bounds = bounds(&[("a", NOW_MS - 1_000), ("b", NOW_MS - 60_000)]);
    assert_eq!(bound(&bounds, "a"), Some(NOW_MS - 1_000 - MARGIN_MS));
    assert_eq!(bound(&bounds, "b"), Some(NOW_MS - 60_000 - MARGIN_MS));
    bounds.learn("a", ids::floor(NOW_MS - 120_000), NOW_MS);
    assert_eq!(bound(&bounds, "a"), Some(NOW_MS - 120_000 - MARGIN_MS), "a scan has found rows that committed late");
}

#[test]
fn an_id_ahead_of_the_clock_does_not_hide_the_present() {
    let bounds = bounds(&[("a", NOW_MS + 50 * 60_000)]);
    assert_eq!(bound(&bounds, "a"), Some(NOW_MS - MARGIN_MS));
}

#[test]
fn known_tenants_come_in_turn_and_the_longest_unseen_is_forgotten() {
    let mut bounds = bounds(&[("a", 0), ("b", 0), ("c", 0), ("d", 0)]);
    let names = |known: Vec<(String, Uuid)>| known.into_iter().map(|(tenant, _)| tenant).collect::<Vec<_>>();
    assert_eq!(names(bounds.after("b", 3, &[])), ["c", "d", "a"]);
    assert_eq!(names(bounds.after("b", 9, &["d".into()])), ["c", "a", "b"]);
    assert_eq!(names(bounds.after("bb", 2, &[])), ["c", "d"]);
    for n in 0..TENANTS - 3 {
        bounds.learn(&format!("t{n}"), Uuid::nil(), 0);
    }
    assert_eq!(bounds.after("", usize::MAX, &[]).len(), TENANTS);
    assert_eq!(bound(&bounds, "a"), None);
}
