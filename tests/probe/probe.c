/*
 * The witness inside the test containers: prints, as one JSON object, what the
 * process sees of itself. Static, so that it runs in any rootfs. It asks the
 * kernel by system calls where it can, so that it works without /proc as well.
 *
 *   probe [ANY ARGUMENTS]    print the report, exit 0
 *   probe --look PATH...     the same, with what is at these places under "paths"
 *   probe --exit N           exit with status N
 *   probe --signal N         restore the default action of signal N, raise it
 *   probe --lock PATH        lock a file (flock(2)), say so, keep it until a signal comes
 *   probe --tiocsti          try to push a byte into the controlling terminal
 *   probe --notify TEXT...   send each TEXT to the socket in NOTIFY_SOCKET (sd_notify(3))
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
static int separate; /* whether the next value needs a comma before it */

static void quoted(const char *text)
{
	putchar('"');
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c < 0x20 || *c == '"' || *c == '\\' || *c >= 0x7f)
			printf("\\u%04x", *c);
		else
			putchar(*c);
	putchar('"');
}

static void key(const char *name)
{
	if (separate)
		putchar(',');
	separate = 0;
	quoted(name);
	putchar(':');
}

static void number(const char *name, long long value)
{
	key(name);
	printf("%lld", value);
	separate = 1;
}

static void string(const char *name, const char *value)
{
	key(name);
	quoted(value);
	separate = 1;
}

static void strings(const char *name, char **list)
{
	key(name);
	putchar('[');
	for (int i = 0; list[i]; i++) {
		if (i)
			putchar(',');
		quoted(list[i]);
	}
	putchar(']');
	separate = 1;
}

/* The numbers 0..limit-1 that are in the set, as `name: [..]`. */
static void members(const char *name, int limit, int (*contains)(int))
{
	int first = 1;
	key(name);
	putchar('[');
	for (int i = 0; i < limit; i++)
		if (contains(i) == 1) {
			printf(first ? "%d" : ",%d", i);
			first = 0;
		}
	putchar(']');
	separate = 1;
}

static struct __user_cap_data_struct capabilities[2];
static int effective(int c) { return capabilities[c / 32].effective >> (c % 32) & 1; }
static int permitted(int c) { return capabilities[c / 32].permitted >> (c % 32) & 1; }
static int inheritable(int c) { return capabilities[c / 32].inheritable >> (c % 32) & 1; }
static int bounding(int c) { return prctl(PR_CAPBSET_READ, c, 0, 0, 0); }
static int ambient(int c) { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0); }

static int ignored(int number)
{
	struct sigaction action;
	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static sigset_t blocked_now;
static int blocked(int number) { return sigismember(&blocked_now, number); }

static void identity(void)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;
	gid_t groups[512];
	int count = getgroups(512, groups);

	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	key("uids");
	printf("[%u,%u,%u,%u]", r, e, s, (unsigned)setfsuid(-1));
	separate = 1;
	key("gids");
	printf("[%u,%u,%u,%u]", gr, ge, gs, (unsigned)setfsgid(-1));
	separate = 1;
	key("groups");
	putchar('[');
	for (int i = 0; i < count; i++)
		printf(i ? ",%u" : "%u", groups[i]);
	putchar(']');
	separate = 1;
	mode_t mask = umask(0);
	umask(mask);
	number("umask", mask);
}

static void privileges(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};

	syscall(SYS_capget, &header, capabilities);
	members("cap_effective", 64, effective);
	members("cap_permitted", 64, permitted);
	members("cap_inheritable", 64, inheritable);
	members("cap_bounding", 64, bounding);
	members("cap_ambient", 64, ambient);
	number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	number("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
	number("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	int death = 0;
	prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0);
	number("pdeathsig", death);
	number("seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
}

static char type_of(mode_t mode)
{
	return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' :
	       S_ISCHR(mode) ? 'c' : S_ISBLK(mode) ? 'b' : S_ISFIFO(mode) ? 'p' : 's';
}

static void members_of_stat(const struct stat *s)
{
	char type[2] = {type_of(s->st_mode), 0};
	string("type", type);
	number("mode", s->st_mode & 07777);
	number("uid", s->st_uid);
	number("gid", s->st_gid);
	number("major", major(s->st_rdev));
	number("minor", minor(s->st_rdev));
	number("size", s->st_size);
}

/* What is in /dev, links not followed. */
static void devices(void)
{
	DIR *folder = opendir("/dev");
	struct dirent *entry;
	struct stat s;

	key("dev");
	putchar('{');
	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.' ||
		    fstatat(dirfd(folder), entry->d_name, &s, AT_SYMLINK_NOFOLLOW))
			continue;
		key(entry->d_name);
		putchar('{');
		members_of_stat(&s);
		putchar('}');
		separate = 1;
	}
	if (folder)
		closedir(folder);
	putchar('}');
	separate = 1;
}

/*
 * What is at a place: stat, whether it can be read and written (an errno, or 0), the
 * beginning of a file's content, the number of a folder's entries. To write is tried by
 * opening the file, or by making a folder in the folder.
 */
static void look(const char *path)
{
	struct stat s;
	char text[4096], inner[PATH_MAX + 16];
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	key(path);
	putchar('{');
	if (lstat(path, &s)) {
		number("missing", errno);
		putchar('}');
		return;
	}
	members_of_stat(&s);
	stat(path, &s);
	int fd = open(path, O_RDONLY | flags);
	number("read", fd < 0 ? errno : 0);
	ssize_t length = fd < 0 || !S_ISREG(s.st_mode) ? 0 : read(fd, text, sizeof text - 1);
	text[length < 0 ? 0 : length] = 0;
	string("content", text);
	if (fd >= 0)
		close(fd);
	if (S_ISDIR(s.st_mode)) {
		int entries = 0;
		DIR *folder = opendir(path);
		while (folder && readdir(folder))
			entries++;
		if (folder)
			closedir(folder);
		number("entries", entries ? entries - 2 : 0);
		snprintf(inner, sizeof inner, "%s/probe", path);
		number("write", mkdir(inner, 0700) ? errno : 0);
		rmdir(inner);
	} else {
		fd = open(path, O_WRONLY | flags);
		number("write", fd < 0 ? errno : 0);
		if (fd >= 0)
			close(fd);
	}
	putchar('}');
	separate = 1;
}

static void limits(void)
{
	static const char *names[] = {
		"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE",
		"MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
	};
	key("rlimits");
	putchar('{');
	for (int i = 0; i < 16; i++) {
		struct rlimit limit;
		getrlimit(i, &limit);
		printf("%s\"RLIMIT_%s\":[%lld,%lld]", i ? "," : "", names[i],
		       (long long)limit.rlim_cur, (long long)limit.rlim_max);
	}
	putchar('}');
	separate = 1;
}

/* When it runs and where its memory lies: sched_getattr, ioprio_get, get_mempolicy. */
static void scheduling(void)
{
	struct {
		unsigned size, policy;
		unsigned long long flags;
		int nice;
		unsigned priority;
		unsigned long long runtime, deadline, period;
		unsigned util_min, util_max;
	} attr = {0};
	unsigned long nodes[16] = {0};
	int mode = -1;
	cpu_set_t cpus;

	syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0);
	key("scheduler");
	printf("[%u,%llu,%d,%u,%llu,%llu,%llu]", attr.policy, attr.flags, attr.nice,
	       attr.priority, attr.runtime, attr.deadline, attr.period);
	separate = 1;
	number("ioprio", syscall(SYS_ioprio_get, 1, 0));
	syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, NULL, 0);
	key("mempolicy");
	printf("[%d,%lu]", mode, nodes[0]);
	separate = 1;
	sched_getaffinity(0, sizeof cpus, &cpus);
	number("cpus", CPU_COUNT(&cpus));
	number("personality", syscall(SYS_personality, 0xffffffff));
}

static void descriptors(void)
{
	key("fds");
	putchar('{');
	separate = 0;
	for (int fd = 0; fd < 4096; fd++) {
		char link[64], target[PATH_MAX + 1] = "";
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if (readlink(link, target, PATH_MAX) < 0)
			strcpy(target, "?");
		snprintf(link, sizeof link, "%d", fd);
		string(link, target);
	}
	putchar('}');
	separate = 1;
}

static void namespaces(void)
{
	static const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
	key("ns");
	putchar('{');
	separate = 0;
	for (int i = 0; i < 8; i++) {
		char link[64], target[256] = "";
		snprintf(link, sizeof link, "/proc/self/ns/%s", kinds[i]);
		if (readlink(link, target, sizeof target - 1) > 0)
			string(kinds[i], target);
	}
	putchar('}');
	separate = 1;
}

static void terminal(void)
{
	struct winsize size = {0};
	char name[256] = "";
	key("tty");
	printf("[%d,%d,%d]", isatty(0), isatty(1), isatty(2));
	separate = 1;
	if (isatty(0)) {
		ioctl(0, TIOCGWINSZ, &size);
		ttyname_r(0, name, sizeof name);
	}
	string("tty_name", name);
	key("tty_size");
	printf("[%d,%d]", size.ws_row, size.ws_col);
	separate = 1;
	int fd = open("/dev/tty", O_RDWR | O_NOCTTY);
	number("controlling_tty", fd >= 0);
	if (fd >= 0)
		close(fd);
}

/* The file as a string, or the empty string. */
static void file(const char *name, const char *path)
{
	static char text[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, got;
	while (fd >= 0 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0)
		length += got;
	if (fd >= 0)
		close(fd);
	text[length] = 0;
	string(name, text);
}

/* Each text as a datagram, with a descriptor, as FDSTORE=1 has it. */
static int notify(char **texts)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	union { struct cmsghdr head; char space[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const char *path = getenv("NOTIFY_SOCKET");
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : "");
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	for (; *texts; texts++) {
		struct iovec text = { *texts, strlen(*texts) };
		struct msghdr message = {
			.msg_name = &address, .msg_namelen = sizeof address,
			.msg_iov = &text, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof control.space,
		};
		if (sendmsg(fd, &message, 0) < 0) {
			perror("sendmsg");
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "--notify"))
		return notify(argv + 2);
	if (argc == 3 && !strcmp(argv[1], "--exit"))
		_exit(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "--signal")) {
		signal(atoi(argv[2]), SIG_DFL);
		kill(getpid(), atoi(argv[2]));
		_exit(99);
	}
	if (argc == 3 && !strcmp(argv[1], "--lock")) {
		int fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0 || flock(fd, LOCK_EX) || write(1, "locked\n", 7) != 7)
			return 1;
		for (;;)
			pause();
	}
	if (argc == 2 && !strcmp(argv[1], "--tiocsti")) {
		int result = ioctl(0, TIOCSTI, "x");
		printf("%d %d %d\n", result, result ? errno : 0, open("/dev/tty", O_RDWR));
		return 0;
	}

	char cwd[PATH_MAX] = "";
	struct utsname names;
	uname(&names);
	sigprocmask(SIG_BLOCK, NULL, &blocked_now);

	putchar('{');
	descriptors(); /* first: before this program has opened anything */
	strings("argv", argv);
	strings("env", environ);
	string("cwd", getcwd(cwd, sizeof cwd) ? cwd : "?");
	number("pid", getpid());
	number("ppid", getppid());
	number("sid", getsid(0));
	number("pgid", getpgid(0));
	identity();
	privileges();
	limits();
	scheduling();
	members("signals_ignored", 65, ignored);
	members("signals_blocked", 65, blocked);
	string("hostname", names.nodename);
	string("domainname", names.domainname);
	terminal();
	namespaces();
	file("oom_score_adj", "/proc/self/oom_score_adj");
	file("cgroup", "/proc/self/cgroup");
	file("timens_offsets", "/proc/self/timens_offsets");
	devices();
	number("keyring", syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* session */, 0));
	file("mountinfo", "/proc/self/mountinfo");
	if (argc > 2 && !strcmp(argv[1], "--look")) {
		key("paths");
		putchar('{');
		for (int i = 2; i < argc; i++)
			look(argv[i]);
		putchar('}');
	}
	puts("}");
	return 0;
}
