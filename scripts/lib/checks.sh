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

# The other passes are what somebody compiles who only receives webhooks.
check_clippy() {
    local features
    step "Clippy"
    # shellcheck disable=SC2086 # one option or none
    run cargo clippy $LOCKED --all-targets -- -D warnings
    # Not among all targets, since it is no test.
    # shellcheck disable=SC2086
    run cargo clippy $LOCKED --test lab -- -D warnings
    for features in receiver layer inbox; do
        # shellcheck disable=SC2086
        run cargo clippy $LOCKED --no-default-features --features "$features" --lib -- -D warnings
    done
    check_receiver_is_small
}

# Whoever only verifies signatures gets no broker, no database, no HTTP client and no runtime with it; nor with the layer.
# The inbox has a database, with its runtime, and nothing else.
check_receiver_is_small() {
    check_absent receiver "lapin|sqlx|hyper|tokio"
    check_absent layer "lapin|sqlx|hyper|tokio"
    check_absent inbox "lapin|hyper"
}

# check_absent FEATURE "PACKAGE|PACKAGE..."
check_absent() {
    local packages large
    # shellcheck disable=SC2086 # one option or none
    packages=$(cargo tree $LOCKED --no-default-features --features "$1" --edges normal --prefix none)
    large=$(printf '%s\n' "$packages" | sed -nE "s/^($2) .*/\1/p" | sort -u)
    # shellcheck disable=SC2086 # on one line
    [ -z "$large" ] || die "the feature $1 must not bring these with it:" $large
}

# What dependencies bring with them (deny.toml), and whether each is used. Programs that are not there are not installed for it:
# that would take longer than the rest of scripts/check.
check_dependencies() {
    step "Dependencies"
    if cargo deny --version >/dev/null 2>&1; then
        run cargo deny check --hide-inclusion-graph bans licenses sources
        if cargo deny fetch db >/dev/null 2>&1; then
            run cargo deny check --disable-fetch --hide-inclusion-graph advisories
        else
            say "The list of advisories cannot be fetched; it was not looked at."
        fi
    else
        say "Licences, sources, duplicates and advisories were not looked at: cargo install --locked cargo-deny"
    fi
    if cargo machete --version >/dev/null 2>&1; then
        run cargo machete
    else
        say "Unused dependencies were not looked for: cargo install --locked cargo-machete"
    fi
}
