/* What the parts of the guest's first program share. Everything fails closed: stop() ends the guest. */
#ifndef GUEST_H
#define GUEST_H

#include <linux/capability.h>
#include <stddef.h>

/* Says one line of a fixed vocabulary: the console is the host's to read. */
void say(const char *text);

/* Says what could not be done, with errno, and powers the guest off. */
_Noreturn void stop(const char *what);

/* Value of name= on the measured command line, into out; stops when it is absent or too long. */
void argument(const char *name, char *out, size_t size);

/* disks.c: maps a disk through dm-verity and mounts the erofs in it, read-only. The only input is the measured argument. */
void mount_verified(const char *disk, const char *name, const char *verity, const char *target);

/* confine.c: becomes nobody in particular, of that number, with those capabilities and no way to others, for good. */
void confine(unsigned id, unsigned capabilities);
#define CAPABILITY(name) (1u << (name))

/* gpu.c: the GPU flavour's modules, which end here or never were; its device nodes and its daemon's folder, below /root. */
void load_gpu_modules(void);
void make_gpu_devices(void);
void prepare_gpu_daemon(void);

/* Inside the root: starts the daemon, then the keeper of the ready state; the worker's end of a socket to it, -1 without a GPU. */
int start_gpu(void);

/* Of a test flavour: that the kernel takes no module any more. */
void try_modules_after(void);

#endif
