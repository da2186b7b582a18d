# For scripts/bench, scripts/chaos and scripts/isolation, which are commands of one program: it starts servers itself.
# shellcheck shell=bash

# lab COMMAND PROFILE KEEP-LOGS [ARGUMENT...]
lab() {
    local command=$1 profile=$2 keep=$3 status=0
    shift 3
    end_cleanly
    make_run_dir
    need_rust
    forget_foreign_settings
    # Whatever POSTHASTE_SERVERS says: containers cannot be killed and wiped like this.
    choose_native
    raise_open_files
    export POSTHASTE_LAB_DIR=$RUN_DIR
    # shellcheck disable=SC2086 # one option or none
    run cargo test $LOCKED --quiet --profile "$profile" --test lab -- "$command" "$@" || status=$?
    case $status:$keep in
        0:no | 130:*) ;;
        *) keep_logs "$command" ;;
    esac
    exit "$status"
}

# Every endpoint takes files, and the usual soft limit is 1024.
raise_open_files() {
    case $(ulimit -n) in
        unlimited) ;;
        *) [ "$(ulimit -n)" -ge 16384 ] || ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -Hn)" ;;
    esac
}

# keep_logs NAME: what the processes of a run wrote, below target/NAME.
keep_logs() {
    local kept
    kept=$TOP/target/$1/$(date +%Y%m%d-%H%M%S)
    mkdir -p "$kept"
    (cd "$RUN_DIR" && find . -name '*.log' -exec sh -c 'mkdir -p "$0/${1%/*}" && cp "$1" "$0/$1"' "$kept" {} \;)
    warn "the logs are in $kept"
}
