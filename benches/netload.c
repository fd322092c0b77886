/*
 * Small messages and short connections over TCP, to measure what a network costs for each.
 *
 *   netload serve PORT              echoes whatever comes
 *   netload rr HOST PORT SECONDS    64 bytes there and back, one after another: how often per second
 *   netload conn HOST PORT SECONDS  connect, 64 bytes there and back, close: how often per second
 *
 * HOST is an IPv4 address.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 64 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *echo(void *argument)
{
	int fd = (int)(long)argument, on = 1;
	char buffer[4096];
	ssize_t n;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		if (write(fd, buffer, n) != n)
			break;
	close(fd);
	return NULL;
}

static void serve(struct sockaddr_in at)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	at.sin_addr.s_addr = INADDR_ANY;
	if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096))
		die("listen");
	for (;;) {
		pthread_t thread;
		int client = accept(fd, NULL, NULL);
		if (client >= 0 && pthread_create(&thread, &small, echo, (void *)(long)client))
			close(client);
	}
}

static int dial(const struct sockaddr_in *to)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (const struct sockaddr *)to, sizeof *to))
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

static void exchange(int fd)
{
	char message[MESSAGE] = {0};
	size_t have = 0;
	if (write(fd, message, MESSAGE) != MESSAGE)
		die("write");
	while (have < MESSAGE) {
		ssize_t n = read(fd, message + have, MESSAGE - have);
		if (n <= 0)
			die("read");
		have += n;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		address.sin_port = htons(atoi(argv[2]));
		serve(address);
	}
	if (argc != 5 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
		fprintf(stderr, "netload serve PORT | rr|conn HOST PORT SECONDS\n");
		return 2;
	}
	address.sin_port = htons(atoi(argv[3]));
	int keep = !strcmp(argv[1], "rr"), fd = -1;
	long count = 0;
	double begin = now(), end = begin + atof(argv[4]);
	while (now() < end) {
		if (fd < 0)
			fd = dial(&address);
		exchange(fd);
		count++;
		if (!keep) {
			close(fd);
			fd = -1;
		}
	}
	printf("%.1f\n", count / (now() - begin));
	return 0;
}
