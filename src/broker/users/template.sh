# Users of Posthaste with no more rights than they need. Printed by `posthaste roles rabbitmq`; see docs/roles.md.
#
# Run it with sh on a node of the broker, where rabbitmqctl works. Running it again changes nothing but permissions that
# differ. A new user cannot log in until you say how:
#
#   rabbitmqctl change_password {prefix}_relay
set -eu
there=$(rabbitmqctl -q list_users | cut -f 1)
# user NAME CONFIGURE WRITE READ
user() {
    printf '%s\n' "$there" | grep -qxF -e "$1" || {
        # Every user begins with some password; this one is forgotten at once.
        rabbitmqctl -q add_user "$1" "$(od -An -N 24 -tx1 /dev/urandom | tr -d ' \n')"
        rabbitmqctl -q clear_password "$1"
    }
    rabbitmqctl -q set_permissions -p {vhost} "$1" "$2" "$3" "$4"
}
{users}
