# The servers that the integration tests talk to. The tests start them, unless they are given.
# shellcheck shell=bash

# choose_test_servers: says which, and tells the tests. Those that kill servers start them from the programs of this machine,
# if there are any.
choose_test_servers() {
    case ${POSTHASTE_TEST_DATABASE_URL:+database}${POSTHASTE_TEST_AMQP_URL:+broker} in
        databasebroker)
            find_programs
            say "Servers: those of POSTHASTE_TEST_DATABASE_URL and POSTHASTE_TEST_AMQP_URL"
            return
            ;;
        database | broker) die_of_usage "set both of POSTHASTE_TEST_DATABASE_URL and POSTHASTE_TEST_AMQP_URL, or neither" ;;
    esac
    choose_servers
    export POSTHASTE_SERVERS=$SERVERS
    say "Servers: $(servers_text)"
}
