use proptest::prelude::*;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::*;
use crate::domain::signature::header;

/// Of the specification's own library: `libraries/go/webhook_asymmetric_test.go`.
const PUBLISHED_KEY: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[byte; KEY_BYTES]).unwrap()
}

#[test]
fn the_published_example_signs_as_published() {
    let key = PrivateKey::parse(PUBLISHED_KEY).unwrap();
    let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    let expected = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
    assert_eq!(signed, expected);
    assert_eq!(key.public().to_string(), "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g=");
}

#[test]
fn the_key_of_rfc_8037_has_the_thumbprint_that_is_printed_there() {
    let key = PrivateKey::parse("whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap().public();
    assert_eq!(key.jwk_x(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_signature_holds_for_its_content_and_its_key_only() {
    let signature = key(1).sign("id", 1, b"body");
    let public = key(1).public();
    assert!(public.verifies("id", 1, b"body", &signature));
    assert!(!public.verifies("ie", 1, b"body", &signature) && !public.verifies("id", 2, b"body", &signature));
    assert!(!public.verifies("id", 1, b"bodx", &signature) && !key(2).public().verifies("id", 1, b"body", &signature));
    for nonsense in ["", "v1a,", "v1a,AAAA", "v1a,***", &signature.replace("v1a,", "v1,"), &signature[..40]] {
        assert!(!public.verifies("id", 1, b"body", nonsense), "{nonsense}");
    }
    let both = header(&[key(1), key(2)], "id", 1, b"body");
    assert!(both.split(' ').eq([signature, key(2).sign("id", 1, b"body")]));
}

#[test]
fn malformed_keys_say_what_is_wrong_without_repeating_the_key() {
    assert_eq!(PrivateKey::parse("whsec_AAAA"), Err(KeyPairError::Prefix("whsk_")));
    assert_eq!(PublicKey::parse("whsk_AAAA"), Err(KeyPairError::Prefix("whpk_")));
    assert_eq!(PrivateKey::parse("whsk_*"), Err(KeyPairError::Base64("whsk_")));
    assert_eq!(PrivateKey::parse("whsk_AAAA"), Err(KeyPairError::Length(3)));
    assert_eq!(PublicKey::from_bytes(&[0; 33]), Err(KeyPairError::Length(33)));
    // The neutral element and a y that is on no point of the curve.
    let neutral = [&[1][..], &[0; 31]].concat();
    let no_point = [&[2][..], &[0; 31]].concat();
    assert_eq!(PublicKey::from_bytes(&neutral), Err(KeyPairError::Weak));
    assert_eq!(PublicKey::from_bytes(&no_point), Err(KeyPairError::Weak));
    assert_eq!(format!("{:?}", key(1)), "PrivateKey([redacted])");
    assert_eq!(PrivateKey::parse(&key(1).reveal()), Ok(key(1)));
    assert_eq!(PublicKey::parse(&key(1).public().to_string()), Ok(key(1).public()));
}

#[test]
fn a_private_key_may_be_followed_by_its_public_key_and_by_no_other() {
    let pair = |public: PrivateKey| [key(1).as_bytes(), public.public().0.as_bytes()].concat();
    assert_eq!(PrivateKey::from_bytes(&pair(key(1))), Ok(key(1)));
    assert_eq!(PrivateKey::from_bytes(&pair(key(2))), Err(KeyPairError::Halves));
}

// ring has an implementation of its own.
proptest! {
    #[test]
    fn another_implementation_signs_the_same_and_verifies_ours(seed: [u8; 32], id in "[a-z0-9_-]{1,40}", at: i64, body: Vec<u8>) {
        let ours = PrivateKey::from_bytes(&seed).unwrap();
        let theirs = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = ours.public();
        prop_assert_eq!(theirs.public_key().as_ref(), public.0.as_bytes());
        let content = [format!("{id}.{at}.").as_bytes(), &body].concat();
        let signature = ours.sign(&id, at, &body);
        let bytes = STANDARD.decode(signature.strip_prefix(SCHEME).unwrap()).unwrap();
        let same = theirs.sign(&content);
        prop_assert_eq!(same.as_ref(), &bytes[..]);
        prop_assert!(UnparsedPublicKey::new(&ED25519, theirs.public_key()).verify(&content, &bytes).is_ok());
        prop_assert!(public.verifies(&id, at, &body, &signature));
    }

    #[test]
    fn one_changed_bit_of_a_signature_or_a_body_is_refused(body in prop::collection::vec(any::<u8>(), 1..64), place: prop::sample::Index, bit in 0..8_u32) {
        let signature = key(1).sign("id", 1, &body);
        let mut bytes = STANDARD.decode(signature.strip_prefix(SCHEME).unwrap()).unwrap();
        bytes[place.index(64)] ^= 1 << bit;
        let changed = format!("{SCHEME}{}", STANDARD.encode(&bytes));
        prop_assert!(!key(1).public().verifies("id", 1, &body, &changed));
        let mut other = body.clone();
        other[place.index(body.len())] ^= 1 << bit;
        prop_assert!(!key(1).public().verifies("id", 1, &other, &signature));
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "(whsk_|whpk_)?[A-Za-z0-9+/=*]{0,100}") {
        let _ = (PrivateKey::parse(&text), PublicKey::parse(&text));
    }
}
