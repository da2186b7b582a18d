//! The header `Retry-After` as any server may send it -> a wait, or nothing.
#![cfg_attr(fuzzing, no_main)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste::domain::retry_after::parse;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // The epoch, the last second that some clocks know, and one in between.
    let clocks = [0, 784_111_777, i32::MAX as u64].map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let waits = clocks.map(|now| parse(&text, now));
    assert!(waits.iter().all(|wait| wait.is_some() == waits[0].is_some()), "the clock decides nothing about the form");
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = digits.parse().unwrap_or(u64::MAX);
        assert_eq!(waits, [Some(Duration::from_secs(seconds)); 3]);
    } else if waits[0].is_some() {
        assert_date(waits, clocks);
    }
}

/// One moment, seen from three clocks.
fn assert_date(waits: [Option<Duration>; 3], clocks: [SystemTime; 3]) {
    let moment = clocks[0] + waits[0].expect("a wait");
    for (wait, clock) in waits.into_iter().zip(clocks) {
        assert_eq!(wait, Some(moment.duration_since(clock).unwrap_or_default()));
    }
}
