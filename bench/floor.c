/* The kernel's share of `run`: a static C program that makes the system calls of a default
 * container and nothing else. No JSON, no checks, no state: the floor under every runtime.
 *
 *   floor [-n TIMES] [-r FOLDER] ROOTFS CGROUP COMMAND [ARG...]
 *
 *   CGROUP  a name below every v1 hierarchy, or "-"
 *   -n      make so many containers, one after the other, and print the nanoseconds of each
 *   -r      keep a record in FOLDER/floor.PID as ocirun does: written aside and renamed, twice
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *hierarchies[] = {"cpu", "cpuacct", "cpuset", "memory", "devices",
                                    "freezer", "blkio", "pids", "systemd"};
enum { HIERARCHIES = sizeof hierarchies / sizeof *hierarchies };
static char root[4096];

static void must(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	must(fd, path);
	if (write(fd, text, strlen(text)) < 0)
		err(1, "write %s", path);
	close(fd);
}

static void mount_at(const char *type, const char *path, unsigned long flags, const char *data)
{
	char target[4200];
	snprintf(target, sizeof target, "%s%s", root, path);
	mkdir(target, 0755);
	must(mount(type, target, type, flags, data), path);
}

static void bind_at(const char *source, const char *path, unsigned long flags)
{
	char target[4200];
	snprintf(target, sizeof target, "%s%s", root, path);
	if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) == 0 && flags)
		must(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags, NULL), path);
}

static void make_cgroups(const char *name)
{
	static const char *rules[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
	                              "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
	                              "c 5:2 rwm", "c 136:* rwm"};
	char path[512], from[512], value[64];
	for (int i = 0; i < HIERARCHIES; i++) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
		mkdir(path, 0755);
	}
	for (int i = 0; i < 2; i++) {
		const char *file = i ? "cpuset.mems" : "cpuset.cpus";
		snprintf(from, sizeof from, "/sys/fs/cgroup/cpuset/%s", file);
		int fd = open(from, O_RDONLY);
		ssize_t n = read(fd, value, sizeof value - 1);
		value[n > 0 ? n : 0] = 0;
		close(fd);
		snprintf(path, sizeof path, "/sys/fs/cgroup/cpuset/%s/%s", name, file);
		put(path, value);
	}
	snprintf(path, sizeof path, "/sys/fs/cgroup/devices/%s/devices.deny", name);
	put(path, "a");
	snprintf(path, sizeof path, "/sys/fs/cgroup/devices/%s/devices.allow", name);
	for (unsigned i = 0; i < sizeof rules / sizeof *rules; i++)
		put(path, rules[i]);
}

static void in_cgroups(const char *name, void (*act)(const char *, const char *))
{
	char path[512];
	for (int i = 0; i < HIERARCHIES; i++) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
		act(path, hierarchies[i]);
	}
}

static void join_one(const char *path, const char *hierarchy)
{
	char file[600];
	(void)hierarchy;
	snprintf(file, sizeof file, "%s/tasks", path);
	put(file, "0");
}

static void show_one(const char *path, const char *hierarchy)
{
	char target[600];
	snprintf(target, sizeof target, "/sys/fs/cgroup/%s", hierarchy);
	char full[4800];
	snprintf(full, sizeof full, "%s%s", root, target);
	mkdir(full, 0755);
	bind_at(path, target, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static void remove_one(const char *path, const char *hierarchy)
{
	(void)hierarchy;
	for (int i = 0; i < 1000 && rmdir(path) < 0; i++)
		usleep(100);
}

static void devices(void)
{
	static const struct { const char *name; int major, minor; } nodes[] = {
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7},
		{"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
	static const char *links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
		{"/proc/kcore", "core"}, {"pts/ptmx", "ptmx"}};
	char path[4200];
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		snprintf(path, sizeof path, "%s/dev/%s", root, nodes[i].name);
		must(mknod(path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), path);
	}
	for (unsigned i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "%s/dev/%s", root, links[i][1]);
		must(symlink(links[i][0], path), path);
	}
}

static void child(const char *cgroup, char **command)
{
	static const char *readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"};
	static const char *masked_files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list"};
	static const char *masked_dirs[] = {"/proc/acpi", "/sys/firmware"};
	setsid();
	syscall(SYS_keyctl, 1, "floor"); /* KEYCTL_JOIN_SESSION_KEYRING; a kernel may have no keys */
	sethostname("floor", 5);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	must(ioctl(sock, SIOCSIFFLAGS, &request), "lo");
	close(sock);
	if (*cgroup != '-')
		in_cgroups(cgroup, join_one);
	must(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "slave");
	must(mount(root, root, NULL, MS_BIND | MS_REC, NULL), "rootfs");
	mount_at("proc", "/proc", 0, NULL);
	mount_at("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
	mount_at("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "/sys", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (*cgroup != '-') {
		mount_at("tmpfs", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
		in_cgroups(cgroup, show_one);
	}
	devices();
	for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		char path[4200];
		snprintf(path, sizeof path, "%s%s", root, readonly[i]);
		bind_at(path, readonly[i], MS_RDONLY);
	}
	for (unsigned i = 0; i < sizeof masked_files / sizeof *masked_files; i++)
		bind_at("/dev/null", masked_files[i], 0);
	for (unsigned i = 0; i < sizeof masked_dirs / sizeof *masked_dirs; i++) {
		char path[4200];
		snprintf(path, sizeof path, "%s%s", root, masked_dirs[i]);
		mount("tmpfs", path, "tmpfs", MS_RDONLY, "mode=755");
	}
	must(mount(NULL, root, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), "read-only");
	must(chdir(root), "chdir");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount");
	must(chdir("/"), "chdir");
	struct rlimit files = {1024, 1024};
	must(setrlimit(RLIMIT_NOFILE, &files), "rlimit");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	for (int i = 0; i < 64; i++)
		if (i != 5 && i != 10 && i != 29 && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			break;
	must(setgroups(0, NULL), "setgroups");
	must(setresgid(0, 0, 0), "setresgid");
	must(setresuid(0, 0, 0), "setresuid");
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	unsigned mask = 1 << 5 | 1 << 10 | 1 << 29;
	struct __user_cap_data_struct data[2] = {{mask, mask, 0}, {0, 0, 0}};
	must(syscall(SYS_capset, &header, data), "capset");
	execv(command[0], command);
	err(127, "%s", command[0]);
}

static void record(const char *folder)
{
	/* As long as ocirun's record of a default container. */
	static char text[1024];
	char path[4200], aside[4200];
	memset(text, ' ', sizeof text - 1);
	snprintf(path, sizeof path, "%s/state.json", folder);
	snprintf(aside, sizeof aside, "%s/state.json.new", folder);
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd, aside);
	if (write(fd, text, sizeof text) < 0)
		err(1, "write %s", aside);
	close(fd);
	must(rename(aside, path), path);
}

static void forget(const char *folder)
{
	char path[4200];
	snprintf(path, sizeof path, "%s/state.json", folder);
	must(unlink(path), path);
	must(rmdir(folder), folder);
}

/* One container from its folder to its removal. Returns the wait status of its command. */
static int once(const char *folder, const char *cgroup, char **command)
{
	if (folder) {
		must(mkdir(folder, 0700), folder);
		record(folder);
	}
	if (*cgroup != '-')
		make_cgroups(cgroup);
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.exit_signal = SIGCHLD};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	must(pid, "clone3");
	if (pid == 0)
		child(cgroup, command);
	if (folder)
		record(folder);
	int status;
	must(waitpid(pid, &status, 0), "waitpid");
	if (*cgroup != '-')
		in_cgroups(cgroup, remove_one);
	if (folder)
		forget(folder);
	return status;
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	int times = 0, status = 0, option;
	char *folder = NULL;
	while ((option = getopt(argc, argv, "+n:r:")) != -1) {
		if (option == 'n')
			times = atoi(optarg);
		else if (option != 'r' || asprintf(&folder, "%s/floor.%d", optarg, getpid()) < 0)
			return 2;
	}
	argv += optind;
	if (argc - optind < 3)
		errx(2, "usage: floor [-n TIMES] [-r FOLDER] ROOTFS CGROUP COMMAND [ARG...]");
	if (!realpath(argv[0], root))
		err(1, "%s", argv[0]);
	for (int i = 0; i < (times ? times : 1) && status == 0; i++) {
		long long began = now();
		status = once(folder, argv[1], argv + 2);
		if (times)
			printf("%lld\n", now() - began);
	}
	fflush(stdout);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
