# Random values for passwords and keys.
# shellcheck shell=bash

# random_hex BYTES
random_hex() {
    od -An -v -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

# random_base64 BYTES
random_base64() {
    dd if=/dev/urandom bs="$1" count=1 2>/dev/null | base64 | tr -d '\n'
}
