# Throw-away PostgreSQL and RabbitMQ in containers.
# shellcheck shell=bash

DOCKER_NAME=posthaste-$$   # what the names of the containers begin with
DOCKER_JOB=""
DOCKER_PASSWORD=""         # of the superuser posthaste

# docker_answers: is there an engine? The client alone is often installed. One on another machine is of no use: its ports
# are not ours.
docker_answers() {
    have docker || return 1
    case $(docker_endpoint) in tcp:* | ssh:*) return 1 ;; esac
    bounded 10 docker info
}

# docker_endpoint: where the engine is, as the environment or the client's context says.
docker_endpoint() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        printf '%s\n' "$DOCKER_HOST"
    else
        docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null
    fi
}

# export_docker_host: for those who know nothing of contexts, as testcontainers.
export_docker_host() {
    local endpoint
    endpoint=$(docker_endpoint)
    [ -z "$endpoint" ] || export DOCKER_HOST="$endpoint"
}

# docker_images: the images that docker-compose.yml names, which is the one place that names them.
docker_images() {
    sed -n -e 's/^ *image: *\(postgres:[^ ]*\) *$/\1/p' -e 's/^ *image: *\(rabbitmq:[^ ]*\) *$/\1/p' "$TOP/docker-compose.yml"
}

# launch_docker: begins to fetch and start both; await_docker says when they answer.
launch_docker() {
    DOCKER_PASSWORD=$(random_hex 16)
    at_end remove_containers
    spawn TERM "$RUN_DIR/docker.log" run_containers
    DOCKER_JOB=$SPAWNED
}

# As root, and before the server has made the Erlang cookie, the tool would make one that the server cannot read.
RABBITMQ_IS_UP='test -s /var/lib/rabbitmq/.erlang.cookie && exec rabbitmq-diagnostics -q check_port_connectivity'

run_containers() {
    local image
    for image in $(docker_images); do
        run_container "$image" || return
    done
    # By TCP: the server that initializes the database listens on its socket alone.
    await_container postgres pg_isready -q -h 127.0.0.1 &&
        await_container rabbitmq sh -c "$RABBITMQ_IS_UP"
}

# run_container IMAGE: --env NAME without a value takes it from here, so that the password is in no command line.
run_container() {
    local ports="5432"
    [ "${1%%:*}" = postgres ] || ports="5672 15672"
    # shellcheck disable=SC2046,SC2086 # lists of options and of numbers
    POSTGRES_USER=posthaste POSTGRES_PASSWORD=$DOCKER_PASSWORD POSTGRES_DB=posthaste \
        docker run --detach --name "$DOCKER_NAME-${1%%:*}" --hostname "${1%%:*}" \
        --env POSTGRES_USER --env POSTGRES_PASSWORD --env POSTGRES_DB \
        $(printf -- '--publish 127.0.0.1::%s ' $ports) "$1"
}

# await_container postgres|rabbitmq COMMAND...: until the command succeeds in it, at most two minutes.
await_container() {
    local service=$1 deadline=$((SECONDS + 120))
    shift
    until in_container "$service" "$@"; do
        if [ "$SECONDS" -gt "$deadline" ] || ! container_runs "$service"; then
            docker logs --tail 20 "$DOCKER_NAME-$service"
            return 1
        fi
        sleep 0.3
    done
}

container_runs() {
    [ "$(docker inspect --format '{{.State.Running}}' "$DOCKER_NAME-$1")" = true ]
}

# in_container postgres|rabbitmq COMMAND...: with our standard input.
in_container() {
    local service=$1
    shift
    docker exec --interactive "$DOCKER_NAME-$service" "$@"
}

# container_port postgres|rabbitmq PORT: the port of 127.0.0.1 that leads there.
container_port() {
    docker port "$DOCKER_NAME-$1" "$2" | sed -n 's/^127\.0\.0\.1:\([0-9]*\)$/\1/p' | head -n 1
}

# name_containers: sets what await_servers promises.
name_containers() {
    local database broker management
    database=$(container_port postgres 5432)
    broker=$(container_port rabbitmq 5672)
    management=$(container_port rabbitmq 15672)
    DATABASE_SERVER=postgres://posthaste:$DOCKER_PASSWORD@127.0.0.1:$database
    BROKER_URL=amqp://guest:guest@127.0.0.1:$broker/%2f
    MANAGEMENT_URL=http://127.0.0.1:$management
}

# await_docker: false when they did not come up; fetching the images may take minutes.
await_docker() {
    local tenths=9000
    say "Waiting for the containers; fetching their images can take minutes the first time"
    while job_alive "$DOCKER_JOB"; do
        if [ "$tenths" -le 0 ]; then
            stop_job "$DOCKER_JOB"
            break
        fi
        sleep 0.1
        tenths=$((tenths - 1))
    done
    forget_job "$DOCKER_JOB"
    wait "$DOCKER_JOB" && return 0
    show_tail "$RUN_DIR/docker.log"
    return 1
}

remove_containers() {
    local image
    for image in $(docker_images); do
        docker rm --force --volumes "$DOCKER_NAME-${image%%:*}" >/dev/null 2>&1 || true
    done
}
