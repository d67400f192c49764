#!/bin/sh
# sao-events: tells the service that the code of this repository changed. Installed by `sao-events hooks install`.
# It runs in the background, gives up after a few seconds, and always leaves git alone: its exit status is that of the hook
# that stood here before, or 0.

hook=${0##*/}
folder=$(dirname "$0")
input=''
case "$hook" in post-receive | pre-push) input=$(cat) ;; esac

status=0
if [ -x "$folder/$hook.before-sao" ]; then
    printf '%s' "${input:+$input
}" | "$folder/$hook.before-sao" "$@"
    status=$?
fi

# One hint for each updated ref; only plain names and ids are passed on, the service looks up the rest itself.
hints() {
    case "$hook" in
    post-receive)
        printf '%s\n' "$input" | while read -r _ commit ref; do
            [ -n "$ref" ] && printf '%s %s\n' "$commit" "$ref"
        done
        ;;
    *) printf '%s %s\n' "$(git rev-parse --verify --quiet HEAD)" "$(git symbolic-ref --quiet HEAD)" ;;
    esac
}

tell() {
    hints | while read -r commit ref; do
        case "$commit" in *[!0-9a-f]*) commit='' ;; esac
        case "$ref" in *[!A-Za-z0-9._/-]* | -*) ref='' ;; esac
        @TELL@
    done
}

(tell </dev/null >/dev/null 2>&1 &)
exit "$status"
