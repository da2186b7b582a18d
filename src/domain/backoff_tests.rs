use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::ids;

pub fn settings(schedule_ms: &[u64], jitter_bps: u32, slots: u32) -> Settings {
    Settings {
        schedule: schedule_ms.iter().map(|ms| Duration::from_millis(*ms)).collect(),
        jitter_bps,
        slots,
        budget: 0,
        permanent_status_codes: BTreeSet::new(),
        max_retry_after: Duration::from_secs(86_400),
        max_pause: Duration::from_secs(3_600),
    }
}

fn policy(schedule_ms: &[u64], jitter_bps: u32, slots: u32) -> Policy {
    Policy::new("test", &settings(schedule_ms, jitter_bps, slots)).unwrap()
}

fn key(n: u64) -> DeliveryKey {
    let id = |salt: u8| {
        let digest = Sha256::digest([&n.to_be_bytes()[..], &[salt]].concat());
        ids::new_v7(1_700_000_000_000 + n, digest[..10].try_into().unwrap())
    };
    DeliveryKey { event_id: id(0), endpoint_id: id(1) }
}

#[test]
fn ten_thousand_deliveries_spread_evenly_over_the_slots_and_stay_within_the_jitter() {
    let policy = policy(&[30_000], 2_000, 16);
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for n in 0..10_000 {
        let seed = slot_seed(key(n), 1);
        assert_eq!(seed, slot_seed(key(n), 1), "deterministic");
        *counts.entry(policy.delay_ms(1, seed)).or_default() += 1;
    }
    assert_eq!(counts.len(), 16);
    assert!(counts.keys().all(|ms| (24_000..=36_000).contains(ms)));
    let expected = 10_000.0 / 16.0;
    let chi_square: f64 = counts.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    assert!(chi_square < 37.7, "15 degrees of freedom, p = 0.001: {chi_square}");
    let mean = counts.iter().map(|(ms, n)| ms * u64::from(*n)).sum::<u64>() as f64 / 10_000.0;
    assert!((mean - 30_000.0).abs() < 150.0, "the mean stays the base delay: {mean}");
}

#[test]
fn without_jitter_there_is_one_queue_for_each_tier() {
    let policy = policy(&[30_000, 120_000, 600_000, 3_600_000], 0, 16);
    assert_eq!(policy.delays_ms().into_iter().collect::<Vec<_>>(), [30_000, 120_000, 600_000, 3_600_000]);
    assert_eq!(policy.max_attempts(), 5);
}

#[test]
fn the_default_schedule_makes_sixty_four_queues_and_knows_its_worst_case() {
    let policy = policy(&[30_000, 120_000, 600_000, 3_600_000], 2_000, 16);
    assert_eq!(policy.delays_ms().len(), 64);
    let worst = policy.worst_case(None, Duration::from_secs(10));
    assert!(worst > Duration::from_secs(4_350) && worst < Duration::from_secs(5_270), "{worst:?}");
}

#[test]
fn a_budget_shortens_the_worst_case_and_what_receivers_ask_for_lengthens_it() {
    let policy = policy(&[30_000, 120_000, 600_000], 0, 1);
    let (ten, seconds) =
        (Duration::from_secs(10), |budget| policy.worst_case(budget, Duration::from_secs(10)).as_secs());
    assert_eq!([None, Some(1), Some(2), Some(3), Some(99)].map(seconds), [790, 50, 180, 790, 790]);
    assert_eq!([None, Some(2), Some(9)].map(|budget| policy.retries(budget)), [3, 2, 3]);
    let asked = policy.worst_case_when_asked(Some(2), ten);
    assert_eq!(
        asked,
        policy.max_retry_after.max(Duration::from_secs(30))
            + policy.max_retry_after.max(Duration::from_secs(120))
            + 3 * ten
    );
}

#[test]
fn a_delivery_that_outlives_its_schedule_stays_on_the_last_tier() {
    let policy = policy(&[1_000, 2_000], 0, 1);
    let delays: Vec<u64> = [0, 1, 2, 3, 99].into_iter().map(|made| policy.delay_ms(made, 5)).collect();
    assert_eq!(delays, [1_000, 1_000, 2_000, 2_000, 2_000]);
}

#[test]
fn impossible_schedules_are_refused_with_the_reason() {
    let refuse = |settings: &Settings| Policy::new("p", settings).unwrap_err();
    assert_eq!(refuse(&settings(&[], 0, 1)), PolicyError::EmptySchedule);
    assert_eq!(refuse(&settings(&[1, 0], 0, 1)), PolicyError::ZeroDelay { index: 2 });
    assert_eq!(refuse(&settings(&[1], 0, 0)), PolicyError::NoSlots);
    assert_eq!(refuse(&settings(&[1; 201], 0, 1)), PolicyError::TooManySteps { steps: 201 });
    let too_long = refuse(&settings(&[MAX_TTL_MS], 2_000, 1));
    assert!(matches!(too_long, PolicyError::TooLong { index: 1, .. }), "{too_long}");
    assert!(Policy::new("p", &settings(&[MAX_TTL_MS], 0, 1)).is_ok());
    let mut teapot = settings(&[1], 0, 1);
    teapot.permanent_status_codes = [200].into();
    assert_eq!(refuse(&teapot), PolicyError::StatusCode(200));
    assert!(refuse(&settings(&[], 0, 1)).to_string().contains("schedule: is empty"));
}

#[test]
fn the_policies_together_stay_within_the_limit_of_delay_queues() {
    let gold = [("gold".to_owned(), policy(&[7_000, 11_000], 2_000, 100))].into();
    assert_eq!(Policies::new(policy(&[30_000], 2_000, 16), gold).unwrap_err(), TooManyQueues { needed: 216 });
    let named = Policy::new("silver", &settings(&[5_000], 0, 1)).unwrap();
    let silver = [("silver".to_owned(), named)].into();
    let policies = Policies::new(policy(&[30_000], 0, 1), silver).unwrap();
    assert_eq!(policies.get(Some("silver")).name, "silver");
    assert_eq!(policies.get(Some("forgotten")).name, "test", "an unknown name falls back to the default");
    assert_eq!(policies.get(None).name, "test");
    assert!(policies.contains("silver") && !policies.contains("gold"));
    assert_eq!(policies.delays().iter().collect::<Vec<_>>(), [5_000, 30_000]);
    assert_eq!((policies.delays().len(), policies.delays().is_empty()), (2, false));
    assert_eq!(policies.delays().at_least(5_001), Some(30_000));
    assert_eq!(policies.delays().at_least(30_001), None);
    assert_eq!(policies.named().count(), 1);
    assert_eq!(policies.default_policy().schedule_ms().collect::<Vec<_>>(), [30_000]);
}

proptest! {
    #[test]
    fn every_delay_has_a_queue_and_lies_within_the_jitter(
        schedule in prop::collection::vec(1u64..4_000_000, 1..12),
        jitter_bps in 0u32..=10_000,
        slots in 1u32..40,
        made in 0i32..20,
        event in any::<u128>(),
    ) {
        let policy = policy(&schedule, jitter_bps, slots);
        let key = DeliveryKey { event_id: Uuid::from_u128(event), endpoint_id: Uuid::nil() };
        let delay = policy.delay_ms(made, slot_seed(key, made));
        prop_assert!(policy.delays_ms().contains(&delay));
        prop_assert!(policy.delays_ms().len() <= MAX_DELAY_QUEUES);
        let base = schedule[(made.max(1) as usize - 1).min(schedule.len() - 1)] as f64;
        let jitter = f64::from(jitter_bps) / 10_000.0;
        prop_assert!(delay as f64 >= (base * (1.0 - jitter)).round().max(1.0) - 1.0);
        prop_assert!(delay as f64 <= (base * (1.0 + jitter)).round() + 1.0);
    }
}
