#!/bin/sh
# Init of the UML lab: the host's tree as its root, read-only; what is written goes to
# tmpfs; a pure v2 hierarchy. Runs $LAB/command.sh, leaves its exit status in $LAB/status.
#
# The kernel hands LAB over, a folder of the host, as it does with unknown parameters.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/home /run/lab /run/tmp /run/lock /dev/pts /dev/shm
chmod 1777 /run/tmp /run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
# Only this folder of the host can be written to. Not /tmp: the checkout may be there.
mount -t hostfs -o "$LAB" hostfs /run/lab
export TMPDIR=/run/tmp

mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
for name in cpu io memory pids; do
    echo "+$name" >/sys/fs/cgroup/cgroup.subtree_control
done

for module in fs/overlayfs/overlay fs/fuse/fuse drivers/net/veth; do
    busybox insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko" || true
done
busybox mkswap /dev/ubdb >/dev/null
busybox ip link set lo up

status=0
sh /run/lab/command.sh || status=$?
echo "$status" >/run/lab/status
busybox sync
busybox poweroff -f
