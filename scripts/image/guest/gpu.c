/*
 * The GPU flavour's part of init. NVIDIA's modules are loaded from the verified root, in order, and are the only ones: the kernel
 * holds their digests and takes no others, and takes none at all once the sysctls are set. Then, in confidential mode, the GPU may be
 * started once for each reset: the daemon that keeps it started comes before anything else that would use it. The worker appraises
 * the GPU itself, and asks the keeper of the ready state to let it work, last.
 *
 * A machine without a GPU, and a daemon that fails, end in a worker that refuses and says why: nothing here vouches for anything.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define NVIDIA_MAJOR 195
#define CONTROL_MINOR 255
#define MAX_GPUS 16
#define DEVICES_BYTES 8192
#define DAEMON_ID 1001
#define DAEMON_FOLDER "/var/run/nvidia-persistenced"

static const char *const MODULES[] = {"nvidia", "nvidia-uvm"};

static int loaded;

/* Below `root`, which is empty once the verified root has become the root. */
static void module_path(const char *root, const char *name, char *out, size_t size) {
  struct utsname kernel;
  if (uname(&kernel) != 0) stop("kernel release");
  if ((size_t)snprintf(out, size, "%s/lib/modules/%s/%s.ko", root, kernel.release, name) >= size) stop("kernel release");
}

static int load_module(const char *name) {
  char path[192];
  module_path("/root", name, path, sizeof path);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) stop("module missing");
  int status = syscall(SYS_finit_module, file, "", 0);
  int why = errno;
  close(file);
  errno = why;
  return status;
}

#ifdef TEST_FLAVOUR
/* One of the list, `flip` bits different past its headers, must be refused for that reason. */
static void try_module(const char *root, const char *name, char flip, int expected, const char *said) {
  char path[192];
  struct stat info;
  module_path(root, name, path, sizeof path);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &info) != 0) stop("module missing");
  char *bytes = malloc(info.st_size);
  for (off_t length = 0; length < info.st_size;) {
    ssize_t n = bytes == NULL ? -1 : read(file, bytes + length, info.st_size - length);
    if (n <= 0) stop("module unreadable");
    length += n;
  }
  close(file);
  bytes[info.st_size / 2] ^= flip;
  int status = syscall(SYS_init_module, bytes, info.st_size, "");
  if (status == 0 || errno != expected) stop("a module was not refused as expected");
  free(bytes);
  say(said);
}

void try_modules_after(void) { try_module("", "nvidia-uvm", 0, EPERM, "no module is taken any more"); }
#endif

void load_gpu_modules(void) {
#ifdef TEST_FLAVOUR
  try_module("/root", "nvidia-uvm", 1, EKEYREJECTED, "an altered module was refused");
#endif
  for (size_t i = 0; i < sizeof MODULES / sizeof *MODULES; i++) {
    if (load_module(MODULES[i]) == 0) continue;
    /* The driver's own word for a machine without a GPU; whatever else it is, is no such machine. */
    if (errno != ENODEV || i > 0) stop(MODULES[i]);
    say("no GPU");
    return;
  }
  loaded = 1;
  say("GPU driver loaded");
}

/* A device's number as the kernel assigned it; 0 when there is none. */
static unsigned major_of(const char *name) {
  static char text[DEVICES_BYTES];
  int file = open("/proc/devices", O_RDONLY | O_CLOEXEC);
  if (file < 0) stop("device numbers");
  size_t length = 0;
  for (ssize_t n; length < sizeof text - 1 && (n = read(file, text + length, sizeof text - 1 - length)) > 0;) length += n;
  close(file);
  text[length] = '\0';
  for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    char *end;
    unsigned long number = strtoul(line, &end, 10);
    if (end != line && *end == ' ' && strcmp(end + 1, name) == 0) return number;
  }
  return 0;
}

static unsigned gpu_count(void) {
  unsigned count = 0;
  DIR *folder = opendir("/proc/driver/nvidia/gpus");
  if (folder == NULL) stop("GPU driver");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] != '.') count++;
  }
  closedir(folder);
  if (count > MAX_GPUS) stop("more GPUs than expected");
  return count;
}

static void make_node(const char *path, unsigned major, unsigned minor) {
  if (mknod(path, S_IFCHR | 0666, makedev(major, minor)) != 0) stop("device nodes");
}

void make_gpu_devices(void) {
  if (!loaded) return;
  char path[32];
  unsigned memory = major_of("nvidia-uvm");
  if (memory == 0) stop("GPU memory driver");
  make_node("/root/dev/nvidiactl", NVIDIA_MAJOR, CONTROL_MINOR);
  make_node("/root/dev/nvidia-uvm", memory, 0);
  for (unsigned i = 0, count = gpu_count(); i < count; i++) {
    snprintf(path, sizeof path, "/root/dev/nvidia%u", i);
    make_node(path, NVIDIA_MAJOR, i);
  }
}

void prepare_gpu_daemon(void) {
  char options[64];
  snprintf(options, sizeof options, "size=64k,mode=0755,uid=%d,gid=%d", DAEMON_ID, DAEMON_ID);
  if (mount("tmpfs", "/root" DAEMON_FOLDER, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) != 0) stop("run");
}

/* Returns when the daemon has started every GPU, or has given up. */
static void start_daemon(void) {
  static char *const arguments[] = {"/bin/nvidia-persistenced", "--uvm-persistence-mode", NULL};
  static char *const environment[] = {"LC_ALL=C.UTF-8", NULL};
  int status;
  pid_t daemon = fork();
  if (daemon < 0) stop("persistence");
  if (daemon == 0) {
    confine(DAEMON_ID, 0);
    execve(arguments[0], arguments, environment);
    _exit(127);
  }
  while (waitpid(daemon, &status, 0) < 0) {
    if (errno != EINTR) stop("persistence");
  }
  say(status == 0 ? "GPU persistent" : "GPU not persistent");
}

/* The keeper of the ready state, with one end of a socket; the worker gets the other. */
static int start_keeper(void) {
  static char *const arguments[] = {"/app/gpu-ready", NULL};
  static char *const environment[] = {"LC_ALL=C.UTF-8", NULL};
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) stop("ready state");
  pid_t keeper = fork();
  if (keeper < 0) stop("ready state");
  if (keeper > 0) {
    close(ends[1]);
    return ends[0];
  }
  if (dup2(ends[1], STDIN_FILENO) < 0) _exit(1);
  confine(0, CAPABILITY(CAP_SYS_ADMIN));
  execve(arguments[0], arguments, environment);
  _exit(127);
}

/* For everyone but the daemon, which has its files: a socket can be reached all the same, by a worker that may pass over owners. */
static void seal_daemon_folder(void) {
  const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount(DAEMON_FOLDER, DAEMON_FOLDER, NULL, MS_BIND, NULL) != 0) stop("run");
  if (mount(NULL, DAEMON_FOLDER, NULL, flags, NULL) != 0) stop("run");
}

int start_gpu(void) {
  if (loaded) start_daemon();
  seal_daemon_folder();
#ifdef TEST_FLAVOUR
  /* Without a GPU too, so that it is seen whether its answer reaches the worker. */
  return start_keeper();
#else
  return loaded ? start_keeper() : -1;
#endif
}
