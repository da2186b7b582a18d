//! The style guide as tests. They read the sources as text, so they also see what the compiler leaves out.
#![cfg(feature = "service")]

#[path = "tidy/alerts.rs"]
mod alerts;
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/deployment.rs"]
mod deployment;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/habits.rs"]
mod habits;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/mask.rs"]
mod mask;
#[path = "tidy/migrations.rs"]
mod migrations;
#[path = "tidy/source.rs"]
mod source;

use clap::CommandFactory;
use posthaste::cli::Cli;
use source::{Tree, Violation};

#[track_caller]
fn assert_holds(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
}

/// The rule finds exactly these places in these made-up files.
#[track_caller]
fn assert_finds(rule: impl Fn(&Tree) -> Vec<Violation>, files: &[(&str, &str)], expected: &[&str]) {
    let found: Vec<String> = rule(&Tree::of(files)).iter().map(ToString::to_string).collect();
    let hits = found.len() == expected.len() && found.iter().zip(expected).all(|(is, begin)| is.starts_with(begin));
    assert!(hits, "expected {expected:?}, found {found:?}");
}

fn commands_exist(tree: &Tree) -> Vec<Violation> {
    docs::commands_exist(tree, &Cli::command())
}

#[test]
fn the_sources_are_found() {
    let tree = Tree::load();
    for path in ["src/main.rs", "src/domain/delivery.rs", "tests/tidy.rs"] {
        assert!(tree.rust.iter().any(|source| source.path == path), "{path}");
    }
    assert!(tree.texts.iter().any(|text| text.path.starts_with("docs/")));
}

#[test]
fn imports_go_down_only() {
    assert_holds(layers::import_direction(&Tree::load()));
}

#[test]
fn no_files_import_each_other() {
    assert_holds(circles::import_circles(&Tree::load()));
}

#[test]
fn each_library_has_one_home() {
    assert_holds(layers::libraries_at_home(&Tree::load()));
}

#[test]
fn every_dependency_is_named() {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("the manifest");
    assert_eq!(dependencies::unnamed(&manifest, &Tree::load()), [""; 0], "no longer needed");
    let manifest =
        "[dependencies]\nused-one = \"1\"\nfor-tests = \"1\"\n[dev-dependencies]\nfor-tests = \"1\"\nold = \"1\"\n";
    let files = [
        ("src/a.rs", "use used_one::X;\n#[cfg(test)]\nmod tests {\n    use for_tests::Y;\n}\n"),
        ("tests/it/a.rs", "// old::x\nuse crate::old::x;\n"),
    ];
    assert_eq!(dependencies::unnamed(manifest, &Tree::of(&files)), ["for-tests", "old"]);
}

#[test]
fn sql_is_in_the_store_only() {
    assert_holds(layers::sql_at_home(&Tree::load()));
}

#[test]
fn the_domain_is_pure() {
    assert_holds(layers::pure_domain(&Tree::load()));
}

#[test]
fn module_names_tell_the_purpose() {
    assert_holds(layers::telling_module_names(&Tree::load()));
}

#[test]
fn files_are_short() {
    assert_holds(habits::short_files(&Tree::load()));
}

#[test]
fn functions_are_short() {
    assert_holds(habits::short_functions(&Tree::load()));
}

#[test]
fn no_panic_without_a_reason() {
    let tree = Tree::load();
    assert_holds(habits::no_careless_panic(&tree));
    assert_eq!(habits::allowed_panics_exist(&tree), [""; 0], "no longer needed");
}

#[test]
fn no_task_is_unwatched() {
    let tree = Tree::load();
    assert_holds(habits::tasks_are_watched(&tree));
    assert_eq!(habits::noticed_tasks_exist(&tree), [""; 0], "no longer needed");
}

#[test]
fn a_task_that_nobody_watches_is_found() {
    let files = [(
        "src/relay/a.rs",
        "fn f() {\n    tasks.spawn(\"a\", g());\n    tokio::spawn(helpers.watched(\"b\", g()));\n    tokio::spawn(g());\n}\n#[cfg(test)]\nmod tests {\n    fn t() {\n        tokio::spawn(g());\n    }\n}\n",
    )];
    assert_finds(habits::tasks_are_watched, &files, &["src/relay/a.rs:4: nobody would notice"]);
}

#[test]
fn nothing_is_left_unfinished() {
    assert_holds(habits::nothing_unfinished(&Tree::load()));
}

#[test]
fn tests_wait_on_signals() {
    assert_holds(habits::no_blind_sleep(&Tree::load()));
}

#[test]
fn statements_look_keys_up() {
    assert_holds(habits::keys_are_looked_up(&Tree::load()));
    let join = "// update d from r where (d.event_id, d.endpoint_id) = (r.event_id, r.endpoint_id)\n";
    assert_finds(
        habits::keys_are_looked_up,
        &[("src/store/a.rs", join)],
        &["src/store/a.rs:1: a join by plain equality"],
    );
}

#[test]
fn files_that_documents_name_exist() {
    assert_holds(docs::named_files_exist(&Tree::load()));
    let files = [("docs/a.md", "See `src/a.rs`, `src/b.rs` and `cargo test`.\n"), ("src/a.rs", "")];
    assert_finds(docs::named_files_exist, &files, &["docs/a.md:1: there is no `src/b.rs`"]);
}

#[test]
fn links_lead_somewhere() {
    assert_holds(docs::links_lead_somewhere(&Tree::load()));
}

#[test]
fn documented_commands_exist() {
    assert_holds(commands_exist(&Tree::load()));
}

#[test]
fn an_import_upwards_is_found_however_it_is_written() {
    let files = [
        ("src/domain/a.rs", "use crate::store::Db;\n"),
        ("src/http/a.rs", "fn f() {\n    crate::domain::x();\n    crate::config::y();\n}\n"),
        ("src/relay/b.rs", "use super::super::{domain::x, worker};\nuse super::idle;\n"),
        (
            "src/store/c.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::{\n        broker::x, domain };\n}\n",
        ),
        ("src/worker/d.rs", "// crate::relay\nconst TEXT: &str = \"crate::relay\";\n"),
        ("src/lifecycle.rs", "#[cfg(test)]\n#[path = \"lifecycle_tests.rs\"]\nmod tests;\n"),
        ("src/lifecycle_tests.rs", "use super::super::telemetry;\n"),
        ("src/stray.rs", ""),
        ("src/lib.rs", "pub mod domain;\n"),
    ];
    let expected = [
        "src/domain/a.rs:1: `domain` must not import `store`",
        "src/http/a.rs:3: `http` must not import `config`",
        "src/relay/b.rs:1: `relay` must not import `worker`",
        "src/store/c.rs:4: `store` must not import `broker`",
        "src/lifecycle_tests.rs:1: `lifecycle` must not import `telemetry`",
        "src/stray.rs:1: `stray` has no place",
    ];
    assert_finds(layers::import_direction, &files, &expected);
}

#[test]
fn a_circle_of_imports_is_found() {
    let files = [
        ("src/relay/mod.rs", "mod a;\nmod b;\nmod c;\nmod d;\n"),
        ("src/relay/a.rs", "use super::b::{B, more::C};\n"),
        ("src/relay/b.rs", "fn f() { super::c::g() }\n"),
        ("src/relay/c.rs", "use crate::relay::{a::A, d};\n"),
        ("src/relay/d.rs", "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}\n"),
    ];
    let circle = |name, other| format!("src/relay/{name}.rs:1: a circle of imports goes through relay::{other}");
    let expected = [circle("a", "b"), circle("b", "c"), circle("c", "a")];
    assert_finds(circles::import_circles, &files, &expected.each_ref().map(String::as_str));
    let parent = [("src/relay/mod.rs", "mod a;\nfn f() { a::g() }\n"), ("src/relay/a.rs", "use super::Context;\n")];
    let expected = ["src/relay/mod.rs:1: a circle", "src/relay/a.rs:1: a circle of imports goes through relay"];
    assert_finds(circles::import_circles, &parent, &expected);
}

#[test]
fn a_library_or_sql_away_from_home_is_found() {
    let files = [
        ("src/worker/a.rs", "// lapin\nuse lapin::Channel;\nfn my_sqlx() {}\n"),
        (
            "src/relay/a.rs",
            "const Q: &str = \"\n  select 1 from posthaste.events\";\n/// Reads from posthaste.events.\n",
        ),
        ("src/store/a.rs", "use sqlx::query;\nconst Q: &str = \"select 1 from posthaste.events\";\n"),
    ];
    assert_finds(layers::libraries_at_home, &files, &["src/worker/a.rs:2: `lapin` is for src/broker only"]);
    assert_finds(layers::sql_at_home, &files, &["src/relay/a.rs:2: SQL is for src/store only"]);
}

#[test]
fn a_clock_in_the_domain_is_found_and_one_in_its_tests_is_not() {
    let clock = "fn f() { let t = Instant::now(); }\n#[cfg(test)]\nmod tests {\n    fn g() { Utc::now(); }\n}\nfn h() { rand::random() }\n";
    let files = [("src/domain/a.rs", clock), ("src/worker/a.rs", clock)];
    assert_finds(layers::pure_domain, &files, &["src/domain/a.rs:1: ", "src/domain/a.rs:6: "]);
}

#[test]
fn a_vague_module_name_is_found() {
    let files = [("src/store/util.rs", ""), ("src/store/a.rs", "mod models;\nmod model;\n")];
    assert_finds(layers::telling_module_names, &files, &["src/store/util.rs:1: ", "src/store/a.rs:1: "]);
}

#[test]
fn long_files_and_functions_are_found() {
    let long_function = format!("fn short() {{}}\nfn long(x: [u8; 2]) {{\n{}}}\n", "    x();\n".repeat(59));
    let (long_main, long_file) = ("\n".repeat(41), "\n".repeat(401));
    let files = [
        ("src/main.rs", long_main.as_str()),
        ("src/relay/a.rs", long_file.as_str()),
        ("tests/it/a.rs", long_function.as_str()),
    ];
    assert_finds(habits::short_files, &files, &["src/main.rs:42: 41 lines", "src/relay/a.rs:402: 401 lines"]);
    assert_finds(habits::short_functions, &files, &["tests/it/a.rs:2: `long` has 61 lines"]);
}

#[test]
fn a_panic_without_a_reason_is_found_outside_of_tests() {
    let code = "fn f() {\n    a.unwrap();\n\n    // Never empty.\n    b.expect(\"x\");\n    // No.\n\n    c.expect(\"it's '\\\"'\");\n    d.unwrap_or(1);\n}\n";
    let files = [
        ("src/relay/a.rs", code),
        ("src/relay/b.rs", "#[cfg(test)]\nmod tests;\n#[cfg(not(test))]\nfn f() { a.unwrap() }\n"),
        ("src/relay/b/tests.rs", code),
        ("src/relay/b/tests/more.rs", code),
        ("tests/it/a.rs", code),
    ];
    let expected = ["src/relay/a.rs:2: `.unwrap()`", "src/relay/a.rs:8: `.expect(`", "src/relay/b.rs:4: `.unwrap()`"];
    assert_finds(habits::no_careless_panic, &files, &expected);
}

#[test]
fn unfinished_work_and_blind_sleeps_are_found() {
    let code = "fn f() {\n    todo!();\n    let s = r#\"todo!()\"#;\n    sleep(a);\n    // The server has no signal for this.\n    sleep(b);\n}\n#[ignore]\nfn g<'a>() { let c = '\"'; dbg!(c); }\n";
    let files = [("tests/it/a.rs", code)];
    let expected = ["tests/it/a.rs:2: `todo!`", "tests/it/a.rs:9: `dbg!`", "tests/it/a.rs:8: an ignored test"];
    assert_finds(habits::nothing_unfinished, &files, &expected);
    assert_finds(habits::no_blind_sleep, &files, &["tests/it/a.rs:4: "]);
}

#[test]
fn dead_links_are_found() {
    let text = "[a](docs/b.md) [b](docs/c.md) [c](https://example.com/x)\n`[d](nothing)`\n```\n[e](nothing)\n```\n\
                [f](docs/b.md#a-heading-here) [g](docs/b.md#none) [h](#top)\n# Top\n";
    let files = [("README.md", text), ("docs/b.md", "## A heading, here!\n[up](../README.md) [out](../../x.md)\n")];
    let expected = [
        "README.md:1: the link `docs/c.md`",
        "README.md:6: `docs/b.md` has no heading",
        "docs/b.md:2: the link `../../x.md`",
    ];
    assert_finds(docs::links_lead_somewhere, &files, &expected);
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let readme = "Say `posthaste run` or `posthaste fly`, and posthaste goes.\n\n```sh\n# posthaste relay | posthaste worker\n\
                  posthaste --config a.toml topology \\\n  declare\n./target/release/posthaste endpoint explode\n\
                  createdb -O posthaste posthaste other\n```\n`posthaste topology {declare,check}` `posthaste <command>`\n";
    let script = "posthaste dead list --json\nexec posthaste migrate --now\necho \"posthaste gone\"\nposthaste keygen > key; x --y\n";
    let files = [("README.md", readme), ("scripts/demo", script)];
    let expected = [
        "README.md:1: `posthaste` has no command `fly`",
        "README.md:7: `posthaste endpoint` has no command `explode`",
        "scripts/demo:2: `posthaste migrate` has no option `--now`",
        "scripts/demo:3: `posthaste` has no command `gone`",
    ];
    assert_finds(commands_exist, &files, &expected);
}
