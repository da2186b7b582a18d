//! A command line as anybody may type it: one argument a line.
#![cfg_attr(fuzzing, no_main)]

use clap::Parser;
use posthaste::cli::Cli;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let arguments = std::iter::once("posthaste").chain(text.lines());
    match Cli::try_parse_from(arguments) {
        // It can be printed: a log may well hold it.
        Ok(cli) => assert!(!format!("{cli:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
