//! Keys of any kind, and `v1a` signatures, as anybody may write them -> a key, a verified webhook, or the reason why not.
//!
//! The input: a line of keys, a line each for id, timestamp and signatures, then the body.
#![cfg_attr(fuzzing, no_main)]

use std::time::{Duration, UNIX_EPOCH};

use posthaste::domain::key_pair::{PrivateKey, PublicKey};
use posthaste::domain::signature::{Sign, header};
use posthaste::receiver::key::{Key, KeyError};
use posthaste::receiver::verify::{Headers, Verifier};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

/// When the example of the specification's library was signed, and with what.
const NOW: u64 = 1_614_265_330;
const OURS: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";

pub fn check(input: &[u8]) {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (keys, id, timestamp, signatures) = (line(), line(), line(), line());
    let body = lines.next().unwrap_or_default();
    keys.split(' ').for_each(check_key);
    if let Err(error) = keys.parse::<Verifier>() {
        assert!(!error.to_string().is_empty());
    }

    let ours = PrivateKey::parse(OURS).expect("a key");
    let verifier = Verifier::with_keys(vec![Key::Public(ours.public())]);
    let verify = |signatures: &str| {
        let headers = Headers { id: Some(&id), timestamp: Some(&timestamp), signature: Some(signatures) };
        verifier.verify(headers, body, UNIX_EPOCH + Duration::from_secs(NOW)).map(|verified| verified.timestamp)
    };
    let claimed: Option<i64> = timestamp.parse().ok().filter(|claimed: &i64| claimed.abs_diff(NOW as i64) <= 300);
    let right = claimed.map(|claimed| header(std::slice::from_ref(&ours), &id, claimed, body));
    match verify(&signatures) {
        // Nobody guesses a signature, nor writes the right one in another way.
        Ok(verified) => {
            let right = right.clone().filter(|_| claimed == Some(verified)).expect("within the tolerance");
            assert!(signatures.split(' ').any(|part| part == right), "{signatures} is not {right}");
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.label().is_empty()),
    }
    if let Some(right) = right.filter(|_| !id.is_empty()) {
        assert_eq!(verify(&right).ok(), claimed, "what is signed rightly is accepted");
        assert_eq!(verify(&format!("v1,x v1a,*** {right} v1a,")).ok(), claimed, "whatever stands around it");
    }
}

fn check_key(text: &str) {
    match PrivateKey::parse(text) {
        Ok(key) => {
            let public = key.public();
            assert_eq!(PrivateKey::parse(&key.reveal()).as_ref(), Ok(&key));
            assert!(public.verifies("id", 1, b"body", &key.sign("id", 1, b"body")));
            assert!(!public.verifies("id", 2, b"body", &key.sign("id", 1, b"body")));
            check_public(&public);
            assert_eq!(Key::parse(text).err(), Some(KeyError::Private), "no receiver may have it");
        }
        Err(error) => assert!(error.to_string().starts_with("key: ") && error.to_string().len() < 200),
    }
    match PublicKey::parse(text) {
        Ok(key) => check_public(&key),
        Err(error) => assert!(error.to_string().starts_with("key: ") && error.to_string().len() < 200),
    }
}

fn check_public(key: &PublicKey) {
    assert_eq!(PublicKey::parse(&key.to_string()).as_ref(), Ok(key));
    // 32 bytes each, without padding.
    assert_eq!((key.jwk_x().len(), key.thumbprint().len()), (43, 43));
}
