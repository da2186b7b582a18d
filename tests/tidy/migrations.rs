//! Migrations expand: the version before works beside the schema of this one. What is contracted says why it may be.

use std::fs;
use std::path::Path;

/// The last migration of 0.1.0, before which there was nothing to go back to.
const FIRST_RELEASE: u32 = 18;

/// What a process of the version before could trip over, or wait for.
const CONTRACTS: [&str; 6] =
    ["drop table", "drop column", "rename column", "rename to", "set not null", "set data type"];

/// File and statement, where the version before does not use what is taken away.
const ALLOWED: [(&str, &str); 0] = [];

/// The text without comments, in small letters, with single spaces. What a function drops when it is called, as it does days
/// that have ended, begins with a quote.
fn statements(text: &str) -> String {
    let code = text.lines().map(|line| line.split("--").next().unwrap_or(""));
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").to_lowercase().replace("'drop table", "")
}

fn contracted(text: &str) -> Vec<&'static str> {
    let text = statements(text);
    CONTRACTS.into_iter().filter(|words| text.contains(words)).collect()
}

#[test]
fn migrations_since_the_first_release_only_expand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let number: u32 = name.split('_').next().unwrap().parse().unwrap();
        let found = contracted(&fs::read_to_string(entry.path()).unwrap());
        let wrong = found.iter().find(|words| number > FIRST_RELEASE && !ALLOWED.contains(&(name.as_str(), words)));
        assert_eq!(wrong, None, "{name}: see CONTRIBUTING.md, expand and contract");
    }
}

#[test]
fn a_migration_that_contracts_is_found() {
    let text = "-- drop table a\nalter table a\n  drop   COLUMN b;\nexecute format('drop table %I', day);";
    assert_eq!(contracted(text), ["drop column"]);
}
