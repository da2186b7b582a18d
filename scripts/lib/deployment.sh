# The manifests of config/kubernetes and the units of config/systemd.
# shellcheck shell=bash

EXPOSURE=15  # in tenths: what `systemd-analyze security` may find at most

# install_schemas: sets PYTHON to one that has what requirements.txt asks for; kept below target. False where that cannot be had.
install_schemas() {
    local directory wanted=tests/deployment/requirements.txt
    have python3 || return 1
    directory=$(target_directory)/deployment
    PYTHON=$directory/bin/python
    cmp -s "$wanted" "$directory/requirements.txt" && return 0
    run python3 -m venv --clear "$directory" &&
        run "$directory/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" &&
        cp "$wanted" "$directory/requirements.txt"
}

check_manifests() {
    run "$PYTHON" tests/deployment/check.py config/kubernetes
}

# check_units: as if the program were installed. `systemd-analyze verify` wants to see it, and the manual.
check_units() {
    local unit exposure
    make_run_dir
    mkdir -p "$RUN_DIR/units"
    for unit in config/systemd/*.service; do
        sed "s#/usr/local/bin/posthaste#$(command -v true)#" "$unit" >"$RUN_DIR/units/${unit##*/}"
    done
    run systemd-analyze verify --man=no "$RUN_DIR"/units/*.service
    for unit in config/systemd/*.service; do
        exposure=$(systemd-analyze security --offline=true --no-pager --threshold="$EXPOSURE" "$unit") ||
            die "$unit is more exposed than $EXPOSURE tenths: ${exposure##*$'\n'}"
        exposure=${exposure##*: }
        say "${unit##*/}: exposure ${exposure%% *}"
    done
}
