# A throw-away RabbitMQ from the programs installed on this machine, beside any other node that runs here.
# shellcheck shell=bash
#
# It has everything of its own: node name, cookie, directories, ports, and its own epmd (Erlang's registry of nodes), which
# would otherwise be shared with the other nodes of the machine, or be left running.

RABBITMQ_OLDEST=3.10  # the first with at-least-once dead lettering
RABBIT_BIN=""         # directory of its programs
RABBIT_DIR=""         # its home, data and settings
RABBIT_USER=""        # the system user that it runs as, where this script is root
RABBIT_JOB=""
EPMD_JOB=""
AMQP_PORT=""
MANAGEMENT_PORT=""
DIST_PORT=""
EPMD_PORT=""

# find_rabbitmq: sets RABBIT_BIN. In /usr/sbin are wrappers that change to the user rabbitmq and to its settings, so the
# programs behind them come first.
find_rabbitmq() {
    local dir
    have erl && have epmd || return 1
    for dir in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin /opt/homebrew/opt/rabbitmq/sbin \
        /usr/local/opt/rabbitmq/sbin /opt/local/lib/rabbitmq/bin $(path_directories); do
        if [ -x "$dir/rabbitmq-server" ] && [ -f "$dir/rabbitmq-defaults" ]; then
            RABBIT_BIN=$dir
            return 0
        fi
    done
    return 1
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
    await_epmd
    spawn KILL "$RUN_DIR/rabbitmq.log" in_rabbit_environment "$RABBIT_BIN/rabbitmq-server"
    RABBIT_JOB=$SPAWNED
}

# A node that finds no epmd starts one itself, and that one would stay.
await_epmd() {
    local tenths=50
    while job_alive "$EPMD_JOB" && ! port_answers "$EPMD_PORT" && [ "$tenths" -gt 0 ]; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
}

# in_rabbit_environment COMMAND...: nothing of the caller's environment but PATH, so that no RABBITMQ_ or ERL_ variable and
# no file in /etc/rabbitmq has a say.
in_rabbit_environment() {
    cd "$RABBIT_DIR" || return
    # Debian's hard limit is high enough; the soft one of 1024 is not.
    [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 16384 ] || ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    as_user "$RABBIT_USER" env -i PATH="$PATH" HOME="$RABBIT_DIR" LANG=C.UTF-8 \
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
    cat "$RUN_DIR/epmd.log" "$RUN_DIR/rabbitmq.log" "$RABBIT_DIR/log/node.log" 2>/dev/null |
        grep -q -i -e eaddrinuse -e 'already in use' -e 'address in use'
}

fail_rabbitmq() {
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
    sed -n 's/.*Starting RabbitMQ \([0-9.]*\) on Erlang.*/\1/p' "$RABBIT_DIR/log/node.log" | head -n 1
}
