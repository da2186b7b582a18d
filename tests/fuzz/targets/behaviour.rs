//! How the test receiver is told to behave, by anybody who can reach it.
#![cfg_attr(fuzzing, no_main)]

use posthaste::receiver::behaviour::Behaviour;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    match String::from_utf8_lossy(input).parse::<Behaviour>() {
        Ok(behaviour) => {
            let written = behaviour.to_string();
            assert!(!written.contains(['\r', '\n']), "a header may hold it: {written:?}");
            assert_eq!(written.parse().as_ref(), Ok(&behaviour), "{written}");
        }
        Err(error) => assert!(error.to_string().starts_with("behaviour: ")),
    }
}
