# The programs of PostgreSQL that are installed on this machine.
# shellcheck shell=bash

POSTGRES_OLDEST=14
POSTGRES_PROGRAMS="initdb postgres psql"
PG_BIN=""       # directory of its programs

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
