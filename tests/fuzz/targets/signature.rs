//! The three headers of a webhook as anybody may send them -> verified, or the reason why not.
//!
//! The input: a line each for id, timestamp and signatures, then the body.
#![cfg_attr(fuzzing, no_main)]

use std::time::{Duration, UNIX_EPOCH};

use posthaste::domain::signature::{self, Secret};
use posthaste::receiver::verify::{Headers, Verifier};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

const NOW: u64 = 1_700_000_000;

pub fn check(input: &[u8]) {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (id, timestamp, signatures) = (line(), line(), line());
    let body = lines.next().unwrap_or_default();
    let secret = parsed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let verifier = Verifier::new(vec![secret.clone()]);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let verify = |signatures: &str| {
        let headers = Headers { id: Some(&id), timestamp: Some(&timestamp), signature: Some(signatures) };
        verifier.verify(headers, body, now).map(|verified| verified.timestamp)
    };
    let claimed: Option<i64> = timestamp.parse().ok().filter(|claimed: &i64| claimed.abs_diff(NOW as i64) <= 300);
    let right = claimed.map(|claimed| signature::header(std::slice::from_ref(&secret), &id, claimed, body));

    match verify(&signatures) {
        // Nobody guesses a signature: what is accepted holds the right one, base64 of the same bytes.
        Ok(verified) => {
            let right = right.clone().filter(|_| claimed == Some(verified)).expect("within the tolerance");
            assert!(signatures.split(' ').any(|part| part == right), "{signatures} is not {right}");
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.label().is_empty()),
    }
    if let Some(right) = right.filter(|_| !id.is_empty()) {
        assert_eq!(verify(&right).ok(), claimed, "what is signed rightly is accepted");
        let among_others = format!("v1a,x  v2,y v1,*** {right} v1,");
        assert_eq!(verify(&among_others).ok(), claimed, "whatever stands around it");
    }
    if let Ok(secret) = Secret::parse(&signatures) {
        assert_eq!(parsed(&secret.reveal()), secret);
    }
}

#[track_caller]
fn parsed(text: &str) -> Secret {
    Secret::parse(text).expect("a secret")
}
