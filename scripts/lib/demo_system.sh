# The system that scripts/demo shows: servers, the posthaste process, endpoints with a receiver each.
# shellcheck shell=bash

POSTHASTE=""        # path of the program
SYSTEM_JOB=""       # posthaste run
SYSTEM_LOG=""
TELEMETRY_PORT=""
ENDPOINT=""         # id of the endpoint that was opened last
RECEIVER=""         # port of its receiver

# find_posthaste: sets POSTHASTE; true when target/release is newer than everything it is made from.
find_posthaste() {
    POSTHASTE=$(target_directory)/release/posthaste
    [ -x "$POSTHASTE" ] && [ -z "$(find src Cargo.toml Cargo.lock -newer "$POSTHASTE")" ]
}

posthaste() {
    "$POSTHASTE" "$@"
}

# configure_system: the caller's own configuration of Posthaste must not reach the demo, nor may a configuration file: so
# it runs in its scratch directory. The file that it writes there is for people who want to join with a second terminal.
configure_system() {
    local name
    for name in $(env | sed -n 's/^\(POSTHASTE_[A-Z0-9_]*__[A-Z0-9_]*\)=.*/\1/p'); do
        unset "$name"
    done
    free_port
    TELEMETRY_PORT=$FREE_PORT
    (umask 077 && cat >"$RUN_DIR/env") <<END
export DATABASE_URL='$DATABASE_SERVER/shop'
export AMQP_URL='$BROKER_URL'
export POSTHASTE_SECURITY__ENCRYPTION_KEY='$(posthaste keygen)'
export POSTHASTE_RETRY__SCHEDULE='["1s","2s"]'
export POSTHASTE_DELIVERY__ALLOW_CIDRS='["127.0.0.0/8"]'
export POSTHASTE_TELEMETRY__LISTEN='127.0.0.1:$TELEMETRY_PORT'
export POSTHASTE_SHUTDOWN__GRACE='5s'
export PATH='${POSTHASTE%/*}':"\$PATH"
END
    # shellcheck source=/dev/null
    . "$RUN_DIR/env"
    cd "$RUN_DIR"
}

# start_system: after the receivers, so that it is stopped before them and closes its connections to them.
start_system() {
    SYSTEM_LOG=$RUN_DIR/posthaste.log
    spawn TERM "$SYSTEM_LOG" "$POSTHASTE" run
    SYSTEM_JOB=$SPAWNED
    wait_until 30 "posthaste run to be ready" http GET "$TELEMETRY_PORT" /readyz
}

# open_endpoint NAME BEHAVIOUR: a receiver, and the endpoint that leads to it. Sets ENDPOINT and RECEIVER.
open_endpoint() {
    local answer secret
    free_port
    RECEIVER=$FREE_PORT
    answer=$(posthaste endpoint add --tenant acme --url "http://127.0.0.1:$RECEIVER/hooks" --event-types 'order.*' --json)
    ENDPOINT=$(printf '%s' "$answer" | json_string id)
    secret=$(printf '%s' "$answer" | json_string secret)
    # Not on the command line, which every user of this machine can read.
    POSTHASTE_RECEIVER_SECRET=$secret \
        spawn TERM "$RUN_DIR/receiver-$1.log" "$POSTHASTE" receiver --listen "127.0.0.1:$RECEIVER" --behaviour "$2"
    wait_until 10 "the $1 receiver to listen" http GET "$RECEIVER" /stats
}

# received PORT FIGURE: what the receiver there has counted.
received() {
    http GET "$1" /stats | json_number "$2"
}

# query [PSQL-OPTION...]: answers the SQL on the standard input with bare values.
query() {
    sql shop -A -t "$@"
}

# has_deliveries ENDPOINT STATUS COUNT
has_deliveries() {
    [ "$(count_deliveries "$1" "$2")" -eq "$3" ]
}

count_deliveries() {
    query -v endpoint="$1" -v status="$2" <<'END'
select count(*) from posthaste.deliveries where endpoint_id = :'endpoint' and status = :'status';
END
}

# wait_until SECONDS TEXT COMMAND...: waits for the state, not for a time; too late, or posthaste gone, is the end.
wait_until() {
    local deadline=$((SECONDS + $1)) text=$2
    shift 2
    until "$@" >/dev/null; do
        if [ -n "$SYSTEM_JOB" ] && ! job_alive "$SYSTEM_JOB"; then
            show_tail "$SYSTEM_LOG"
            die "posthaste run ended while waiting for $text"
        elif [ "$SECONDS" -gt "$deadline" ]; then
            show_tail "$SYSTEM_LOG"
            die "waited in vain for $text"
        fi
        sleep 0.1
    done
}
