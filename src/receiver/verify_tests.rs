use proptest::prelude::*;
use standardwebhooks::Webhook;

use super::*;
use crate::domain::key_pair::PrivateKey;
use crate::domain::signature::{self, Sign};

const NOW: i64 = 1_700_000_000;

fn secret(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 32]).unwrap()
}

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds as u64)
}

fn verify(signature: &str, timestamp: &str, now: i64) -> Result<(), VerifyError> {
    let headers = Headers { id: Some("evt_1"), timestamp: Some(timestamp), signature: Some(signature) };
    Verifier::new(vec![secret(1), secret(2)]).verify(headers, b"body", at(now)).map(drop)
}

#[test]
fn any_of_our_secrets_may_have_made_any_of_the_signatures() {
    for signing in [vec![secret(1)], vec![secret(2)], vec![secret(9), secret(2)]] {
        let signature = signature::header(&signing, "evt_1", NOW, b"body");
        assert_eq!(verify(&signature, &NOW.to_string(), NOW), Ok(()));
    }
    let signature = signature::header(&[secret(9)], "evt_1", NOW, b"body");
    assert_eq!(verify(&signature, &NOW.to_string(), NOW), Err(VerifyError::Mismatch));
}

#[test]
fn signatures_of_other_schemes_and_nonsense_are_passed_over() {
    let good = signature::header(&[secret(1)], "evt_1", NOW, b"body");
    assert_eq!(verify(&format!("v1a,AAAA v2 , v1,??? {good}"), &NOW.to_string(), NOW), Ok(()));
    assert_eq!(verify("v1a,AAAA v2,BBBB", &NOW.to_string(), NOW), Err(VerifyError::NoSignature));
    let late = format!("{}{good}", "v1,AAAA ".repeat(MAX_SIGNATURES));
    assert_eq!(verify(&late, &NOW.to_string(), NOW), Err(VerifyError::Mismatch), "a long header costs little");
}

fn private_key(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[byte; 32]).unwrap()
}

#[test]
fn either_scheme_is_enough_where_there_is_a_key_for_it() {
    let (v1, v1a) = (secret(1).sign("evt_1", NOW, b"body"), private_key(4).sign("evt_1", NOW, b"body"));
    let both = format!("{v1} {v1a}");
    let headers = |signature| Headers { id: Some("evt_1"), timestamp: Some("1700000000"), signature: Some(signature) };
    let check = |verifier: &Verifier, signature| verifier.verify(headers(signature), b"body", at(NOW)).map(drop);
    let asymmetric =
        Verifier::with_keys(vec![]).and_public_keys(vec![private_key(3).public(), private_key(4).public()]);
    assert_eq!((check(&asymmetric, &v1a), check(&asymmetric, &both)), (Ok(()), Ok(())));
    assert_eq!(check(&asymmetric, &v1), Err(VerifyError::NoSignature), "the shared secret alone does not count");
    let other = private_key(5).sign("evt_1", NOW, b"body");
    assert_eq!(check(&asymmetric, &other), Err(VerifyError::Mismatch));
    let symmetric = Verifier::new(vec![secret(1)]);
    assert_eq!((check(&symmetric, &both), check(&symmetric, &v1a)), (Ok(()), Err(VerifyError::NoSignature)));
    let either = symmetric.and_public_keys(vec![private_key(4).public()]);
    assert_eq!((check(&either, &v1), check(&either, &v1a)), (Ok(()), Ok(())));
    let crossed = format!("v1,{} v1a,{}", &v1a[4..], &v1[3..]);
    assert_eq!(check(&either, &crossed), Err(VerifyError::Mismatch), "a signature counts for its own scheme only");
}

#[test]
fn a_verifier_is_read_from_the_texts_of_its_keys() {
    let texts = format!("{} {},\n{}", secret(1).reveal(), private_key(4).public(), secret(2).reveal());
    let verifier: Verifier = texts.parse().unwrap();
    let signature = private_key(4).sign("evt_1", NOW, b"");
    let headers = Headers { id: Some("evt_1"), timestamp: Some("1700000000"), signature: Some(&signature) };
    assert!(verifier.verify(headers, b"", at(NOW)).is_ok());
    let refusal = |text: &str| text.parse::<Verifier>().unwrap_err().to_string();
    assert!(refusal(" ").contains("no key"));
    assert!(refusal(&private_key(4).reveal()).contains("the sender's"), "nobody else should have it");
    assert!(refusal("whsec_***").contains("base64") && refusal("whpk_AAAA").contains("3 bytes"));
    assert!(!format!("{verifier:?}").contains(&secret(1).reveal()[6..]));
}

#[test]
fn each_error_says_what_to_answer_and_whether_it_is_the_request_the_clock_or_the_key() {
    for (error, kind, status) in [
        (VerifyError::MissingHeader(HEADER_ID), Kind::Malformed, 400),
        (VerifyError::Timestamp, Kind::Malformed, 400),
        (VerifyError::NoSignature, Kind::Malformed, 400),
        (VerifyError::TooOld(301), Kind::Stale, 401),
        (VerifyError::TooNew(301), Kind::Stale, 401),
        (VerifyError::Mismatch, Kind::Forged, 401),
    ] {
        assert_eq!((error.kind(), error.status()), (kind, status), "{error}");
    }
}

#[test]
fn a_timestamp_must_be_within_the_tolerance_either_way() {
    let signature = signature::header(&[secret(1)], "evt_1", NOW, b"body");
    for (now, expected) in [
        (NOW + 300, Ok(())),
        (NOW - 300, Ok(())),
        (NOW + 301, Err(VerifyError::TooOld(301))),
        (NOW - 301, Err(VerifyError::TooNew(301))),
    ] {
        assert_eq!(verify(&signature, &NOW.to_string(), now), expected);
    }
    let headers = Headers { id: Some("evt_1"), timestamp: Some("1700000000"), signature: Some(&signature) };
    let strict = Verifier::new(vec![secret(1)]).with_tolerance(Duration::from_secs(5));
    assert_eq!(strict.verify(headers, b"body", at(NOW + 6)), Err(VerifyError::TooOld(6)));
    assert_eq!(strict.verify(headers, b"body", at(NOW + 5)), Ok(Verified { id: "evt_1", timestamp: NOW }));
}

#[test]
fn each_malformed_header_is_named() {
    let read = |missing: &str| {
        let all = [("webhook-id", "a"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,AAAA")];
        let headers = Headers::read(|name| all.iter().find(|(n, _)| *n == name && *n != missing).map(|(_, v)| *v));
        Verifier::new(vec![secret(1)]).verify(headers, b"", at(NOW)).unwrap_err()
    };
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert_eq!(read(name), VerifyError::MissingHeader(name));
        assert!(read(name).to_string().contains(name));
    }
    for timestamp in ["now", "1.5", "-", "99999999999999999999"] {
        assert_eq!(verify("v1,AAAA", timestamp, NOW), Err(VerifyError::Timestamp));
    }
    assert_eq!(verify("v1,AAAA", "-9223372036854775808", NOW).unwrap_err().label(), "too_old", "no overflow");
    assert_eq!(verify("", "1700000000", NOW), Err(VerifyError::MissingHeader("webhook-signature")));
}

fn reference(secret: &Secret) -> Webhook {
    Webhook::new(&secret.reveal()).unwrap()
}

/// The reference implementation reads the clock itself.
fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

// The reference takes only bodies that are UTF-8; the signature itself is over any bytes.
proptest! {
    #[test]
    fn what_we_sign_the_reference_verifies(
        body: String,
        key in prop::collection::vec(any::<u8>(), 24..=64),
        id in "[a-z0-9_-]{1,40}",
    ) {
        let (ours, now) = (Secret::from_bytes(key).unwrap(), clock());
        let signature = signature::header(&[secret(3), ours.clone()], &id, now, body.as_bytes());
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        prop_assert!(reference(&ours).verify(body.as_bytes(), &headers).is_ok());
        prop_assert!(reference(&ours).verify(&[body.as_bytes(), b" "].concat(), &headers).is_err());
    }

    #[test]
    fn what_the_reference_signs_we_verify(body: String, id in "[a-z0-9_-]{1,40}") {
        let signature = reference(&secret(1)).sign(&id, NOW, body.as_bytes()).unwrap();
        let headers = Headers { id: Some(&id), timestamp: Some("1700000000"), signature: Some(&signature) };
        let verifier = Verifier::new(vec![secret(2), secret(1)]);
        prop_assert_eq!(verifier.verify(headers, body.as_bytes(), at(NOW)), Ok(Verified { id: &id, timestamp: NOW }));
    }

    #[test]
    fn one_changed_bit_of_any_body_is_refused(body: Vec<u8>, position: prop::sample::Index, bit in 0..8_u32) {
        let signature = signature::header(&[secret(1)], "evt_1", NOW, &body);
        let headers = Headers { id: Some("evt_1"), timestamp: Some("1700000000"), signature: Some(&signature) };
        let verifier = Verifier::new(vec![secret(1)]);
        prop_assert!(verifier.verify(headers, &body, at(NOW)).is_ok());
        let mut changed = [body.as_slice(), b"\n"].concat();
        let position = position.index(changed.len());
        changed[position] ^= 1_u8 << bit;
        changed.truncate(body.len().max(position + 1));
        prop_assert_eq!(verifier.verify(headers, &changed, at(NOW)), Err(VerifyError::Mismatch));
    }
}
