# PostgreSQL and RabbitMQ for a script: from a Docker engine, from the programs on this machine, or installed first.
# Never a server that is running already, and none is left running.
# shellcheck shell=bash

SERVERS=""           # docker or native
DATABASE_SERVER=""   # URL of the superuser, without the database: what follows is "/" and a name
BROKER_URL=""
MANAGEMENT_URL=""
NATIVE_JOB=""

# choose_servers: sets SERVERS and says so. POSTHASTE_SERVERS=docker or =native takes the choice away, and who names
# programs of this machine wants those.
choose_servers() {
    check_given_programs
    case ${POSTHASTE_SERVERS:-} in
        docker)
            programs_are_given &&
                die_of_usage "POSTHASTE_SERVERS is docker, and POSTHASTE_POSTGRES_BIN, POSTHASTE_RABBITMQ_BIN or POSTHASTE_ERLANG_BIN names programs of this machine: unset one or the other"
            docker_answers || die "POSTHASTE_SERVERS=docker, and no Docker engine answers"
            SERVERS=docker
            ;;
        native) choose_native ;;
        "") if ! programs_are_given && docker_answers; then SERVERS=docker; else choose_native; fi ;;
        *) die_of_usage "POSTHASTE_SERVERS is '$POSTHASTE_SERVERS'; it may be docker or native" ;;
    esac
}

programs_are_given() {
    [ -n "${POSTHASTE_POSTGRES_BIN:-}${POSTHASTE_RABBITMQ_BIN:-}${POSTHASTE_ERLANG_BIN:-}" ]
}

# check_given_programs: a wrong directory is said at once, not after a build, and none is replaced by another one.
check_given_programs() {
    [ -z "${POSTHASTE_POSTGRES_BIN:-}" ] || check_given_postgres
    [ -z "${POSTHASTE_RABBITMQ_BIN:-}" ] || check_given_rabbitmq
    [ -z "${POSTHASTE_ERLANG_BIN:-}" ] || check_given_erlang
}

# check_given_directory VARIABLE FILE...: the directory that the environment names has these files.
check_given_directory() {
    local variable=$1 dir file
    dir=${!variable}
    shift
    case $dir in
        /*) ;;
        *) die_of_usage "$variable is '$dir'; it must be a whole path, from / on" ;;
    esac
    for file in "$@"; do
        [ -f "$dir/$file" ] || die_of_usage "$variable is '$dir', and there is no $file in it; it must be the directory that has: $*"
    done
}

choose_native() {
    local missing=""
    SERVERS=native
    find_postgres || missing=postgresql
    find_rabbitmq || missing="$missing rabbitmq-server"
    [ -z "$missing" ] || get_native "$missing"
}

# get_native "PACKAGE...": on Debian and Ubuntu the packages have the names of the programs.
get_native() {
    local offered
    can_install_packages || die "there is no Docker engine and not all programs are installed; missing:$(missing_text "$1").
Start Docker, or install them (Debian and Ubuntu: as root this script does it; macOS: brew install postgresql@17 rabbitmq)."
    update_packages
    case $1 in
        *rabbitmq*)
            offered=$(offered_version rabbitmq-server)
            version_at_least "${offered:-0}" "$RABBITMQ_OLDEST" ||
                die "RabbitMQ ${offered:-none}, as this system offers it, is too old: $RABBITMQ_OLDEST or newer is needed. Use Docker, or the packages from rabbitmq.com."
            ;;
    esac
    # shellcheck disable=SC2086 # a list of packages
    install_servers $1
    find_postgres || die "installed PostgreSQL, and find no version from $POSTGRES_OLDEST on"
    find_rabbitmq || die "installed RabbitMQ, and cannot find it"
}

missing_text() {
    case $1 in *postgresql*) printf ' PostgreSQL (%s or newer)' "$POSTGRES_OLDEST" ;; esac
    case $1 in *rabbitmq*) printf ' RabbitMQ (%s or newer)' "$RABBITMQ_OLDEST" ;; esac
}

# export_programs: for those who start servers themselves.
export_programs() {
    export POSTHASTE_POSTGRES_BIN=$PG_BIN
    export POSTHASTE_RABBITMQ_BIN=$RABBIT_BIN
}

# launch_servers: begins to start them; await_servers says when they answer.
launch_servers() {
    make_run_dir
    case $SERVERS in
        docker) launch_docker ;;
        native) launch_native ;;
    esac
}

# launch_native: by the same code that tests use. It needs nothing but the compiler, and is compiled in a moment.
launch_native() {
    need_rust
    export_programs
    rustc --edition 2024 -o "$RUN_DIR/servers" "$TOP/tests/kit/servers/main.rs"
    spawn TERM "$RUN_DIR/servers.log" "$RUN_DIR/servers" "$RUN_DIR"
    NATIVE_JOB=$SPAWNED
}

await_native() {
    local log
    until [ -f "$RUN_DIR/addresses" ]; do
        if ! job_alive "$NATIVE_JOB"; then
            for log in servers.log postgres/output.log rabbitmq/output.log rabbitmq/log/node.log; do
                show_tail "$RUN_DIR/$log"
            done
            die "the servers did not start"
        fi
        sleep 0.1
    done
    # shellcheck source=/dev/null
    . "$RUN_DIR/addresses"
}

# await_servers: then DATABASE_SERVER, BROKER_URL and MANAGEMENT_URL are set.
await_servers() {
    if [ "$SERVERS" = docker ] && ! await_docker; then
        [ -z "${POSTHASTE_SERVERS:-}" ] || die "the containers did not start"
        say "The containers did not start; trying the programs on this machine"
        remove_containers
        choose_native
        launch_servers
    fi
    case $SERVERS in
        docker) name_containers ;;
        native) await_native ;;
    esac
}

# servers_text: where they come from, for people.
servers_text() {
    case $SERVERS in
        docker) printf 'containers (%s), thrown away at the end' "$(docker_images | tr '\n' ' ' | sed 's/ $//')" ;;
        native) printf 'PostgreSQL %s from %s and RabbitMQ from %s, in throw-away directories on free ports' \
            "$(postgres_version "$PG_BIN")" "$PG_BIN" "$RABBIT_BIN" ;;
    esac
}

# sql DATABASE [PSQL-OPTION...]: runs the standard input as SQL.
sql() {
    local database=$1 password
    shift
    case $SERVERS in
        docker) in_container postgres psql -h 127.0.0.1 -U posthaste -d "$database" -X -q -v ON_ERROR_STOP=1 "$@" ;;
        native)
            # Not as a URL on the command line, which every user of this machine can read.
            password=${DATABASE_SERVER##*postgres:}
            PGHOST=127.0.0.1 PGPORT=${DATABASE_SERVER##*:} PGUSER=postgres PGPASSWORD=${password%@*} PGDATABASE=$database \
                "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"
            ;;
    esac
}

# forget_foreign_settings: PGHOST, PGOPTIONS and the like of the caller would reach psql and the drivers.
forget_foreign_settings() {
    local name
    for name in $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p'); do
        unset "$name"
    done
}
