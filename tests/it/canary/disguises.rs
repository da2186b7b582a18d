//! What must not be found, in whatever form it may stand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// In plain, in hexadecimal, and in base64 at each of the three places at which it may begin within something longer.
pub fn disguises(canary: &[u8]) -> Vec<String> {
    let hexadecimal: String = canary.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![String::from_utf8_lossy(canary).into_owned(), hexadecimal.to_uppercase(), hexadecimal];
    for before in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([vec![0; before], canary.to_vec()].concat());
        // The characters that hold bits of the canary alone.
        let (first, last) = ((before * 8).div_ceil(6), (before + canary.len()) * 8 / 6);
        let within = &encoded[first..last];
        all.extend([within.to_owned(), within.replace('+', "-").replace('/', "_")]);
    }
    all
}

/// The disguise in which the canary is found in the text, also where lines were broken.
pub fn found(canary: &str, text: &str) -> Option<String> {
    let joined: String = text.split_whitespace().collect();
    disguises(canary.as_bytes()).into_iter().find(|disguise| text.contains(disguise) || joined.contains(disguise))
}

#[test]
fn a_canary_is_found_in_any_disguise() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    for around in ["", "x", "xy", "xyz"] {
        let text = format!("{around}canary?>~{around}");
        let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        let mut broken = STANDARD.encode(&text);
        broken.insert(5, '\n');
        for said in [text.clone(), hexadecimal, STANDARD.encode(&text), URL_SAFE.encode(&text), broken] {
            assert!(found("canary?>~", &said).is_some(), "{said}");
            assert_eq!(found("canary?>!", &said), None, "{said}");
        }
    }
}
