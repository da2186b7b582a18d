//! Each dependency is named where it may be used. `cargo machete` looks closer, where it is installed.

use super::source::{Tree, words};

/// Those that nothing names.
pub fn unnamed(manifest: &str, tree: &Tree) -> Vec<String> {
    let mut section = "";
    let mut unnamed = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((dependency, _)) = line.split_once(" = ") else { continue };
        let name = dependency.replace('-', "_");
        let is_named = match section {
            "[dependencies]" => tree.src().any(|source| names(&source.production, &name)),
            "[dev-dependencies]" => tree.rust.iter().any(|source| names(&source.code, &name)),
            _ => continue,
        };
        if !is_named {
            unnamed.push(dependency.to_owned());
        }
    }
    unnamed
}

/// As in `name::something`, and not as a part of another path.
fn names(code: &str, name: &str) -> bool {
    words(code, name).any(|at| code[at + name.len()..].starts_with("::") && !code[..at].ends_with("::"))
}
