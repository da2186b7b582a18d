# Servers of a script that runs as root get a user without rights; PostgreSQL insists on it.
# shellcheck shell=bash

# unprivileged_user NAME...: prints the first of these users that exists; nobody is the last resort.
unprivileged_user() {
    local name
    for name in "$@" nobody; do
        if id -u "$name" >/dev/null 2>&1; then
            printf '%s' "$name"
            return 0
        fi
    done
    die "no user to run a server as: none of $* nobody exists"
}

# as_user NAME COMMAND...: replaces this process. Without root's rights the command runs as who we are.
as_user() {
    local user=$1
    shift
    if [ "$(id -u)" -ne 0 ]; then
        exec "$@"
    elif have setpriv && setpriv --clear-groups true 2>/dev/null; then
        exec setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --clear-groups -- "$@"
    elif have runuser; then
        exec runuser -u "$user" -- "$@"
    fi
    die "running as root, and neither setpriv nor runuser (package util-linux) is there to start a server as $user; run this as a normal user"
}

# server_dir USER NAME: makes a directory below RUN_DIR that USER owns, and prints it.
server_dir() {
    local dir=$RUN_DIR/$2
    mkdir -m 700 "$dir"
    if [ "$(id -u)" -eq 0 ]; then
        chown "$1" "$dir"
        (as_user "$1" test -w "$dir") ||
            die "the user $1 cannot reach $dir; set TMPDIR to a directory that every user may enter, such as /tmp"
    fi
    printf '%s' "$dir"
}
