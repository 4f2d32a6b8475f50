/* Reading and writing at a place of an open file, however many calls the system needs for it. */
#ifndef KTC_POSITIONAL_H
#define KTC_POSITIONAL_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* All `length` bytes from `position` on into `buffer`. KTC_CUT_SHORT when the file ends before,
 * KTC_SYSTEM_ERROR with *error_number set. */
ktc_status ktc_read_at(int descriptor, char *buffer, ptrdiff_t length, int64_t position,
                       int *error_number);

/* All `length` bytes of `buffer` to `position` and on. KTC_SYSTEM_ERROR with *error_number set. */
ktc_status ktc_write_at(int descriptor, const char *buffer, ptrdiff_t length, int64_t position,
                        int *error_number);

/* Has the system begin to write `length` bytes of a file to the disk, where it can be asked to: a
 * flush later waits for less. Failures are the flush's to report. */
void ktc_flush_begin(int descriptor, int64_t position, int64_t length);

#endif
