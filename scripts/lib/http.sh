# HTTP to a port of this machine without curl, which not everybody has.
# shellcheck shell=bash

# http METHOD PORT PATH [BODY]: prints the body of a 2xx answer; any other answer, or none, is false.
http() {
    local body=${4:-} status line
    (
        exec 3<>"/dev/tcp/127.0.0.1/$2" || exit
        printf '%s %s HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' \
            "$1" "$3" "${#body}" "$body" >&3
        IFS= read -r -t 5 status <&3 || exit
        case $status in HTTP/*" 2"*) ;; *) exit 1 ;; esac
        while IFS= read -r -t 5 line <&3 && [ "${#line}" -gt 1 ]; do :; done
        cat <&3
    ) 2>/dev/null
}

# json_string NAME, json_number NAME: a member of the JSON on the standard input, whose names must be unique.
json_string() {
    tr -d '\n' | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}

json_number() {
    local found
    found=$(tr -d '\n' | sed -n "s/.*\"$1\" *: *\([0-9][0-9]*\).*/\1/p")
    printf '%s' "${found:-0}"
}
