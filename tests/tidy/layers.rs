//! Imports go down only, and each outside library has one home.

use super::mask::item_end;
use super::source::{Source, Tree, Violation, name_at, words};

/// What each top-level module may import. Adapters (store, broker, http) take plain arguments and know neither the
/// configuration nor each other; whoever receives webhooks needs the domain only.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("tls", &[]),
    ("config", &["domain", "tls"]),
    ("telemetry", &["domain"]),
    ("lifecycle", &["domain"]),
    ("supervise", &[]),
    ("reconnect", &["domain"]),
    ("store", &["domain", "telemetry", "lifecycle", "tls"]),
    ("broker", &["domain", "telemetry", "lifecycle", "reconnect", "tls"]),
    ("http", &["domain", "telemetry", "lifecycle"]),
    ("relay", &["domain", "telemetry", "lifecycle", "supervise", "reconnect", "store", "broker", "http"]),
    ("worker", &["domain", "telemetry", "lifecycle", "supervise", "reconnect", "store", "broker", "http"]),
    ("requeue", &["domain", "telemetry", "store", "broker", "relay"]),
    ("receiver", &["domain"]),
    ("cli", &["domain", "config"]),
    (
        "cmd",
        &[
            "domain",
            "config",
            "telemetry",
            "lifecycle",
            "supervise",
            "reconnect",
            "store",
            "broker",
            "http",
            "relay",
            "requeue",
            "worker",
            "receiver",
            "cli",
        ],
    ),
];

/// The only places that may name the library. The inbox is in the database of those who receive.
const HOMES: [(&str, &[&str]); 5] = [
    ("sqlx", &["src/store", "src/receiver/inbox"]),
    ("sqlx_macros", &["src/store"]),
    ("lapin", &["src/broker"]),
    ("hyper_util::client", &["src/http"]),
    ("tokio_rustls", &["src/http"]),
];

/// Time, chance and the outside world come into the domain as arguments.
const IMPURE: [&str; 11] = [
    "tokio",
    "sqlx",
    "lapin",
    "hyper",
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "rand::",
    "std::env",
    "std::fs",
    "std::thread",
];

const VAGUE_NAMES: [&str; 9] = ["util", "utils", "common", "models", "errors", "types", "helpers", "helper", "misc"];

pub fn import_direction(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.src() {
        let Some(own) = source.module.first() else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == own) else {
            let rule = format!("`{own}` has no place in the order of imports: give it one in tests/tidy/layers.rs");
            violations.push(source.violation(0, rule));
            continue;
        };
        for (offset, import) in imports(source) {
            let is_module = MAY_IMPORT.iter().any(|(name, _)| *name == import);
            if is_module && import != *own && !allowed.contains(&import.as_str()) {
                violations.push(source.violation(offset, format!("`{own}` must not import `{import}`")));
            }
        }
    }
    violations
}

/// Every path that starts at the crate's root, by `crate::` or by enough `super::`, with the module that it enters.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found: Vec<(usize, String)> = Vec::new();
    for at in words(code, "crate::") {
        found.extend(heads(&code[at + 7..]).into_iter().map(|head| (at, head)));
    }
    for at in words(code, "super::") {
        // Of a chain, only its first link is looked at.
        if code[..at].ends_with("super::") {
            continue;
        }
        let rest = code[at..].trim_start_matches("super::");
        let steps = (code.len() - at - rest.len()) / "super::".len();
        if steps >= source.module.len() + inline_depth(code, at) {
            found.extend(heads(rest).into_iter().map(|head| (at, head)));
        }
    }
    found
}

/// How many modules with a body in this file the offset is inside of.
fn inline_depth(code: &str, offset: usize) -> usize {
    let around = |at: &usize| {
        let end = item_end(code, *at);
        *at < offset && offset < end && code[*at..end].ends_with('}')
    };
    words(code, "mod").filter(around).count()
}

/// The first name of a path, or of each path in `{a::b, c}`.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![name_at(path).to_owned()] };
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                found.push(name_at(&group[at..]).to_owned());
                begins = false;
            }
            _ => {}
        }
    }
    found
}

pub fn libraries_at_home(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.src() {
        for (library, homes) in HOMES {
            if homes.iter().any(|home| source.is_in(home)) {
                continue;
            }
            let named = words(&source.code, library);
            let rule = format!("`{library}` is for {} only", homes.join(", "));
            violations.extend(named.map(|at| source.violation(at, rule.clone())));
        }
    }
    violations
}

pub fn sql_at_home(tree: &Tree) -> Vec<Violation> {
    let statements = ["from posthaste.", "into posthaste.", "update posthaste.", "join posthaste."];
    let mut violations = Vec::new();
    for source in tree.src().filter(|source| !source.is_in("src/store/") && !source.production.is_empty()) {
        for statement in statements {
            let literals = source.raw.match_indices(statement).map(|(at, _)| at);
            let literals = literals.filter(|at| !source.line(*at).contains("//"));
            violations.extend(literals.map(|at| source.violation(at, "SQL is for src/store only")));
        }
    }
    violations
}

pub fn pure_domain(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.src().filter(|source| source.is_in("src/domain")) {
        for name in IMPURE {
            let named = words(&source.production, name);
            violations.extend(named.map(|at| source.violation(at, format!("the domain is pure: no `{name}`"))));
        }
    }
    violations
}

pub fn telling_module_names(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &tree.rust {
        let folders = source.path.trim_end_matches(".rs").split('/');
        if let Some(vague) = folders.into_iter().find(|part| VAGUE_NAMES.contains(part)) {
            violations.push(source.violation(0, format!("a module named `{vague}` says nothing about its purpose")));
        }
        for at in words(&source.code, "mod") {
            let name = name_at(source.code[at + 3..].trim_start());
            if VAGUE_NAMES.contains(&name) {
                let rule = format!("a module named `{name}` says nothing about its purpose");
                violations.push(source.violation(at, rule));
            }
        }
    }
    violations
}
