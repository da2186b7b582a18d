# Everything that the scripts share. Sourced from the top of the repository.
# shellcheck shell=bash

TOP=$PWD  # of the repository

. scripts/lib/say.sh
. scripts/lib/jobs.sh
. scripts/lib/ports.sh
. scripts/lib/packages.sh
. scripts/lib/rust.sh
. scripts/lib/servers.sh
