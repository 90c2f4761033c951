#!/bin/sh
# Make a small root file system of busybox.
# Usage: bundles/make-rootfs.sh DIRECTORY      (which must not exist)
# Needs busybox, statically linked (Debian: busybox-static).
set -eu

[ $# = 1 ] || { sed -n '3s/^# //p' "$0" >&2; exit 1; }
busybox=$(command -v busybox) || { echo 'busybox is missing (Debian: busybox-static)' >&2; exit 1; }

mkdir "$1"
for folder in bin dev etc home mnt proc root sys tmp usr var; do mkdir "$1/$folder"; done
chmod 1777 "$1/tmp"
cp "$busybox" "$1/bin/busybox"
"$busybox" --list | while read -r name; do
    [ "$name" = busybox ] || ln "$1/bin/busybox" "$1/bin/$name"
done
echo 'root:x:0:0:root:/root:/bin/sh' > "$1/etc/passwd"
echo 'root:x:0:' > "$1/etc/group"
