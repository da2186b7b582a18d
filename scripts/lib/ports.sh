# Free TCP ports on the loopback address.
# shellcheck shell=bash

# free_port: sets FREE_PORT. 20000-31999 lies below the ports that systems use for outgoing connections.
free_port() {
    local try=0
    while [ "$try" -lt 200 ]; do
        FREE_PORT=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$FREE_PORT") 2>/dev/null || return 0
        try=$((try + 1))
    done
    die "found no free port between 20000 and 31999 on 127.0.0.1"
}
