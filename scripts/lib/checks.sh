# The steps of the gate that need no server.
# shellcheck shell=bash

# On CI nothing may change Cargo.lock behind its back.
LOCKED=""
[ "${CI:-}" != true ] || LOCKED=--locked

need_tools() {
    need_rust
    need_format_and_clippy
}

check_format() {
    step "Formatting"
    run cargo fmt --check
}

# The second pass is what somebody compiles who only receives webhooks.
check_clippy() {
    step "Clippy"
    # shellcheck disable=SC2086 # one option or none
    run cargo clippy $LOCKED --all-targets --test chaos -- -D warnings
    # shellcheck disable=SC2086
    run cargo clippy $LOCKED --no-default-features --features receiver --lib -- -D warnings
}
