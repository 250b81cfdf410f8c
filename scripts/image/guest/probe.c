/* Test flavour only: tries what the worker must not be able to do, from inside its confinement; a line for each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void report(const char *name, long result) {
  dprintf(STDOUT_FILENO, "%s %s\n", name, result >= 0 ? "ALLOWED" : strerrorname_np(errno));
}

int main(void) {
  static const char *const PATHS[] = {"/dev/mem", "/dev/kmsg",   "/dev/vda",       "/dev/vdb",    "/dev/console",
                                      "/dev/tty", "/proc/kcore", "/proc/1/mem",    "/proc/1/environ"};
  report("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
  report("swapon", syscall(SYS_swapon, "/tmp/swap", 0));
  report("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
  report("init_module", syscall(SYS_init_module, "", 0, ""));
  report("bpf", syscall(SYS_bpf, 0, NULL, 0));
  report("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
  report("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
  report("userfaultfd", syscall(SYS_userfaultfd, 0));
  report("unshare", syscall(SYS_unshare, 0x10000000));
  report("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
  report("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
  report("chroot", chroot("/tmp"));
  report("setuid", setuid(0));
  report("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  report("raw socket", socket(AF_INET, SOCK_RAW, 1));
  report("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
  for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) report(PATHS[i], open(PATHS[i], O_RDONLY));
  return 0;
}
