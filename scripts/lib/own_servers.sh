# For programs of ours that start servers themselves: where the servers' programs are, and what becomes of the logs.
# shellcheck shell=bash

# ids_of USER: what a server runs as where we are root; nothing otherwise.
ids_of() {
    [ "$(id -u)" -ne 0 ] || printf '%s:%s' "$(id -u "$1")" "$(id -g "$1")"
}

# export_own_servers: tells a program where to work, and which PostgreSQL and RabbitMQ to start there.
export_own_servers() {
    # Whatever POSTHASTE_SERVERS says: containers cannot be killed and wiped like this.
    check_given_programs
    choose_native
    # Debian's soft limit of open files is too low for RabbitMQ.
    [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 16384 ] || ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    export POSTHASTE_CHAOS_DIR=$RUN_DIR
    export POSTHASTE_POSTGRES_BIN=$PG_BIN
    export POSTHASTE_RABBITMQ_BIN=$RABBIT_BIN
    POSTHASTE_CHAOS_POSTGRES_OWNER=$(ids_of "$(unprivileged_user postgres)")
    POSTHASTE_CHAOS_RABBITMQ_OWNER=$(ids_of "$(unprivileged_user rabbitmq postgres)")
    export POSTHASTE_CHAOS_POSTGRES_OWNER POSTHASTE_CHAOS_RABBITMQ_OWNER
}

# keep_logs NAME: what the processes of a run wrote, below target/NAME.
keep_logs() {
    local kept
    kept=$TOP/target/$1/$(date +%Y%m%d-%H%M%S)
    mkdir -p "$kept"
    (cd "$RUN_DIR" && find . -name '*.log' -exec sh -c 'mkdir -p "$0/${1%/*}" && cp "$1" "$0/$1"' "$kept" {} \;)
    warn "the logs are in $kept"
}
