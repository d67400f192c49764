#!/bin/sh
# Tell sao-events that a source has new data. For cron, Makefiles, Meltano, anything with a shell:
#   SAO_URL=http://127.0.0.1:8181 SAO_DATA_TOKEN=... landed.sh SOURCE [LOAD_ID [ROWS]]
# It tries for a minute and fails where the service does not take it: `load && landed.sh raw.orders || alert`.
set -eu
source=${1:?usage: landed.sh SOURCE [LOAD_ID [ROWS]]}
load_id=${2:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}
case "$source$load_id${3:-0}" in *[!A-Za-z0-9._:/+-]*) echo "landed.sh: only plain names, ids and counts" >&2; exit 2 ;; esac
body="{\"source\": \"$source\", \"load_id\": \"$load_id\"${3:+, \"rows\": $3}}"
# The token goes in over a file descriptor: what is on the command line, every user of the machine can read.
printf 'header = "Authorization: Bearer %s"\n' "${SAO_DATA_TOKEN:?is not set}" |
    curl --silent --show-error --fail --max-time 10 --retry 5 --retry-max-time 60 --retry-connrefused --config - \
        --header 'Content-Type: application/json' --data "$body" "${SAO_URL:-http://127.0.0.1:8181}/events/data"
