# PostgreSQL and RabbitMQ for a script: from a Docker engine, from the programs on this machine, or installed first.
# Never a server that is running already, and none is left running. The kit of the tests finds, starts and ends them.
# shellcheck shell=bash

RABBITMQ_OLDEST=3.10  # the first with at-least-once dead lettering

SERVERS=""             # docker or native
SERVERS_JOB=""
DATABASE_SERVER=""     # URL of the superuser, without the database: what follows is "/" and a name
BROKER_URL=""
MANAGEMENT_URL=""
POSTGRES_CONTAINER=""
KIT=""                 # the kit's program
MISSING=""             # packages with programs that are not installed; where there are none:
PG_BIN=""              # directories of the programs
RABBIT_BIN=""
RABBIT_PATH=""         # PATH with Erlang in front, where that one was given
PG_VERSION=""

# need_kit: it needs nothing but the compiler, and that only where it is older than its sources.
need_kit() {
    KIT=$(target_directory)/kit/servers
    [ -x "$KIT" ] && [ -z "$(find "$TOP/tests/kit/servers" "$TOP/docker-compose.yml" -newer "$KIT")" ] && return 0
    need_rust
    mkdir -p "${KIT%/*}"
    rustc --edition 2024 -o "$KIT.$$" "$TOP/tests/kit/servers/main.rs" && mv "$KIT.$$" "$KIT" ||
        die "the program that starts servers does not compile"
}

# find_programs: sets MISSING, or the directories. A wrong directory in the environment is said at once, not after a build,
# and none is replaced by another one.
find_programs() {
    local found
    need_kit
    found=$("$KIT" programs) || exit "$?"
    eval "$found"
}

# choose_servers: sets SERVERS. POSTHASTE_SERVERS=docker or =native takes the choice away, and who names programs of this
# machine wants those.
choose_servers() {
    find_programs
    case ${POSTHASTE_SERVERS:-} in
        docker)
            programs_are_given &&
                die_of_usage "POSTHASTE_SERVERS is docker, and POSTHASTE_POSTGRES_BIN, POSTHASTE_RABBITMQ_BIN or POSTHASTE_ERLANG_BIN names programs of this machine: unset one or the other"
            "$KIT" engine || die "POSTHASTE_SERVERS=docker, and no Docker engine answers"
            SERVERS=docker
            ;;
        native) choose_native ;;
        "") if ! programs_are_given && "$KIT" engine; then SERVERS=docker; else choose_native; fi ;;
        *) die_of_usage "POSTHASTE_SERVERS is '$POSTHASTE_SERVERS'; it may be docker or native" ;;
    esac
}

programs_are_given() {
    [ -n "${POSTHASTE_POSTGRES_BIN:-}${POSTHASTE_RABBITMQ_BIN:-}${POSTHASTE_ERLANG_BIN:-}" ]
}

# choose_native: installs what is missing.
choose_native() {
    SERVERS=native
    find_programs
    [ -n "$MISSING" ] || return 0
    can_install_packages || die "there is no Docker engine and not all programs are installed; missing: $MISSING (PostgreSQL 14 or newer, RabbitMQ $RABBITMQ_OLDEST or newer).
Start Docker, or install them (Debian and Ubuntu: as root this script does it; macOS: brew install postgresql@17 rabbitmq)."
    update_packages
    case $MISSING in *rabbitmq*) check_offered_rabbitmq ;; esac
    # shellcheck disable=SC2086 # a list of packages
    install_servers $MISSING
    find_programs
    [ -z "$MISSING" ] || die "installed the packages, and still miss: $MISSING"
}

check_offered_rabbitmq() {
    local offered
    offered=$(offered_version rabbitmq-server)
    version_at_least "${offered:-0}" "$RABBITMQ_OLDEST" ||
        die "RabbitMQ ${offered:-none}, as this system offers it, is too old: $RABBITMQ_OLDEST or newer is needed. Use Docker, or the packages from rabbitmq.com."
}

# launch_servers: begins to start them; await_servers says when they answer.
launch_servers() {
    make_run_dir
    spawn TERM "$RUN_DIR/servers.log" "$KIT" "$SERVERS" "$RUN_DIR"
    SERVERS_JOB=$SPAWNED
}

# await_servers: then DATABASE_SERVER, BROKER_URL and MANAGEMENT_URL are set.
await_servers() {
    local deadline=$((SECONDS + 900))
    [ "$SERVERS" != docker ] ||
        say "Waiting for the containers; fetching their images can take minutes the first time"
    until [ -f "$RUN_DIR/addresses" ]; do
        if ! job_alive "$SERVERS_JOB" || [ "$SECONDS" -gt "$deadline" ]; then
            replace_servers
            deadline=$((SECONDS + 900))
        fi
        sleep 0.1
    done
    # shellcheck source=/dev/null
    . "$RUN_DIR/addresses"
}

# replace_servers: whoever has not asked for containers gets programs where those did not start.
replace_servers() {
    local log
    for log in servers.log postgres/output.log rabbitmq/output.log rabbitmq/log/node.log; do
        show_tail "$RUN_DIR/$log"
    done
    stop_job "$SERVERS_JOB"
    [ "$SERVERS" = docker ] && [ -z "${POSTHASTE_SERVERS:-}" ] || die "the servers did not start"
    say "The containers did not start; trying the programs on this machine"
    choose_native
    launch_servers
}

# servers_text: where they come from, for people.
servers_text() {
    case $SERVERS in
        docker) printf 'containers with the images of docker-compose.yml, thrown away at the end' ;;
        native) printf 'PostgreSQL %s from %s and RabbitMQ from %s, in throw-away directories on free ports' \
            "$PG_VERSION" "$PG_BIN" "$RABBIT_BIN" ;;
    esac
}

# sql DATABASE [PSQL-OPTION...]: runs the standard input as SQL.
sql() {
    local database=$1 password
    shift
    set -- -X -q -v ON_ERROR_STOP=1 "$@"
    if [ "$SERVERS" = docker ]; then
        docker exec --interactive "$POSTGRES_CONTAINER" psql -h 127.0.0.1 -U postgres -d "$database" "$@"
        return
    fi
    # Not as a URL on the command line, which every user of this machine can read.
    password=${DATABASE_SERVER##*postgres:}
    PGHOST=127.0.0.1 PGPORT=${DATABASE_SERVER##*:} PGUSER=postgres PGPASSWORD=${password%@*} PGDATABASE=$database \
        "$PG_BIN/psql" "$@"
}

# forget_foreign_settings: PGHOST, PGOPTIONS and the like of the caller would reach psql and the drivers.
forget_foreign_settings() {
    local name
    for name in $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p'); do
        unset "$name"
    done
}
