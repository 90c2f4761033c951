/*
 * Makes system calls and prints what becomes of each, as a JSON array: "ok", an error number,
 * "signal N", or "gone" for a thread that did not come back. Static, for any rootfs.
 *
 *   calls CALL...      CALL is [MODE]NUMBER[,ARGUMENT...]; every call has a process of its own
 *
 * An argument @TEXT is the address of the text. Modes:
 *   i   by int $0x80, so that the number is one of i386
 *   t   in a second thread
 *   p   under a tracer, which prints "trace N" with the filter's number and lets the call fail
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long number, argument[6];
static int came_back;

static void parse(char *text)
{
	char *word = strtok(text, ",");
	memset(argument, 0, sizeof argument);
	number = strtol(word, NULL, 0);
	for (int i = 0; i < 6 && (word = strtok(NULL, ",")); i++)
		argument[i] = *word == '@' ? (long)(word + 1) : (long)strtoull(word, NULL, 0);
}

static int made(void)
{
	long result = syscall(number, argument[0], argument[1], argument[2], argument[3],
			      argument[4], argument[5]);
	return result == -1 ? errno : 0;
}

static int made_by_int80(void)
{
#ifdef __x86_64__
	int result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"((int)number), "b"((int)argument[0]),
			 "c"((int)argument[1]), "d"((int)argument[2]) : "memory", "r8", "r9", "r10", "r11");
	return result < 0 ? -result : 0;
#else
	return ENOSYS;
#endif
}

static void *in_thread(void *nothing)
{
	made();
	came_back = 1;
	return nothing;
}

static void trace(pid_t pid)
{
	int status;
	unsigned long data = 0;
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &status, 0);
	if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
		ptrace(PTRACE_GETEVENTMSG, pid, 0, &data);
	printf("\"trace %lu\"", data);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void make(char *text)
{
	char mode = strchr("itp", *text) ? *text++ : 0;
	int status;
	parse(text);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		if (mode == 't') {
			pthread_t thread;
			pthread_create(&thread, NULL, in_thread, NULL);
			pthread_join(thread, NULL);
			_exit(came_back ? 0 : 255);
		}
		if (mode == 'p') {
			ptrace(PTRACE_TRACEME, 0, 0, 0);
			raise(SIGSTOP);
		}
		_exit(mode == 'i' ? made_by_int80() : made());
	}
	if (mode == 'p') {
		trace(pid);
		return;
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		printf("\"signal %d\"", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 255)
		printf("\"gone\"");
	else if (WEXITSTATUS(status))
		printf("%d", WEXITSTATUS(status));
	else
		printf("\"ok\"");
}

int main(int argc, char **argv)
{
	putchar('[');
	for (int i = 1; i < argc; i++) {
		if (i > 1)
			putchar(',');
		make(argv[i]);
	}
	puts("]");
	return 0;
}
