# Installing Debian packages without starting a server.
# shellcheck shell=bash

POLICY=/usr/sbin/policy-rc.d
POLICY_MARK="written by a script of Posthaste while it installs packages"
NO_CLUSTER=/etc/postgresql-common/createcluster.d/posthaste-no-cluster.conf
PACKAGES_UPDATED=no

can_install_packages() {
    [ "$(id -u)" -eq 0 ] && [ -f /etc/debian_version ] && have apt-get
}

# install_packages PACKAGE...
install_packages() {
    say "Installing with apt-get: $*"
    update_packages
    apt_get install -y --no-install-recommends "$@" && return 0
    show_tail "$RUN_DIR/apt.log"
    die "apt-get install $* failed"
}

# offered_version PACKAGE: the upstream version that apt would install; empty when there is none.
offered_version() {
    apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p'
}

update_packages() {
    [ "$PACKAGES_UPDATED" = no ] || return 0
    PACKAGES_UPDATED=yes
    make_run_dir
    # An old list of packages may still do, so this failure is left for the installation to find.
    apt_get update || warn "apt-get update failed"
}

# In the foreground on purpose: on Ctrl-C apt-get first brings dpkg to a sane state, and this script waits for that.
apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$RUN_DIR/apt.log" 2>&1
}

# install_servers PACKAGE...: packages of servers start them and enable them at boot, and the one of PostgreSQL makes a
# cluster. A script that only wants the programs must leave none of that behind.
install_servers() {
    # Only one script at a time may change and restore the policy.
    exec 9>/run/posthaste-packages.lock
    flock 9
    at_end allow_server_starts
    forbid_server_starts
    install_packages "$@"
    leave_disabled_at_boot "$@"
    allow_server_starts
    exec 9>&-
}

forbid_server_starts() {
    # There may be a policy already, as in many container images: it is kept and put back. One that carries our mark was
    # left by a script that was killed, and is nobody's.
    if [ -e "$POLICY" ] && ! grep -q "$POLICY_MARK" "$POLICY"; then
        mv "$POLICY" "$POLICY.before-posthaste"
    fi
    printf '#!/bin/sh\n# %s; removed right after.\nexit 101\n' "$POLICY_MARK" >"$POLICY"
    chmod 755 "$POLICY"
    mkdir -p "${NO_CLUSTER%/*}"
    printf 'create_main_cluster = false\n' >"$NO_CLUSTER"
}

# Called after the installation, and at the end of the script in case that the installation did not get so far.
allow_server_starts() {
    [ -e "$NO_CLUSTER" ] || return 0
    rm -f "$NO_CLUSTER" "$POLICY"
    [ ! -e "$POLICY.before-posthaste" ] || mv "$POLICY.before-posthaste" "$POLICY"
}

leave_disabled_at_boot() {
    local package
    have systemctl || return 0
    for package in "$@"; do
        systemctl disable "$package.service" >/dev/null 2>&1 || true
    done
}
