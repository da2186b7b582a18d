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
    run cargo clippy $LOCKED --all-targets --test lab -- -D warnings
    # shellcheck disable=SC2086
    run cargo clippy $LOCKED --no-default-features --features receiver --lib -- -D warnings
    check_receiver_is_small
}

# Whoever only verifies signatures gets no broker, no database, no HTTP client and no runtime with it.
check_receiver_is_small() {
    local packages large
    # shellcheck disable=SC2086
    packages=$(cargo tree $LOCKED --no-default-features --features receiver --edges normal --prefix none)
    large=$(printf '%s\n' "$packages" | sed -nE 's/^(lapin|reqwest|sqlx|hyper|tokio) .*/\1/p' | sort -u)
    # shellcheck disable=SC2086 # on one line
    [ -z "$large" ] || die "the feature receiver must not bring these with it:" $large
}
