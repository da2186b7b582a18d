# A second try for what may have failed because the machine was busy.
# shellcheck shell=bash

# More failures than this are no accident.
MOST_SECOND_TRIES=4

# failed_on_servers LOG: the names of the tests of tests/it that failed. All other tests need no clock, and have no excuse.
failed_on_servers() {
    awk '/Running .*[(]/ { here = /tests\/it\/main\.rs/ }
        here && /^    [a-z0-9_]+(::[a-z0-9_]+)+$/ { print $1 }' "$1" | sort -u
}

# failures LOG: how many tests failed, of all.
failures() {
    awk '/^test result:/ { sum += $6 } END { print sum + 0 }' "$1"
}

# only_it_failed LOG: whether cargo names no other test binary. One that died, of a signal for instance, has counted no failure.
only_it_failed() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '/^error: [0-9]+ targets? failed:/ { listed = 1; next }
        listed && /^    `/ { count++; it += /`--test it`/ }
        END { exit !(count == 1 && it == 1) }'
}

# try_again LOG: runs each of few tests that failed beside others once more, alone. What failed is still told at the end: a
# test that needs this twice is to be repaired, and whoever reads the summary sees its name.
try_again() {
    local log=$1 name names
    names=$(failed_on_servers "$log")
    only_it_failed "$log" || return 1
    [ "$(failures "$log")" -le "$MOST_SECOND_TRIES" ] || return 1
    [ -n "$names" ] && [ "$(wc -l <<<"$names")" -eq "$(failures "$log")" ] || return 1
    step "Second try, each alone: $(tr '\n' ' ' <<<"$names")"
    for name in $names; do
        # shellcheck disable=SC2086 # one option or none
        run cargo test $LOCKED --test it -- --exact "$name" || return 1
    done
    second_try="passed only when tried again, alone: $(tr '\n' ' ' <<<"$names")"
}
