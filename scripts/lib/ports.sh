# Free TCP ports on the loopback address.
# shellcheck shell=bash

PORTS_GIVEN=" "

port_answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_port: sets FREE_PORT. Nothing reserves the port until a server binds it, so whoever starts a server tries again
# when it was taken in between. 20000-31999 lies below the ports that systems use for outgoing connections.
free_port() {
    local try=0
    while [ "$try" -lt 200 ]; do
        FREE_PORT=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        case $PORTS_GIVEN in
            *" $FREE_PORT "*) ;;
            *)
                if ! port_answers "$FREE_PORT"; then
                    PORTS_GIVEN="$PORTS_GIVEN$FREE_PORT "
                    return 0
                fi
                ;;
        esac
        try=$((try + 1))
    done
    die "found no free port between 20000 and 31999 on 127.0.0.1"
}
