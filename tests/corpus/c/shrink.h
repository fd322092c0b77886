#ifndef SHRINK_H
#define SHRINK_H

#include <stddef.h>

/* The size of a text once it is compressed, or 0 if that cannot be told. */
size_t shrunk_size(const char *text, size_t length);

#endif
