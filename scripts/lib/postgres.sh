# A throw-away PostgreSQL from the programs installed on this machine.
# shellcheck shell=bash

POSTGRES_OLDEST=14
POSTGRES_PROGRAMS="initdb postgres psql"
PG_OPTIONS=""   # for the server, such as "-c fsync=off"
PG_BIN=""       # directory of its programs
PG_DIR=""       # its data and log
PG_USER=""      # the system user that it runs as, where this script is root
PG_JOB=""
PG_PORT=""
PG_PASSWORD=""  # of the superuser postgres: other users of this machine can reach the port too

# find_postgres: sets PG_BIN to POSTHASTE_POSTGRES_BIN, else to the first directory in PATH, else to the newest one in the
# usual places, that has all programs.
find_postgres() {
    local dir
    if [ -n "${POSTHASTE_POSTGRES_BIN:-}" ]; then
        check_given_postgres
        PG_BIN=$POSTHASTE_POSTGRES_BIN
        return 0
    fi
    for dir in $(path_directories) $(postgres_places); do
        if has_postgres "$dir"; then
            PG_BIN=$dir
            return 0
        fi
    done
    return 1
}

check_given_postgres() {
    local found
    # shellcheck disable=SC2086 # a list of names
    check_given_directory POSTHASTE_POSTGRES_BIN $POSTGRES_PROGRAMS
    found=$(postgres_version "$POSTHASTE_POSTGRES_BIN")
    version_at_least "$found" "$POSTGRES_OLDEST" ||
        die_of_usage "POSTHASTE_POSTGRES_BIN is '$POSTHASTE_POSTGRES_BIN', whose postgres says version $found (0: none); $POSTGRES_OLDEST or newer is needed"
}

# The number that the path ends with decides: sort takes it as a number, so 15 comes before 9.6.
postgres_places() {
    local dir
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /opt/local/lib/postgresql*/bin; do
        [ ! -d "$dir" ] || printf '%s %s\n' "$(printf '%s' "$dir" | tr -cd '0-9')" "$dir"
    done | sort -rn | sed 's/^[0-9]* //'
}

# In Debian's /usr/bin, psql is a wrapper and initdb is missing: only a complete directory counts.
has_postgres() {
    local program
    for program in $POSTGRES_PROGRAMS; do
        [ -x "$1/$program" ] || return 1
    done
    version_at_least "$(postgres_version "$1")" "$POSTGRES_OLDEST"
}

# postgres_version DIRECTORY: 15.19, or 18 for 18beta1; 0 when it does not say.
postgres_version() {
    local found
    found=$("$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9][0-9.]*\).*/\1/p')
    printf '%s' "${found:-0}"
}

# launch_postgres: begins to make and start it; await_postgres says when it answers.
launch_postgres() {
    PG_USER=$(unprivileged_user postgres)
    PG_DIR=$(server_dir "$PG_USER" postgres)
    PG_PASSWORD=$(random_hex 16)
    free_port
    PG_PORT=$FREE_PORT
    (as_user "$PG_USER" sh -c 'umask 077; cat >"$0"' "$PG_DIR/password") <<END
$PG_PASSWORD
END
    spawn INT "$RUN_DIR/postgres.log" init_and_serve
    PG_JOB=$SPAWNED
}

init_and_serve() {
    cd "$PG_DIR" || return
    (as_user "$PG_USER" "$PG_BIN/initdb" -D data -U postgres -E UTF8 --no-locale --no-sync \
        --auth=scram-sha-256 --pwfile=password) || return
    serve
}

# TCP alone: a path below TMPDIR may be too long for a socket.
serve() {
    cd "$PG_DIR" || return
    # shellcheck disable=SC2086 # a list of options
    as_user "$PG_USER" "$PG_BIN/postgres" -D data -p "$PG_PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c max_connections=300 $PG_OPTIONS
}

await_postgres() {
    local tenths=600
    until postgres_is_ready; do
        if ! job_alive "$PG_JOB"; then
            relaunch_postgres
        elif [ "$tenths" -le 0 ]; then
            show_tail "$RUN_DIR/postgres.log"
            die "PostgreSQL was not ready within 60 s"
        fi
        sleep 0.1
        tenths=$((tenths - 1))
    done
}

# Its own word, not the port's: another server could be the one that answers there.
postgres_is_ready() {
    job_alive "$PG_JOB" && sed -n 8p "$PG_DIR/data/postmaster.pid" 2>/dev/null | grep -q ready
}

# Somebody may have taken the port since it was found free: then with another one, else it is a failure.
relaunch_postgres() {
    if ! grep -q -e 'could not bind' -e 'could not create any TCP' "$RUN_DIR/postgres.log"; then
        show_tail "$RUN_DIR/postgres.log"
        die "PostgreSQL did not start"
    fi
    say "Port $PG_PORT was taken in the meantime; PostgreSQL gets another one"
    rm -f "$RUN_DIR/postgres.log"
    stop_job "$PG_JOB"
    free_port
    PG_PORT=$FREE_PORT
    spawn INT "$RUN_DIR/postgres.log" serve
    PG_JOB=$SPAWNED
}
