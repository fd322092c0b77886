#include "shrink.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s --version | TEXT\n", argv[0]);
        return 2;
    }
    if (!strcmp(argv[1], "--version"))
        return puts("shrink " VERSION) < 0;
    return printf("%zu -> %zu\n", strlen(argv[1]), shrunk_size(argv[1], strlen(argv[1]))) < 0;
}
