#!/bin/sh
# Install the Debian packages that the tests, the demo and the benchmark use.
# Usage: tools/setup.sh [--optional FILE] PACKAGE...
# Does nothing if all are there, if this is not Debian, or without root: tests
# that need a missing program then skip and say so. With --optional, failing to
# install is no failure: FILE then has apt's words. No service of a package is
# started (invoke-rc.d(8), policy-rc.d).
set -eu

optional=
if [ "${1-}" = --optional ]; then
    optional=$2
    shift 2
    rm -f "$optional"
fi
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || exit 0
missing=
for package; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    words="not root, so these Debian packages stay missing:$missing"
    [ -z "$optional" ] || echo "$words" >"$optional"
    echo "setup: $words" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
fi
install() {
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing </dev/null >/dev/null
}
echo "setup: installing$missing"
install 2>/dev/null && exit 0
apt-get update -qq </dev/null || [ -n "$optional" ] || exit
if [ -z "$optional" ]; then
    install
elif install 2>"$optional"; then
    rm "$optional"
else
    echo "setup: not installed:$missing" >&2
    cat "$optional" >&2
fi
