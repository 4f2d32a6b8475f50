/* Owns the system calls. Windows has no call that takes a position: there the descriptor's own is
 * moved, which is nobody else's while a stream writes. */
/* pread and pwrite, with 64-bit positions everywhere, and sync_file_range; must stand before any
 * header. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#endif

#include "stream/positional.h"

#include <errno.h>

#ifdef _WIN32
#include <io.h>
#include <stdio.h>
#else
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>
#endif

/* No system takes more in one call than this, and a single call is not interrupted. */
#define MOST_AT_ONCE ((ptrdiff_t)1 << 30)

/* Bytes moved, 0 at the end of the file, or -1 with errno set. */
static ptrdiff_t
read_some(int descriptor, char *buffer, ptrdiff_t length, int64_t position)
{
#ifdef _WIN32
    return _lseeki64(descriptor, position, SEEK_SET) < 0
               ? -1
               : _read(descriptor, buffer, (unsigned)length);
#else
    return pread(descriptor, buffer, (size_t)length, (off_t)position);
#endif
}

static ptrdiff_t
write_some(int descriptor, const char *buffer, ptrdiff_t length, int64_t position)
{
#ifdef _WIN32
    return _lseeki64(descriptor, position, SEEK_SET) < 0
               ? -1
               : _write(descriptor, buffer, (unsigned)length);
#else
    return pwrite(descriptor, buffer, (size_t)length, (off_t)position);
#endif
}

ktc_status
ktc_read_at(int descriptor, char *buffer, ptrdiff_t length, int64_t position, int *error_number)
{
    while (length > 0) {
        ptrdiff_t moved =
            read_some(descriptor, buffer, length < MOST_AT_ONCE ? length : MOST_AT_ONCE, position);
        if (moved == 0) {
            return KTC_CUT_SHORT;
        }
        if (moved < 0) {
            if (errno == EINTR) {
                continue;
            }
            *error_number = errno;
            return KTC_SYSTEM_ERROR;
        }
        buffer += moved;
        length -= moved;
        position += moved;
    }
    return KTC_OK;
}

ktc_status
ktc_write_at(int descriptor, const char *buffer, ptrdiff_t length, int64_t position,
             int *error_number)
{
    while (length > 0) {
        ptrdiff_t moved =
            write_some(descriptor, buffer, length < MOST_AT_ONCE ? length : MOST_AT_ONCE, position);
        if (moved < 0) {
            if (errno == EINTR) {
                continue;
            }
            *error_number = errno;
            return KTC_SYSTEM_ERROR;
        }
        buffer += moved;
        length -= moved;
        position += moved;
    }
    return KTC_OK;
}

void
ktc_flush_begin(int descriptor, int64_t position, int64_t length)
{
#ifdef __linux__
    (void)sync_file_range(descriptor, position, length, SYNC_FILE_RANGE_WRITE);
#else
    (void)descriptor;
    (void)position;
    (void)length;
#endif
}
