/*
 * Test flavour only: tries what the worker must not be able to do, from inside its confinement; a line for each. Calls of the
 * filter's list get arguments that do nothing where the call is allowed.
 */
#define _GNU_SOURCE
#include "denied.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void report(const char *name, long result) {
  dprintf(STDOUT_FILENO, "%s %s\n", name, result >= 0 ? "ALLOWED" : strerrorname_np(errno));
}

int main(void) {
  static const char *const PATHS[] = {"/dev/mem", "/dev/kmsg",   "/dev/vda",       "/dev/vdb",    "/dev/console", "/dev/port",
                                      "/dev/tty", "/proc/kcore", "/proc/1/mem",    "/proc/1/environ"};
#define TRY(name) report(#name, syscall(SYS_##name, -1, -1, -1, -1, -1, -1));
  DENIED_CALLS(TRY)
  report("tmpfs-over-tmp", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
  report("setuid", setuid(0));
  report("raw-socket", socket(AF_INET, SOCK_RAW, 1));
  report("packet-socket", socket(AF_PACKET, SOCK_RAW, 0));
  for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) report(PATHS[i], open(PATHS[i], O_RDONLY));
  return 0;
}
