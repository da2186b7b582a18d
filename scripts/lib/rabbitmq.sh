# A throw-away RabbitMQ from the programs installed on this machine, beside any other node that runs here.
# shellcheck shell=bash
#
# It has everything of its own: node name, cookie, directories, ports, and its own epmd (Erlang's registry of nodes), which
# would otherwise be shared with the other nodes of the machine, or be left running.

RABBITMQ_OLDEST=3.10  # the first with at-least-once dead lettering
RABBITMQ_FILES="rabbitmq-server rabbitmqctl rabbitmq-diagnostics rabbitmq-defaults"
RABBIT_BIN=""         # directory of its programs
RABBIT_PATH=""        # PATH with Erlang in front, where that one was given
RABBIT_DIR=""         # its home, data and settings
RABBIT_USER=""        # the system user that it runs as, where this script is root
RABBIT_JOB=""
EPMD_JOB=""
AMQP_PORT=""
MANAGEMENT_PORT=""
DIST_PORT=""
EPMD_PORT=""

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

# launch_rabbitmq: begins to start it; await_rabbitmq says when it answers.
launch_rabbitmq() {
    RABBIT_USER=$(unprivileged_user rabbitmq postgres)
    free_port; AMQP_PORT=$FREE_PORT
    free_port; MANAGEMENT_PORT=$FREE_PORT
    free_port; DIST_PORT=$FREE_PORT
    free_port; EPMD_PORT=$FREE_PORT
    RABBIT_DIR=$(server_dir "$RABBIT_USER" rabbitmq)
    (as_user "$RABBIT_USER" sh -c 'umask 077; cd "$0" && mkdir conf.d && cat >rabbitmq.conf' "$RABBIT_DIR") <<END
listeners.tcp.1 = 127.0.0.1:$AMQP_PORT
management.tcp.ip = 127.0.0.1
management.tcp.port = $MANAGEMENT_PORT
log.file.level = info
END
    (as_user "$RABBIT_USER" sh -c 'umask 077; cd "$0" && echo "[rabbitmq_management]." >enabled_plugins &&
        : >rabbitmq-env.conf && cat >.erlang.cookie && chmod 400 .erlang.cookie' "$RABBIT_DIR") <<END
$(random_hex 20)
END
    spawn TERM "$RUN_DIR/epmd.log" in_rabbit_environment epmd -address 127.0.0.1 -port "$EPMD_PORT"
    EPMD_JOB=$SPAWNED
    # Without it there is nothing to start, and await_rabbitmq finds it gone.
    RABBIT_JOB=$EPMD_JOB
    await_epmd || return 0
    spawn KILL "$RUN_DIR/rabbitmq.log" in_rabbit_environment "$RABBIT_BIN/rabbitmq-server"
    RABBIT_JOB=$SPAWNED
}

# A node that finds no epmd starts one itself, and that one would stay. Ours ends without a word where the port is taken,
# perhaps by another epmd.
await_epmd() {
    local tenths=50
    until port_answers "$EPMD_PORT" && job_alive "$EPMD_JOB"; do
        job_alive "$EPMD_JOB" && [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
        tenths=$((tenths - 1))
    done
}

# in_rabbit_environment COMMAND...: nothing of the caller's environment but a PATH, so that no RABBITMQ_ or ERL_ variable and
# no file in /etc/rabbitmq has a say.
in_rabbit_environment() {
    cd "$RABBIT_DIR" || return
    raise_open_files
    as_user "$RABBIT_USER" env -i PATH="$RABBIT_PATH" HOME="$RABBIT_DIR" LANG=C.UTF-8 \
        ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_NODENAME="posthaste-$AMQP_PORT@localhost" \
        RABBITMQ_DIST_PORT="$DIST_PORT" \
        RABBITMQ_CONF_ENV_FILE="$RABBIT_DIR/rabbitmq-env.conf" \
        RABBITMQ_CONFIG_FILE="$RABBIT_DIR/rabbitmq.conf" \
        RABBITMQ_CONFIG_FILES="$RABBIT_DIR/conf.d" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$RABBIT_DIR/advanced.config" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$RABBIT_DIR/enabled_plugins" \
        RABBITMQ_MNESIA_BASE="$RABBIT_DIR/data" \
        RABBITMQ_GENERATED_CONFIG_DIR="$RABBIT_DIR/generated" \
        RABBITMQ_LOG_BASE="$RABBIT_DIR/log" \
        RABBITMQ_LOGS="$RABBIT_DIR/log/node.log" \
        RABBITMQ_PID_FILE="$RABBIT_DIR/node.pid" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}" \
        "$@"
}

# Every queue takes files, and the usual soft limit is 1024.
raise_open_files() {
    case $(ulimit -n) in
        unlimited) ;;
        *) [ "$(ulimit -n)" -ge 16384 ] || ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -Hn)" 2>/dev/null || true ;;
    esac
}

await_rabbitmq() {
    local tenths=1200 tries=1
    until rabbitmq_is_ready; do
        if ! job_alive "$RABBIT_JOB" || ! job_alive "$EPMD_JOB"; then
            [ "$tries" -lt 3 ] && rabbitmq_port_was_taken || fail_rabbitmq "RabbitMQ did not start"
            tries=$((tries + 1))
            relaunch_rabbitmq
        elif [ "$tenths" -le 0 ]; then
            fail_rabbitmq "RabbitMQ was not ready within 120 s"
        fi
        sleep 0.1
        tenths=$((tenths - 1))
    done
}

# Its own word, not the port's: another server could be the one that answers there.
rabbitmq_is_ready() {
    job_alive "$RABBIT_JOB" && grep -q 'Server startup complete' "$RABBIT_DIR/log/node.log" 2>/dev/null
}

rabbitmq_port_was_taken() {
    job_alive "$EPMD_JOB" || return 0
    grep -q -i -e eaddrinuse -e 'already in use' -e already_used \
        "$RUN_DIR/rabbitmq.log" "$RABBIT_DIR/log/node.log" 2>/dev/null
}

fail_rabbitmq() {
    show_tail "$RUN_DIR/epmd.log"
    show_tail "$RUN_DIR/rabbitmq.log"
    show_tail "$RABBIT_DIR/log/node.log"
    die "$1"
}

relaunch_rabbitmq() {
    say "A port of RabbitMQ was taken in the meantime; it gets others"
    stop_job "$RABBIT_JOB"
    stop_job "$EPMD_JOB"
    rm -rf "$RABBIT_DIR" "$RUN_DIR/rabbitmq.log" "$RUN_DIR/epmd.log"
    launch_rabbitmq
}

# rabbitmq_version: of the node that runs.
rabbitmq_version() {
    sed -n '/Starting RabbitMQ .* on Erlang/{s/.*Starting RabbitMQ \([0-9.]*\).*/\1/p;q;}' "$RABBIT_DIR/log/node.log"
}
