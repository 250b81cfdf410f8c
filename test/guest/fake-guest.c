/*
 * A stand-in for the kernel of a confidential guest, loaded before a Node process (LD_PRELOAD): the configfs-tsm tree and
 * /dev/sev-guest, replaying recorded evidence. What runs against it is the worker's own code, unchanged.
 *
 * Kept as the kernel has it: an entry's files are there after mkdir and gone after rmdir; a write counts when the file is
 * closed, adds one to the generation, and tells its writer of no error; evidence is made when outblob is opened; other than
 * 64 bytes is EINVAL; both directions at once is ETXTBSY; the ioctl's structures, numbers and error word.
 * Not kept: sizes that stat reports, EFBIG at the write, and that a file cannot seek.
 *
 * FAKE_TSM provider name, or "none" for a module without one; FAKE_OUTBLOB, FAKE_AUXBLOB, FAKE_SEV_GUEST, FAKE_CERTIFICATES,
 * FAKE_CCEL files; FAKE_REPORT_DATA=echo puts the caller's report data into the evidence, which breaks its signature;
 * FAKE_FAULT one of the names below.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE "/sys/kernel/config/tsm/report/"
#define DEVICE "/dev/sev-guest"
#define CCEL "/sys/firmware/acpi/tables/data/CCEL"
#define ENTRIES 8

static struct entry {
  char name[64];
  int generation, pipe, written;
  unsigned char inblob[128];
} entries[ENTRIES];

static int device = -1, failing = -1, failing_errno, throttled, busy;

static const char *setting(const char *name) { return getenv(name) == NULL ? "" : getenv(name); }
static int fault(const char *name) { return strcmp(setting("FAKE_FAULT"), name) == 0; }

static int real_open(const char *path, int flags, mode_t mode) {
  static int (*next)(const char *, int, ...);
  if (next == NULL) next = dlsym(RTLD_NEXT, "open");
  return next(path, flags, mode);
}

static size_t load(const char *variable, unsigned char *out, size_t size) {
  int file = real_open(setting(variable), O_RDONLY, 0);
  if (file < 0) return 0;
  ssize_t length = read(file, out, size);
  close(file);
  return length < 0 ? 0 : length;
}

static int memory(const void *bytes, size_t length) {
  int file = memfd_create("fake", 0);
  if (length > 0 && write(file, bytes, length) != (ssize_t)length) abort();
  lseek(file, 0, SEEK_SET);
  return file;
}

static struct entry *find(const char *path, const char **file) {
  const char *rest = path + strlen(TREE);
  size_t length = strcspn(rest, "/");
  *file = rest[length] == '/' ? rest + length + 1 : "";
  for (int i = 0; i < ENTRIES; i++) {
    if (entries[i].name[0] != '\0' && strlen(entries[i].name) == length && strncmp(entries[i].name, rest, length) == 0)
      return &entries[i];
  }
  return NULL;
}

/* What has been written and closed counts; what is still open does not. */
static void commit(struct entry *entry) {
  unsigned char bytes[128];
  if (entry->pipe < 0) return;
  ssize_t length = read(entry->pipe, bytes, sizeof bytes);
  close(entry->pipe);
  entry->pipe = -1;
  if (fault("lost-write")) return;
  entry->generation += fault("interference") ? 2 : 1;
  entry->written = length < 0 ? 0 : (int)length;
  memcpy(entry->inblob, bytes, entry->written);
}

static int failure(int error) {
  failing = memory("", 0);
  failing_errno = error;
  return failing;
}

static void echo(unsigned char *evidence, size_t length, const unsigned char *data, size_t at) {
  if (strcmp(setting("FAKE_REPORT_DATA"), "echo") == 0 && length >= at + 64) memcpy(evidence + at, data, 64);
}

static int outblob(struct entry *entry) {
  static unsigned char evidence[1 << 20];
  if (entry->written != 64) return failure(EINVAL);
  if (fault("empty")) return memory("", 0);
  if (fault("busy") && busy++ == 0) return failure(EBUSY);
  if (fault("timeout")) return failure(ETIMEDOUT);
  if (fault("wiped")) return failure(ENOTTY);
  size_t length = load("FAKE_OUTBLOB", evidence, sizeof evidence);
  echo(evidence, length, entry->inblob, strcmp(setting("FAKE_TSM"), "sev_guest") == 0 ? 0x50 : 568);
  return memory(evidence, length);
}

static int open_entry(const char *path, int flags) {
  static unsigned char bytes[1 << 16];
  const char *file;
  struct entry *entry = find(path, &file);
  if (entry == NULL) return errno = ENOENT, -1;
  if ((flags & O_ACCMODE) == O_RDWR) return errno = ETXTBSY, -1;
  if (strcmp(file, "inblob") == 0) {
    int ends[2];
    if ((flags & O_ACCMODE) != O_WRONLY) return errno = EACCES, -1;
    if (pipe(ends) != 0) return -1;
    entry->pipe = ends[0];
    return ends[1];
  }
  commit(entry);
  if (strcmp(file, "generation") == 0) return memory(bytes, snprintf((char *)bytes, 16, "%d\n", entry->generation));
  if (strcmp(file, "provider") == 0) {
    if (strcmp(setting("FAKE_TSM"), "none") == 0) return failure(ENXIO);
    return memory(bytes, snprintf((char *)bytes, 64, "%s\n", setting("FAKE_TSM")));
  }
  if (strcmp(file, "outblob") == 0) return outblob(entry);
  if (strcmp(file, "auxblob") == 0 && strcmp(setting("FAKE_TSM"), "sev_guest") == 0)
    return memory(bytes, load("FAKE_AUXBLOB", bytes, sizeof bytes));
  return errno = ENOENT, -1;
}

int open(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  if (strncmp(path, TREE, strlen(TREE)) == 0) return open_entry(path, flags);
  if (strcmp(path, DEVICE) == 0 && setting("FAKE_SEV_GUEST")[0] != '\0') return device = memory("", 0);
  if (strcmp(path, CCEL) == 0) return real_open(setting("FAKE_CCEL"), flags, mode);
  return real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return open(path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
  if (strncmp(path, TREE, strlen(TREE)) != 0) {
    static int (*next)(const char *, mode_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "mkdir");
    return next(path, mode);
  }
  if (setting("FAKE_TSM")[0] == '\0') return errno = ENOENT, -1;
  for (int i = 0; i < ENTRIES; i++) {
    if (entries[i].name[0] != '\0') continue;
    entries[i] = (struct entry){.pipe = -1};
    snprintf(entries[i].name, sizeof entries[i].name, "%s", path + strlen(TREE));
    return 0;
  }
  return errno = ENOSPC, -1;
}

int rmdir(const char *path) {
  const char *file;
  if (strncmp(path, TREE, strlen(TREE)) != 0) {
    static int (*next)(const char *);
    if (next == NULL) next = dlsym(RTLD_NEXT, "rmdir");
    return next(path);
  }
  struct entry *entry = find(path, &file);
  if (entry == NULL) return errno = ENOENT, -1;
  entry->name[0] = '\0';
  return 0;
}

ssize_t read(int fd, void *buffer, size_t length) {
  static ssize_t (*next)(int, void *, size_t);
  if (next == NULL) next = dlsym(RTLD_NEXT, "read");
  if (fd >= 0 && fd == failing) {
    failing = -1;
    return errno = failing_errno, -1;
  }
  return next(fd, buffer, length);
}

/* include/uapi/linux/sev-guest.h */
struct argument {
  uint8_t version, padding[7];
  uint64_t request, response;
  uint32_t firmware, vmm;
};

static int sev_guest(unsigned long request, struct argument *argument) {
  unsigned char *response = (unsigned char *)(uintptr_t)argument->response;
  unsigned char *body = (unsigned char *)(uintptr_t)argument->request;
  if (argument->version != 1) return errno = EINVAL, -1;
  if (fault("throttle") && throttled++ < 3) return argument->vmm = 2, errno = EAGAIN, -1;
  if (fault("invalid-param")) return argument->firmware = 0x16, errno = EIO, -1;
  if (fault("wiped")) return errno = ENOTTY, -1;
  if (fault("status")) return memcpy(response, "\x27\0\0\0", 4), 0;
  if (request == 0xc0205302) {
    static unsigned char table[1 << 16];
    uint64_t address;
    uint32_t room, needed = load("FAKE_CERTIFICATES", table, sizeof table);
    memcpy(&address, body + 96, 8);
    memcpy(&room, body + 104, 4);
    if (room % 4096 != 0 || room > 4 * 4096) return errno = EINVAL, -1;
    if (fault("large-table")) needed = 1 << 16;
    if (needed > room) {
      needed = (needed + 4095) / 4096 * 4096;
      memcpy(body + 104, &needed, 4);
      return argument->vmm = 1, errno = EIO, -1;
    }
    memcpy((void *)(uintptr_t)address, table, needed);
  } else if (request != 0xc0205300) {
    return errno = ENOTTY, -1;
  }
  memset(response, 0, 4000);
  uint32_t size = load("FAKE_SEV_GUEST", response + 32, 4000 - 32);
  memcpy(response + 4, &size, 4);
  echo(response + 32, size, body, 0x50);
  return 0;
}

int ioctl(int fd, unsigned long request, ...) {
  static int (*next)(int, unsigned long, ...);
  va_list list;
  va_start(list, request);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (fd >= 0 && fd == device) return sev_guest(request, argument);
  if (next == NULL) next = dlsym(RTLD_NEXT, "ioctl");
  return next(fd, request, argument);
}
