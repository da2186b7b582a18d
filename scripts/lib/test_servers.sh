# The servers that the integration tests talk to.
# shellcheck shell=bash

TEST_SERVERS=""  # given, testcontainers or native

# choose_test_servers: sets TEST_SERVERS and says so.
choose_test_servers() {
    case ${POSTHASTE_TEST_DATABASE_URL:+database}${POSTHASTE_TEST_AMQP_URL:+broker} in
        databasebroker)
            TEST_SERVERS=given
            check_given_programs
            say "Servers: those of POSTHASTE_TEST_DATABASE_URL and POSTHASTE_TEST_AMQP_URL"
            return
            ;;
        database | broker) die_of_usage "set both of POSTHASTE_TEST_DATABASE_URL and POSTHASTE_TEST_AMQP_URL, or neither" ;;
    esac
    choose_servers
    case $SERVERS in
        docker)
            TEST_SERVERS=testcontainers
            export_docker_host
            say "Servers: containers, which the tests start themselves (testcontainers)"
            ;;
        native)
            TEST_SERVERS=native
            say "Servers: $(servers_text)"
            ;;
    esac
}

# launch_test_servers: to be called early, they start while cargo compiles. Durability is not what these tests look at.
launch_test_servers() {
    # shellcheck disable=SC2034 # read where PostgreSQL is started
    PG_OPTIONS="-c fsync=off"
    [ "$TEST_SERVERS" != native ] || launch_servers
}

# export_test_servers: waits until they answer, and tells the tests where they are.
export_test_servers() {
    if [ "$TEST_SERVERS" = native ]; then
        await_servers
        export POSTHASTE_TEST_DATABASE_URL=$DATABASE_SERVER/postgres
        export POSTHASTE_TEST_AMQP_URL=$BROKER_URL
    fi
    # For tests that kill a server: those start one of their own.
    if [ "$TEST_SERVERS" != testcontainers ] && find_postgres && find_rabbitmq; then
        export POSTHASTE_POSTGRES_BIN=$PG_BIN
        export POSTHASTE_RABBITMQ_BIN=$RABBIT_BIN
    fi
}
