/* floor: the least that starting a rootless container costs on this kernel.
 *
 *   floor ROOT SCRATCH PROGRAM [ARG...]
 *
 * What any engine has to do, and nothing else: namespaces of all seven kinds, both id-map helpers at once, a fresh
 * overlay over ROOT with its upper folder in SCRATCH, the mounts, devices and masks of the OCI defaults, pivot_root,
 * loopback up, exec, wait, remove the upper folder. No image store, no record, no log, no seccomp, no terminal.
 * FLOOR_IDS="START COUNT" names the subordinate ids.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct job {
	const char *lower, *scratch;
	char **command;
	int go[2];
};

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(125);
}

/* A path made of parts; four may be in use at a time. */
static const char *path(const char *format, ...)
{
	static char buffers[4][1024];
	static int next;
	char *buffer = buffers[next++ % 4];
	va_list args;

	va_start(args, format);
	vsnprintf(buffer, sizeof buffers[0], format, args);
	va_end(args);
	return buffer;
}

static void mount_new(const char *type, const char *where, unsigned long flags, const char *options)
{
	if (mount(type, where, type, flags, options))
		die(where);
}

static void bind_mount(const char *from, const char *to)
{
	if (mount(from, to, NULL, MS_BIND | MS_REC, NULL))
		die(to);
}

static void make_file(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0)
		die(name);
	close(fd);
}

static void mount_oci_defaults(void)
{
	static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
	static const char *const masked[] = {"kcore", "keys", "timer_list"};
	static const char *const read_only[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
	const unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	mount_new("proc", "proc", quiet, NULL);
	mount_new("tmpfs", "dev", MS_NOSUID, "mode=755,size=65536k");
	mkdir("dev/pts", 0755);
	mkdir("dev/shm", 0755);
	mkdir("dev/mqueue", 0755);
	mount_new("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	mount_new("tmpfs", "dev/shm", quiet, "mode=1777,size=65536k");
	mount_new("mqueue", "dev/mqueue", quiet, NULL);
	mount_new("sysfs", "sys", quiet | MS_RDONLY, NULL);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		const char *device = path("dev/%s", devices[i]);
		make_file(device);
		bind_mount(path("/dev/%s", devices[i]), device);
	}
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		const char *name = path("proc/%s", masked[i]);
		if (access(name, F_OK) == 0)
			bind_mount("/dev/null", name);
	}
	for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
		const char *name = path("proc/%s", read_only[i]);
		if (access(name, F_OK))
			continue;
		bind_mount(name, name);
		if (mount(NULL, name, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | quiet, NULL))
			die(name);
	}
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &request))
		die("lo");
	close(s);
}

static int inside(void *data)
{
	struct job *job = data;
	const char *root = path("%s/root", job->scratch);
	char go;

	close(job->go[1]);
	if (read(job->go[0], &go, 1) != 1)
		_exit(125);
	close(job->go[0]);
	if (setresgid(0, 0, 0) || setresuid(0, 0, 0))
		die("become root");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		die("/");
	mount_new("overlay", root, 0, path("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr,volatile",
					   job->lower, job->scratch, job->scratch));
	if (chdir(root))
		die(root);
	mount_oci_defaults();
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		die("pivot_root");
	if (sethostname("floor", 5))
		die("sethostname");
	loopback_up();
	execvp(job->command[0], job->command);
	die(job->command[0]);
	return 125;
}

static pid_t start_helper(const char *helper, pid_t target, unsigned id, const char *first, const char *count)
{
	char pid[16], own[16];
	char *args[] = {(char *)helper, pid, "0", own, "1", "1", (char *)first, (char *)count, NULL};
	pid_t child;

	snprintf(pid, sizeof pid, "%d", target);
	snprintf(own, sizeof own, "%u", id);
	errno = posix_spawnp(&child, helper, NULL, NULL, args, environ);
	if (errno)
		die(helper);
	return child;
}

int main(int argc, char **argv)
{
	static char stack[256 * 1024] __attribute__((aligned(16)));
	static char scratch[512], first[16] = "100000", count[16] = "65536";
	const char *ids = getenv("FLOOR_IDS");
	struct job job = {.scratch = scratch};
	int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET;
	int status;

	if (argc < 4) {
		fprintf(stderr, "usage: floor ROOT SCRATCH PROGRAM [ARG...]\n");
		return 2;
	}
	if (ids && sscanf(ids, "%15s %15s", first, count) != 2) {
		fprintf(stderr, "floor: FLOOR_IDS is not START COUNT\n");
		return 2;
	}
	job.lower = argv[1];
	job.command = argv + 3;
	snprintf(scratch, sizeof scratch, "%s/floor-%d", argv[2], getpid());
	if (mkdir(scratch, 0700) || mkdir(path("%s/upper", scratch), 0755) || mkdir(path("%s/work", scratch), 0755) ||
	    mkdir(path("%s/root", scratch), 0755) || pipe2(job.go, O_CLOEXEC))
		die(scratch);
	pid_t child = clone(inside, stack + sizeof stack, flags | SIGCHLD, &job);
	if (child < 0)
		die("clone");
	pid_t helpers[] = {start_helper("newuidmap", child, getuid(), first, count),
			   start_helper("newgidmap", child, getgid(), first, count)};
	for (int i = 0; i < 2; i++)
		if (waitpid(helpers[i], &status, 0) < 0 || status)
			die("id map helper");
	if (write(job.go[1], "", 1) != 1)
		die("go");
	if (waitpid(child, &status, 0) < 0)
		die("wait");
	/* What a volatile overlay leaves there. */
	unlink(path("%s/work/work/incompat/volatile/dirty", scratch));
	rmdir(path("%s/work/work/incompat/volatile", scratch));
	rmdir(path("%s/work/work/incompat", scratch));
	rmdir(path("%s/work/work", scratch));
	rmdir(path("%s/work", scratch));
	rmdir(path("%s/upper", scratch));
	rmdir(path("%s/root", scratch));
	rmdir(scratch);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
