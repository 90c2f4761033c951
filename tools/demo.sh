#!/bin/sh
# The main job, step by step: an image in one command, a bundle from create to
# delete, and a mistake explained. Checks what it shows; exits non-zero if
# something is not as it should be. Leaves nothing behind.
# Usage: [OCIRUN=build/prefix/bin/ocirun] tools/demo.sh      (as root)
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
program=${OCIRUN:-$here/build/prefix/bin/ocirun}
[ "$(id -u)" = 0 ] || { echo 'demo: containers with all their namespaces need root' >&2; exit 1; }

work=$(mktemp -d /tmp/ocirun-demo.XXXXXX)
export OCIRUN_DATA_ROOT="$work/data" PYTHONDONTWRITEBYTECODE=1
ocirun() { "$program" --root "$work/state" "$@"; }
clean_up() {
    ocirun delete --force demo >/dev/null 2>&1 || true
    ocirun delete --force hello >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold= dim= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1;36m') dim=$(printf '\033[1m') plain=$(printf '\033[0m')
fi

title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$@"; }
# Show a command as one would type it, then do it.
show() {
    printf '\n%s$ %s%s\n' "$dim" "$1" "$plain"
    eval "$1"
}
# Stop the demo unless the condition holds.
check() {
    message=$1
    shift
    "$@" || { echo "demo: $message" >&2; exit 1; }
}
status_is() { ocirun state hello | grep -q "\"status\": \"$1\""; }
# Wait up to 10 seconds for a condition.
wait_until() {
    tries=200
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.05
    done
}

title 'An image in one command'
say 'The image "host" is this machine itself, read-only, under a layer that takes the writes.' \
    'The shell has a host name, processes, a network and mounts of its own:'
show "ocirun launch demo host sh -c 'hostname; echo I am process \$\$; ls /sys/class/net; grep \" / \" /proc/mounts | cut -c 1-17'"

say '' 'It may write wherever it likes ...'
show "ocirun launch demo host sh -c 'echo spam > /etc/motd; rm /etc/passwd; cat /etc/motd; ls /etc/passwd' || echo status \$?"
check '/etc/passwd was touched' test -s /etc/passwd
say '' '... and the machine has not noticed:'
show 'ls /etc/passwd; ocirun list'

title 'A bundle, from create to delete'
cp -r "$here/bundles/hello" "$work/hello"
rm -rf "$work/hello/rootfs"
"$here/bundles/make-rootfs.sh" "$work/hello/rootfs"
cd "$work"
say 'A bundle is a config.json and a root file system. Is this one in order?'
show 'ocirun validate hello'
say '' 'What would ocirun do with it, and which line of config.json asks for it?'
show "ocirun explain hello > plan; grep -c . plan; grep -E 'mount|root' plan | head -8"

say '' 'Create prepares everything, then the process waits:'
show 'ocirun create --bundle hello hello > output'
show 'ocirun state hello | grep -E "id|status|pid"'
check 'not created' status_is created
check 'ran before start' test ! -s output
say '' 'Start lets it go:'
show 'ocirun start hello'
check 'it does not say hello' wait_until test -s output
show 'cat output'
show 'ocirun state hello | grep status'
check 'not running' status_is running
say '' 'Kill sends a signal; the state tells that it has ended:'
show 'ocirun kill hello TERM'
check 'it does not stop' wait_until status_is stopped
show 'tail -n 1 output; ocirun state hello | grep status'
say '' 'Delete leaves nothing:'
show 'ocirun delete hello; ocirun list'
check 'something is left of it' test -z "$(ls "$work/state")"

title 'A mistake, explained'
say 'The mount of /dev gets an option that its file system does not know:'
show "sed -i 's/\"mode=755\"/\"mood=755\"/' hello/config.json; ocirun run --bundle hello hello || echo status \$?"
check 'the mistake was not found' sh -c '! "$1" --root state run --bundle hello hello 2>/dev/null' sh "$program"
check 'something is left of it' test -z "$(ls "$work/state")"

title 'Done'
say 'Read on in README.md, or: ocirun --help'
