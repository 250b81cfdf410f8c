/*
 * The guest's first program, and its only one beside the worker and what the GPU flavour has (gpu.c). In order, each step or
 * nothing: kernel interfaces, modules from a fixed list where Debian's kernel needs them, lockdown as measured, the two verified
 * disks, the GPU's modules, a small writable scratch in memory, sysctls, network, the host's configuration as bytes, then the
 * worker, confined. It parses nothing but the measured command line and what the kernel says.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef OWN_KERNEL
/* In order of need; the optional ones are absent or refuse where the machine has no such device. */
static const char *const MODULES[] = {"failover", "net_failover", "virtio_net", "virtio_blk", "libcrc32c", "netfs",
                                      "erofs",    "reed_solomon", "dm-mod",     "dm-bufio",   "dm-verity", "configfs",
                                      "tsm"};
static const char *const OPTIONAL_MODULES[] = {"sev-guest", "tdx-guest", "qemu_fw_cfg"};
#endif

static const char *const SYSCTLS[][2] = {
    {"kernel/modules_disabled", "1"},         {"kernel/kexec_load_disabled", "1"},
    {"kernel/core_pattern", "|/"},            {"kernel/sysrq", "0"},
    {"kernel/kptr_restrict", "2"},            {"kernel/dmesg_restrict", "1"},
    {"kernel/perf_event_paranoid", "3"},      {"kernel/unprivileged_bpf_disabled", "1"},
    {"kernel/yama/ptrace_scope", "3"},        {"kernel/io_uring_disabled", "2"},
    {"user/max_user_namespaces", "0"},        {"vm/unprivileged_userfaultfd", "0"},
    {"net/ipv6/conf/all/disable_ipv6", "1"},  {"net/ipv4/conf/all/accept_redirects", "0"},
    {"fs/suid_dumpable", "0"},                {"fs/protected_symlinks", "1"},
};

/* One subnet and no route: nothing outside it can be reached, and nothing of the host's is asked for an address. */
#define ADDRESS "10.0.2.15"
#define NETMASK "255.255.255.0"

#define HOST_ITEMS "/sys/firmware/qemu_fw_cfg/by_name/opt/org.subrosa"
#define MAX_HOST_ITEM_BYTES 4096

#define WORKER_ID 1000
/* Where the worker finds its end of the socket to the keeper of the GPUs' ready state. */
#define READY_DESCRIPTOR 3

void say(const char *text) { dprintf(STDOUT_FILENO, "subrosa: %s\n", text); }

_Noreturn void stop(const char *what) {
  dprintf(STDOUT_FILENO, "subrosa: stopped: %s (%s)\n", what, strerrorname_np(errno));
  sync();
  reboot(RB_POWER_OFF);
  _exit(1);
}

static void must_mount(const char *type, const char *target, unsigned long flags, const char *options) {
  mkdir(target, 0755);
  if (mount(type, target, type, flags, options) != 0) stop(target);
}

static ssize_t read_file(const char *path, char *out, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  size_t length = 0;
  for (ssize_t n; length < size && (n = read(file, out + length, size - length)) > 0;) length += n;
  close(file);
  return length;
}

void argument(const char *name, char *out, size_t size) {
  static char line[4096];
  ssize_t length = read_file("/proc/cmdline", line, sizeof line - 1);
  if (length < 0) stop("command line");
  line[length] = '\0';
  for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
    size_t prefix = strlen(name);
    if (strncmp(word, name, prefix) != 0 || word[prefix] != '=') continue;
    if ((size_t)snprintf(out, size, "%s", word + prefix + 1) >= size) break;
    return;
  }
  errno = EINVAL;
  stop(name);
}

#ifndef OWN_KERNEL
static int load_module(const char *name) {
  char path[96];
  snprintf(path, sizeof path, "/modules/%s.ko", name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  int status = syscall(SYS_finit_module, file, "", 0);
  int why = errno;
  close(file);
  errno = why;
  return status;
}

static void load_modules(void) {
  for (size_t i = 0; i < sizeof MODULES / sizeof *MODULES; i++) {
    if (load_module(MODULES[i]) != 0) stop(MODULES[i]);
  }
  for (size_t i = 0; i < sizeof OPTIONAL_MODULES / sizeof *OPTIONAL_MODULES; i++) load_module(OPTIONAL_MODULES[i]);
}
#endif

/* The command line asks for it and is measured; that the kernel obeyed is checked all the same. */
static void require_lockdown(void) {
  char text[128];
  must_mount("securityfs", "/sys/kernel/security", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  ssize_t length = read_file("/sys/kernel/security/lockdown", text, sizeof text - 1);
  if (length < 0) stop("lockdown");
  text[length] = '\0';
  if (strstr(text, "[confidentiality]") == NULL) stop("lockdown");
  umount("/sys/kernel/security");
}

static void set_sysctls(void) {
  for (size_t i = 0; i < sizeof SYSCTLS / sizeof *SYSCTLS; i++) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", SYSCTLS[i][0]);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    /* A kernel without the feature has no switch for it. */
    if (file < 0 && errno == ENOENT) continue;
    if (file < 0 || write(file, SYSCTLS[i][1], strlen(SYSCTLS[i][1])) < 0) stop(SYSCTLS[i][0]);
    close(file);
  }
}

static void interface_up(int socket, const char *name, const char *address) {
  struct ifreq request = {0};
  struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (address != NULL) {
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    if (ioctl(socket, SIOCSIFADDR, &request) != 0) stop("network address");
    inet_pton(AF_INET, NETMASK, &in->sin_addr);
    if (ioctl(socket, SIOCSIFNETMASK, &request) != 0) stop("network mask");
  }
  if (ioctl(socket, SIOCGIFFLAGS, &request) != 0) stop("network interface");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(socket, SIOCSIFFLAGS, &request) != 0) stop("network interface");
}

static void start_network(void) {
  int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket_ < 0) stop("network");
  interface_up(socket_, "lo", NULL);
  interface_up(socket_, "eth0", ADDRESS);
  close(socket_);
}

/* Copies what the host handed over, unread: the worker compares its digest with the hardware's before it parses it. */
static void copy_host_item(const char *name) {
  char path[128], bytes[MAX_HOST_ITEM_BYTES + 1];
  snprintf(path, sizeof path, HOST_ITEMS "/%s/raw", name);
  ssize_t length = read_file(path, bytes, sizeof bytes);
  if (length < 0) return;
  if (length > MAX_HOST_ITEM_BYTES) stop("host item too long");
  snprintf(path, sizeof path, "/root/run/subrosa/%s", name);
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (file < 0 || write(file, bytes, length) != length) stop("host item");
  close(file);
}

static void make_devices(void) {
  static const struct { const char *path; unsigned minor; } DEVICES[] = {
      {"/root/dev/null", 3}, {"/root/dev/zero", 5}, {"/root/dev/random", 8}, {"/root/dev/urandom", 9}};
  must_mount("tmpfs", "/root/dev", MS_NOSUID | MS_NOEXEC, "size=64k,mode=0755");
  for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
    if (mknod(DEVICES[i].path, S_IFCHR | 0666, makedev(1, DEVICES[i].minor)) != 0) stop("device nodes");
  }
#ifdef GPU_FLAVOUR
  make_gpu_devices();
#endif
  if (mount(NULL, "/root/dev", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) != 0) stop("device nodes");
}

static void prepare_root(void) {
  char verity[128];
  argument("subrosa.root", verity, sizeof verity);
  mount_verified("/dev/vda", "root", verity, "/root");
  argument("subrosa.model", verity, sizeof verity);
  mount_verified("/dev/vdb", "model", verity, "/root/model");
  say("disks verified");
#ifdef GPU_FLAVOUR
  load_gpu_modules();
  prepare_gpu_daemon();
#endif

  const unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  must_mount("tmpfs", "/root/run", quiet, "size=64k,mode=0755");
  if (mkdir("/root/run/subrosa", 0755) != 0) stop("run");
  copy_host_item("configuration");
#ifdef TEST_FLAVOUR
  copy_host_item("simulated-host-data");
#endif
  if (mount(NULL, "/root/run", NULL, MS_REMOUNT | MS_RDONLY | quiet, NULL) != 0) stop("run");
  must_mount("tmpfs", "/root/tmp", quiet, "size=16m,mode=0700,uid=1000,gid=1000");
  make_devices();
  must_mount("proc", "/root/proc", quiet | MS_RDONLY, "hidepid=invisible");
  must_mount("sysfs", "/root/sys", quiet | MS_RDONLY, NULL);
  must_mount("configfs", "/root/sys/kernel/config", quiet, NULL);
}

static void enter_root(void) {
  if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0) {
    stop("root");
  }
}

/* Reports are made through files that belong to root; reaching them is the one privilege the worker keeps. */
static unsigned worker_capabilities(void) {
  return access("/sys/kernel/config/tsm/report", F_OK) == 0 ? CAPABILITY(CAP_DAC_OVERRIDE) : 0;
}

static pid_t start_worker(int ready) {
  static char *const arguments[] = {"/bin/node", "--disallow-code-generation-from-strings",
                                    "--disable-warning=ExperimentalWarning", "/app/worker.mjs", NULL};
  static char *environment[] = {"LC_ALL=C.UTF-8", "TZ=UTC", "NODE_ENV=production", "HOME=/tmp", NULL, NULL};
  pid_t worker = fork();
  if (worker < 0) stop("worker");
  if (worker > 0) return worker;
  int nothing = open("/dev/null", O_RDONLY);
  if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0) _exit(1);
  if (ready >= 0) {
    // Where it is that descriptor already, dup2 does nothing, and it would be closed with the others.
    if (dup2(ready, READY_DESCRIPTOR) < 0 || fcntl(READY_DESCRIPTOR, F_SETFD, 0) != 0) _exit(1);
    environment[sizeof environment / sizeof *environment - 2] = "SUBROSA_GPU_READY=3";
  }
  confine(WORKER_ID, worker_capabilities());
  execve(arguments[0], arguments, environment);
  _exit(127);
}

int main(void) {
  must_mount("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
  int console = open("/dev/console", O_RDWR);
  for (int fd = 0; fd < 3 && console >= 0; fd++) dup2(console, fd);
  if (console > 2) close(console);
  must_mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
#ifdef TEST_FLAVOUR
  say("SIMULATED flavour: it protects nothing");
#endif
#ifndef OWN_KERNEL
  load_modules();
#endif
  require_lockdown();
  prepare_root();
  start_network();
  set_sysctls();
  enter_root();
#ifdef GPU_FLAVOUR
#ifdef TEST_FLAVOUR
  try_modules_after();
#endif
  pid_t worker = start_worker(start_gpu());
#else
  pid_t worker = start_worker(-1);
#endif
  say("worker started");

  for (int status;;) {
    pid_t ended = wait(&status);
    if (ended < 0 && errno == EINTR) continue;
    if (ended != worker && ended >= 0) continue;
    errno = 0;
    stop("worker ended");
  }
}
