#!/bin/sh
# sao-events: tells the service that the code of this repository changed. Installed by `sao-events hooks install`.
# It works in the background, gives up after a while, and always leaves git alone: its exit status is that of the hook
# that stood here before, which runs first, or 0.

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

# The folder of hooks may be that of several repositories (core.hooksPath): this hook is for one of them.
here=$(cd "$(git rev-parse --git-common-dir 2>/dev/null)" 2>/dev/null && pwd -P)
[ "$here" = @REPOSITORY@ ] || exit "$status"

# limited SECONDS COMMAND...: run the command, and end it when the time is over.
limited() {
    seconds=$1
    shift
    "$@" &
    job=$!
    (
        sleep "$seconds"
        kill "$job"
    ) </dev/null >/dev/null 2>&1 &
    clock=$!
    { wait "$job"; } 2>/dev/null # where the shell would say that the job was killed
    ended=$?
    kill "$clock" 2>/dev/null
    return "$ended"
}

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

say() {
    @TELL@
}

tell() {
    hints | while read -r commit ref; do
        case "$commit" in *[!0-9a-f]*) commit='' ;; esac
        case "$ref" in *[!A-Za-z0-9._/-]* | -*) ref='' ;; esac
        limited 30 say </dev/null
    done
}

# What pushing would build and reuse. SAO_PREVIEW is for how many seconds it is waited for; 0 or off: not at all.
preview() {
    patience=${SAO_PREVIEW:-8}
    case "$patience" in 0 | off | no | false | *[!0-9]*) return ;; esac
    commit=$(printf '%s\n' "$input" | while read -r _ commit _ _; do
        case "$commit" in '' | *[!0-9a-f]*) ;; *[!0]*) printf '%s' "$commit" && break ;; esac
    done)
    [ -n "$commit" ] || return
    limited "$patience" show </dev/null >&2
    case $? in
    0) ;;
    143) echo "sao-events: no preview within $patience s (SAO_PREVIEW=$patience); the push goes on" >&2 ;;
    *) echo "sao-events: no preview; the push goes on" >&2 ;;
    esac
}

show() {
    exec @SHOW@
}

case "$hook" in
pre-push)
    # shellcheck disable=SC2046 # names of variables, one a word
    unset $(git rev-parse --local-env-vars)
    [ "$status" -ne 0 ] || preview
    ;;
*) (tell </dev/null >/dev/null 2>&1 &) ;;
esac
exit "$status"
