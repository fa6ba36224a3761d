#!/bin/sh
# An application in shell: publish each line of standard input, and say when the broker has it.
#
#   publish.sh NAME TOPIC <readings.txt
#
# Needs socat, and [applications] in agent.toml with NAME for this user. Exit status 1 if anything was refused, or if the
# agent went away before all was acknowledged.
set -eu
name=$1 topic=$2
socket=${BIRTHMARK_APPLICATIONS:-/run/birthmark-agent/applications}

lines() {
    printf 'HELLO %s\n' "$name"
    tag=0
    while IFS= read -r reading; do
        tag=$((tag + 1))
        printf 'PUB %s %s %s\n' "$tag" "$topic" "$(printf %s "$reading" | base64 -w 0)"
    done
    printf '%s\n' "$tag" >"$sent"
}

sent=$(mktemp)
trap 'rm -f "$sent"' EXIT
# -t: how long to wait for the last ACK after the last line was sent.
lines | socat -t 60 - "UNIX-CONNECT:$socket" | {
    acknowledged=0 refused=0
    while read -r word rest; do
        case $word in
            ACK) acknowledged=$((acknowledged + 1)) ;;
            NAK | ERR) refused=$((refused + 1)) && printf 'refused: %s\n' "$rest" >&2 ;;
        esac
    done
    printf '%s acknowledged\n' "$acknowledged"
    [ "$refused" -eq 0 ] && [ "$acknowledged" -eq "$(cat "$sent")" ]
}
