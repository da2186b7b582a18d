# The programs of RabbitMQ and Erlang that are installed on this machine.
# shellcheck shell=bash

RABBITMQ_OLDEST=3.10  # the first with at-least-once dead lettering
RABBITMQ_FILES="rabbitmq-server rabbitmqctl rabbitmq-diagnostics rabbitmq-defaults"
RABBIT_BIN=""         # directory of its programs
RABBIT_PATH=""        # PATH with Erlang in front, where that one was given

# find_rabbitmq: sets RABBIT_BIN to POSTHASTE_RABBITMQ_BIN, else to the first of the usual places. In /usr/sbin are wrappers
# that change to the user rabbitmq and to its settings, so the programs behind them come first.
find_rabbitmq() {
    local dir
    find_erlang || return 1
    if [ -n "${POSTHASTE_RABBITMQ_BIN:-}" ]; then
        check_given_rabbitmq
        RABBIT_BIN=$POSTHASTE_RABBITMQ_BIN
        return 0
    fi
    for dir in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin /opt/homebrew/opt/rabbitmq/sbin \
        /usr/local/opt/rabbitmq/sbin /opt/local/lib/rabbitmq/bin $(path_directories); do
        if [ -x "$dir/rabbitmq-server" ] && [ -f "$dir/rabbitmq-defaults" ]; then
            RABBIT_BIN=$dir
            return 0
        fi
    done
    return 1
}

# rabbitmq-defaults is not beside wrappers that change the user.
check_given_rabbitmq() {
    # shellcheck disable=SC2086 # a list of names
    check_given_directory POSTHASTE_RABBITMQ_BIN $RABBITMQ_FILES
}

# find_erlang: the Erlang of POSTHASTE_ERLANG_BIN, else the one in PATH.
find_erlang() {
    RABBIT_PATH=$PATH
    if [ -n "${POSTHASTE_ERLANG_BIN:-}" ]; then
        check_given_erlang
        RABBIT_PATH=$POSTHASTE_ERLANG_BIN:$PATH
        return 0
    fi
    have erl && have epmd
}

check_given_erlang() {
    check_given_directory POSTHASTE_ERLANG_BIN erl epmd
}
