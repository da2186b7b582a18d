# Processes and directories of our own, which are gone when the script is gone: at its end, on a failure and on Ctrl-C.
# shellcheck shell=bash
#
# Every process is started in a process group of its own. So Ctrl-C reaches this script alone, and the script stops the
# processes in the right order: the newest first, since what was started later may still need what was started before.

RUN_DIR=""  # scratch directory of this run, removed at the end
JOBS=""     # "pid:signal" of what is running, the newest first
ON_END=""   # functions to call once everything is stopped, one per line, the newest first

# end_cleanly: to be called once, before anything is started.
#
# For bash 5.2: a signal that arrives in the first of two $(..) of one command runs its trap while the shell reads the
# second, which fails with a syntax error. What takes a while is therefore alone in its command: a=$(..), then b=$(..).
end_cleanly() {
    trap end_everything EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

end_everything() {
    local status=$? job hook
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    for job in $JOBS; do
        stop_job "${job%%:*}"
    done
    for hook in $ON_END; do
        "$hook"
    done
    remove_run_dir
    exit "$status"
}

# at_end FUNCTION
at_end() {
    ON_END="$1
$ON_END"
}

make_run_dir() {
    [ -z "$RUN_DIR" ] || return 0
    RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/posthaste.XXXXXX") || die "cannot make a directory under ${TMPDIR:-/tmp}"
    # Others may pass through, not look around: the servers run as users of their own below it.
    chmod 711 "$RUN_DIR"
}

remove_run_dir() {
    local try
    [ -n "$RUN_DIR" ] || return 0
    # A process that was killed a moment ago may still be writing.
    for try in 1 2 3 4 5; do
        rm -rf "$RUN_DIR" 2>/dev/null && return 0
        sleep 0.2
    done
    warn "could not remove $RUN_DIR (tried $try times)"
}

# spawn SIGNAL LOG COMMAND...: runs a command in the background; SIGNAL asks it to stop. Sets SPAWNED to its process id.
spawn() {
    local signal=$1 log=$2
    shift 2
    set -m
    "$@" >>"$log" 2>&1 </dev/null &
    SPAWNED=$!
    set +m
    JOBS="$SPAWNED:$signal $JOBS"
}

# run COMMAND...: runs a command and waits for it, like plain COMMAND, but a signal to this script ends it at once.
run() {
    local pid status=0
    set -m
    "$@" </dev/null &
    pid=$!
    set +m
    JOBS="$pid:INT $JOBS"
    wait "$pid" || status=$?
    forget_job "$pid"
    return "$status"
}

job_alive() {
    kill -0 "$1" 2>/dev/null
}

# stop_job PID: asks its process group to stop, waits up to 15 s, then kills what is left of it. The redirection keeps
# the shell from reporting what it killed.
stop_job() {
    local pid=$1 signal tenths=0
    signal=$(signal_of "$pid")
    forget_job "$pid"
    kill -s "${signal:-TERM}" -- "-$pid" || true
    while kill -0 -- "-$pid" && [ "$tenths" -lt 150 ]; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -s KILL -- "-$pid" || true
    wait "$pid" || true
} 2>/dev/null

signal_of() {
    local job
    for job in $JOBS; do
        [ "${job%%:*}" != "$1" ] || printf '%s' "${job##*:}"
    done
}

forget_job() {
    local job rest=""
    for job in $JOBS; do
        [ "${job%%:*}" = "$1" ] || rest="$rest $job"
    done
    JOBS=$rest
}
