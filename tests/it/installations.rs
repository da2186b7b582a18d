//! Scripts use the installation of PostgreSQL and RabbitMQ that the environment names, and no other.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const POSTGRES: &str = "POSTHASTE_POSTGRES_BIN";
const RABBITMQ: &str = "POSTHASTE_RABBITMQ_BIN";
const ERLANG: &str = "POSTHASTE_ERLANG_BIN";

/// What every script does first to get its servers; nothing is started.
fn choose(environment: &[(&str, &str)]) -> Output {
    let choice =
        r#". scripts/lib/load.sh; choose_servers; printf '%s\n' "$SERVERS" "$PG_BIN" "$RABBIT_BIN" "$RABBIT_PATH""#;
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", choice]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in [POSTGRES, RABBITMQ, ERLANG, "POSTHASTE_SERVERS"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().expect("bash")
}

#[track_caller]
fn refused(environment: &[(&str, &str)], parts: &[&str]) {
    let output = choose(environment);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{environment:?}: {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{environment:?}: {said}");
}

/// Programs that say a version and do nothing else.
fn make_programs(directory: &Path, version: &str, names: &[&str]) {
    for name in names {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_directories_that_are_named_are_the_ones_that_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let rabbitmq = ["rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-defaults", "erl", "epmd"];
    make_programs(directory.path(), "postgres (PostgreSQL) 17.12", &["initdb", "postgres", "psql"]);
    make_programs(directory.path(), "", &rabbitmq);
    let named = directory.path().to_str().unwrap();
    let output = choose(&[(POSTGRES, named), (RABBITMQ, named), (ERLANG, named)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["native", named, named]);
    assert!(lines[3].starts_with(&format!("{named}:")), "{said}");
}

#[test]
fn a_directory_that_will_not_do_is_refused_with_its_variable_and_what_must_be_in_it() {
    let old = tempfile::tempdir().unwrap();
    make_programs(old.path(), "postgres (PostgreSQL) 13.22", &["initdb", "postgres", "psql"]);
    make_programs(old.path(), "", &["rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "erl"]);
    let old = old.path().to_str().unwrap();
    refused(&[(POSTGRES, "/nowhere")], &[POSTGRES, "/nowhere", "initdb postgres psql"]);
    refused(&[(POSTGRES, "usr/bin")], &[POSTGRES, "usr/bin", "whole path"]);
    refused(&[(POSTGRES, old)], &[POSTGRES, old, "13.22", "14 or newer"]);
    refused(&[(RABBITMQ, old)], &[RABBITMQ, old, "no rabbitmq-defaults"]);
    refused(&[(ERLANG, old)], &[ERLANG, old, "no epmd"]);
    refused(&[("POSTHASTE_SERVERS", "docker"), (ERLANG, "/")], &[ERLANG]);
    refused(&[("POSTHASTE_SERVERS", "podman")], &["POSTHASTE_SERVERS", "podman", "docker or native"]);
}
