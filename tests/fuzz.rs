//! The checks of the fuzz targets, on every input that was kept and on small changes of them. `scripts/fuzz` runs the same
//! checks for as long as one likes, led by coverage; what it finds is kept under tests/fuzz/corpus, with a telling name.
#![cfg(feature = "service")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[path = "fuzz/targets/arguments.rs"]
mod arguments;
#[path = "fuzz/targets/behaviour.rs"]
mod behaviour;
#[path = "fuzz/targets/configuration.rs"]
mod configuration;
#[path = "fuzz/targets/event_type.rs"]
mod event_type;
#[path = "fuzz/targets/keys.rs"]
mod keys;
#[path = "fuzz/targets/retry_after.rs"]
mod retry_after;
#[path = "fuzz/targets/schedule.rs"]
mod schedule;
#[path = "fuzz/targets/signature.rs"]
mod signature;
#[path = "fuzz/targets/url.rs"]
mod url;
#[path = "fuzz/targets/wire.rs"]
mod wire;

/// Name, check, and how many changed inputs to try: a thousandth of a second each at most.
type Target = (&'static str, fn(&[u8]), u32);

const TARGETS: [Target; 10] = [
    ("arguments", arguments::check, 300),
    ("behaviour", behaviour::check, 2_000),
    ("configuration", configuration::check, 300),
    ("event_type", event_type::check, 2_000),
    ("keys", keys::check, 300),
    ("retry_after", retry_after::check, 2_000),
    ("schedule", schedule::check, 1_000),
    ("signature", signature::check, 2_000),
    ("url", url::check, 2_000),
    ("wire", wire::check, 2_000),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

fn names(of: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(of).unwrap_or_else(|error| panic!("{}: {error}", of.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every input that was kept for a target, with its name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    names(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn every_kept_input_passes_its_check() {
    for (target, check, _) in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has nothing to begin with");
        for (name, input) in inputs {
            println!("{target}/{name}");
            check(&input);
        }
    }
}

#[test]
fn small_changes_of_kept_inputs_pass_too() {
    for (target, check, cases) in TARGETS {
        let inputs: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
        let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
        let changed = (prop::sample::select(inputs), prop::collection::vec(edit, 0..6));
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let result = runner.run(&changed, |(input, edits)| {
            check(&edited(input, &edits));
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{target}: {failure}"));
    }
}

/// Replaces, inserts or cuts at some places.
fn edited(mut input: Vec<u8>, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (place, byte, kind) in edits {
        let at = place.index(input.len() + 1);
        match kind {
            0 => input.insert(at, *byte),
            1 => input.truncate(at),
            _ if at < input.len() => input[at] = *byte,
            _ => {}
        }
    }
    input
}

#[test]
fn the_list_of_targets_is_the_same_everywhere() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
    let files = names(&folder("targets")).into_iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(listed, files, "files of targets");
    assert_eq!(listed, names(&folder("corpus")), "folders of kept inputs");
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    let programs = manifest.split("[[bin]]").skip(1).filter_map(|program| program.split('"').nth(1));
    assert_eq!(listed, programs.map(str::to_owned).collect(), "programs of tests/fuzz/Cargo.toml");
}
