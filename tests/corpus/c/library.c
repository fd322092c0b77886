#include "shrink.h"

#include <stdlib.h>
#include <zlib.h>

size_t shrunk_size(const char *text, size_t length)
{
    uLongf size = compressBound(length);
    Bytef *room = malloc(size);
    int status;

    if (!room)
        return 0;
    status = compress2(room, &size, (const Bytef *)text, length, Z_BEST_COMPRESSION);
    free(room);
    return status == Z_OK ? size : 0;
}
