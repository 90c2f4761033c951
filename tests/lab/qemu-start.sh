# What lab.service runs in the qemu lab; /mnt is the disk that the host made for this run.
# Runs /mnt/lab/command.sh, leaves its exit status in /mnt/lab/status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
checkout=$(cat /mnt/lab/checkout)
mount -t tmpfs tmpfs /tmp # first: the checkout may lie below it
mkdir -p /run/lab "$checkout"
mount --bind /mnt/lab /run/lab
mount --bind /mnt/checkout "$checkout"
# Where the launcher looks for packages, jeepney for one.
packages=$(python3 -Ic 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$packages"
mount --bind /mnt/site "$packages"
modprobe -qa loop overlay fuse veth tun bfq nf_tables \
    unix_diag inet_diag tcp_diag udp_diag packet_diag netlink_diag
mkswap /dev/vdd >/dev/null
echo bfq >/sys/block/vdc/queue/scheduler
ip link set lo up
cd "$checkout" || exit
status=0
PYTHONPATH=/mnt/site python3 tools/install.py --editable /run/prefix >/run/install.log 2>&1 || {
    cat /run/install.log
    status=125
}
[ $status != 0 ] || sh /run/lab/command.sh || status=$?
echo $status >/run/lab/status
sync
mount -o remount,ro /mnt
