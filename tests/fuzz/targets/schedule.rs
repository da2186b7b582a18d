//! The numbers of a retry policy -> delays that all have a queue, or a refusal.
//!
//! The input is a text of whole numbers: jitter, slots, attempts made, the seed of the slot, a code that is final, and the
//! delays of the schedule in milliseconds.
#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use posthaste::domain::backoff::{MAX_DELAY_QUEUES, MAX_JITTER_BPS, MAX_TTL_MS, Policies, Policy, Settings};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap_or_default();
    let (jitter, slots, made, seed, code) = (next() as u32, next() as u32, next() as i32, next(), next() as u16);
    let schedule: Vec<Duration> = numbers.map(Duration::from_millis).collect();
    let settings = Settings {
        schedule: schedule.clone(),
        jitter_bps: jitter,
        slots,
        budget: 0,
        permanent_status_codes: [code].into(),
        max_retry_after: Duration::from_secs(86_400),
        max_pause: Duration::from_secs(3_600),
    };
    let policy = match Policy::new("fuzzed", &settings) {
        Ok(policy) => policy,
        Err(error) => return assert!(error.to_string().contains(": "), "{error}"),
    };
    assert!((300..=599).contains(&code) && slots > 0);
    assert_eq!(policy.max_attempts() as usize, 1 + schedule.len());
    let queues = policy.delays_ms();
    assert!((1..=MAX_DELAY_QUEUES).contains(&queues.len()));
    assert!(queues.iter().all(|ms| (1..=MAX_TTL_MS).contains(ms)), "{queues:?}");

    let delay = policy.delay_ms(made, seed);
    assert!(queues.contains(&delay), "a delay without a queue");
    let tier = (made.max(1) as usize - 1).min(schedule.len() - 1);
    let base = schedule[tier].as_secs_f64() * 1_000.0;
    let reach = base * f64::from(jitter.min(MAX_JITTER_BPS)) / f64::from(MAX_JITTER_BPS) + 1.0;
    assert!((delay as f64 - base).abs() <= reach, "{delay} is further than {reach} from {base}");

    let longest: u64 = schedule.iter().map(|delay| delay.as_millis() as u64).sum();
    let worst = policy.worst_case(policy.budget, Duration::from_secs(600));
    assert!(worst >= Duration::from_secs(600) * policy.max_attempts() as u32, "{worst:?} for {longest} ms of waiting");
    let policies = Policies::new(policy, [].into()).expect("one policy has no more queues than allowed");
    assert_eq!(policies.delays().at_least(delay), Some(delay));
    assert_eq!(policies.delays().longest(), queues.last().copied());
}
