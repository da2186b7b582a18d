# Messages to the person who runs a script.
# shellcheck shell=bash

say() {
    printf '%s\n' "$*"
}

# step TEXT: a heading for what comes next, with the seconds since the script began.
step() {
    printf '\n== %s [%s s]\n' "$1" "$SECONDS"
}

warn() {
    printf 'warning: %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# die_of_usage TEXT: what was asked for, or is set in the environment, cannot be; the code is the one of the program for it.
die_of_usage() {
    printf 'error: %s\n' "$*" >&2
    exit 64
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# version_at_least FOUND WANTED: compares dotted numbers, at most three of them.
version_at_least() {
    local found wanted i
    found=$1.0.0.0
    wanted=$2.0.0.0
    for i in 1 2 3; do
        if [ "${found%%.*}" -ne "${wanted%%.*}" ]; then
            [ "${found%%.*}" -gt "${wanted%%.*}" ]
            return
        fi
        found=${found#*.}
        wanted=${wanted#*.}
    done
}

# show_tail FILE: what a person needs to see of a log when something went wrong.
show_tail() {
    [ -s "$1" ] || return 0
    printf -- '--- the end of %s\n' "${1##*/}" >&2
    tail -n 25 "$1" >&2
    printf -- '---\n' >&2
}
