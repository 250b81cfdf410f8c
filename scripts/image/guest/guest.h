/* What the parts of the guest's first program share. Everything fails closed: stop() ends the guest. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>

/* Says one line of a fixed vocabulary: the console is the host's to read. */
void say(const char *text);

/* Says what could not be done, with errno, and powers the guest off. */
_Noreturn void stop(const char *what);

/* Value of name= on the measured command line, into out; stops when it is absent or too long. */
void argument(const char *name, char *out, size_t size);

/* disks.c: maps a disk through dm-verity and mounts the erofs in it, read-only. The only input is the measured argument. */
void mount_verified(const char *disk, const char *name, const char *verity, const char *target);

/* confine.c: gives up, for good, everything the worker does not need. */
void confine(void);

#endif
