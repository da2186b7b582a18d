//! Sizes, and what must not be written, or not without a reason.

use super::mask::item_end;
use super::source::{Source, Tree, Violation, line_at, name_at, words};

const MAIN_LINES: usize = 40;
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;

/// Panics that cannot happen: file, the text of the line, and why.
const CANNOT_PANIC: [(&str, &str, &str); 3] = [
    (
        "src/config/layers.rs",
        "parse(REFERENCE).expect(",
        "the reference file is part of the program, and a test parses it",
    ),
    ("src/config/layers.rs", "path.split_first().expect(", "splitting a text always gives one part at least"),
    ("src/domain/signature.rs", "new_from_slice(&self.0).expect(", "HMAC takes a key of any length"),
];

pub fn short_files(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &tree.rust {
        let lines = source.raw.lines().count();
        let most = if source.path == "src/main.rs" { MAIN_LINES } else { FILE_LINES };
        if lines > most {
            violations.push(source.violation(source.raw.len(), format!("{lines} lines; at most {most}")));
        }
    }
    violations
}

pub fn short_functions(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &tree.rust {
        for (name, start, end) in functions(&source.code) {
            let lines = line_at(&source.code, end) - line_at(&source.code, start) + 1;
            if lines > FUNCTION_LINES {
                let rule = format!("`{name}` has {lines} lines; at most {FUNCTION_LINES}");
                violations.push(source.violation(start, rule));
            }
        }
    }
    violations
}

/// Name, start and end of every function with a body.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name = name_at(code[at + 2..].trim_start());
        let end = item_end(code, at);
        if !name.is_empty() && code[at..end].ends_with('}') {
            found.push((name, at, end - 1));
        }
    }
    found
}

pub fn no_careless_panic(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.src() {
        for call in [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("] {
            let careless = words(&source.production, call).filter(|at| !is_reasoned(source, *at));
            violations.extend(
                careless.map(|at| {
                    source.violation(at, format!("`{call}` without a comment that says why it cannot panic"))
                }),
            );
        }
    }
    violations
}

fn is_reasoned(source: &Source, offset: usize) -> bool {
    let allowed = |(file, text, _): &(&str, &str, &str)| *file == source.path && source.line(offset).contains(text);
    source.has_comment(offset) || CANNOT_PANIC.iter().any(allowed)
}

/// An entry that nothing needs any more would excuse the next careless panic.
pub fn allowed_panics_exist(tree: &Tree) -> Vec<String> {
    let missing = |(file, text, _): &&(&str, &str, &str)| {
        !tree.src().any(|source| source.path == *file && source.raw.contains(text))
    };
    CANNOT_PANIC.iter().filter(missing).map(|(file, text, _)| format!("{file}: {text}")).collect()
}

/// What the service consists of.
const SERVICE: [&str; 6] =
    ["src/broker/", "src/cmd/serve.rs", "src/relay/", "src/store/", "src/telemetry/", "src/worker/"];

/// Tasks whose panic is noticed otherwise: file, the text of the line, and who notices.
const NOTICED: [(&str, &str, &str); 6] = [
    ("src/cmd/serve.rs", "tokio::spawn(after(", "the drain has a time-out of its own, a little longer"),
    ("src/relay/sender.rs", "self.calls.spawn(", "the sender, which panics too"),
    ("src/store/locks.rs", "tokio::spawn(beat(", "the server, which ends a silent session"),
    ("src/telemetry/lines.rs", "(\"log\".into()).spawn(", "nobody: the work goes on without a log"),
    ("src/telemetry/server.rs", "tokio::spawn(serve(", "whoever asks /healthz and /readyz"),
    ("src/worker/consume.rs", "consuming.spawn(consume(", "the session, which consumes again on a new channel"),
];

/// Without one of its tasks a process looks healthy and does nothing.
pub fn tasks_are_watched(tree: &Tree) -> Vec<Violation> {
    let watched = ["tasks.spawn(", "shutdown.spawn(", "running.spawn(", ".watched("];
    let is_watched = |line: &str| watched.iter().any(|by| line.contains(by));
    let is_noticed =
        |path: &str, line: &str| NOTICED.iter().any(|(file, text, _)| *file == path && line.contains(text));
    let rule = "nobody would notice that this task has panicked: supervise or watch it";
    let mut violations = Vec::new();
    for source in tree.src().filter(|source| SERVICE.iter().any(|part| source.is_in(part))) {
        let unwatched = words(&source.production, "spawn(").filter(|at| {
            let line = source.line(*at);
            !is_watched(line) && !is_noticed(&source.path, line)
        });
        violations.extend(unwatched.map(|at| source.violation(at, rule)));
    }
    violations
}

/// An entry that nothing needs any more would excuse the next task.
pub fn noticed_tasks_exist(tree: &Tree) -> Vec<String> {
    let missing = |(file, text, _): &&(&str, &str, &str)| {
        !tree.src().any(|source| source.path == *file && source.raw.contains(text))
    };
    NOTICED.iter().filter(missing).map(|(file, text, _)| format!("{file}: {text}")).collect()
}

pub fn nothing_unfinished(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &tree.rust {
        for name in ["todo!", "unimplemented!", "dbg!"] {
            let used = words(&source.code, name);
            violations.extend(used.map(|at| source.violation(at, format!("`{name}` is unfinished work"))));
        }
        for at in source.code.match_indices("#[ignore").map(|(at, _)| at) {
            violations.push(source.violation(at, "an ignored test tests nothing"));
        }
    }
    violations
}

/// A join that compares keys with plain equality may become one over a whole day: `days::same_key` and `days::same_event` are
/// looked up.
pub fn keys_are_looked_up(tree: &Tree) -> Vec<Violation> {
    let rule = "a join by plain equality may read the whole day: use `same_key!` or `same_event!`";
    let joins = ["(d.event_id, d.endpoint_id) = (", "events} e on e.id =", "posthaste.events e on e.id ="];
    let mut violations = Vec::new();
    for source in tree.src().filter(|source| source.is_in("src/store/")) {
        let found = joins.iter().flat_map(|join| source.raw.match_indices(join));
        violations.extend(found.map(|(at, _)| source.violation(at, rule)));
    }
    violations
}

/// Tests wait on signals. Where there is none to wait on, a comment says which one is missing.
pub fn no_blind_sleep(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.rust.iter().filter(|source| source.is_in("tests/")) {
        let blind = words(&source.code, "sleep(").filter(|at| !source.has_comment(*at));
        let rule = "`sleep(` without a comment that says which signal cannot be waited on";
        violations.extend(blind.map(|at| source.violation(at, rule)));
    }
    violations
}
