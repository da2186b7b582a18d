# The Rust toolchain and the C compiler that a build needs.
# shellcheck shell=bash

# need_rust: says what to do when cargo is missing or older than Cargo.toml asks for.
need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)
    [ -n "$wanted" ] || die "Cargo.toml names no rust-version"
    have cargo && have rustc ||
        die "Rust $wanted or newer is needed and cargo is not in PATH. Install it from https://rustup.rs and run this again."
    found=$(rustc --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$found" ] || die "rustc --version does not answer: $(rustc --version 2>&1)"
    version_at_least "$found" "$wanted" ||
        die "Rust $wanted or newer is needed, this is $found. Run 'rustup update stable' and then this again."
    need_c_compiler
}

# target_directory: of cargo, and of what scripts compile, as a whole path.
target_directory() {
    local target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$TOP/$target ;; esac
    printf '%s' "$target"
}

# The crate ring compiles C, and rustc links with cc.
need_c_compiler() {
    have cc && return 0
    if can_install_packages; then
        install_packages gcc libc6-dev
        have cc && return 0
    fi
    die "a C compiler (cc) is needed. On Debian or Ubuntu: apt-get install gcc libc6-dev. On macOS: xcode-select --install."
}

need_format_and_clippy() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
        die "cargo fmt and cargo clippy are needed: rustup component add rustfmt clippy"
}
