/*
 * What a program of the guest may not do, even if it were taken over: it has the capabilities it was given and can gain no others,
 * and the system calls that change the machine, look into other processes or load code into the kernel are refused.
 */
#define _GNU_SOURCE
#include "denied.h"
#include "guest.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32_BIT 0x40000000u

#define NUMBER(name) SYS_##name,
static const unsigned DENIED[] = {DENIED_CALLS(NUMBER)};
#define DENIED_COUNT (sizeof DENIED / sizeof *DENIED)

static void filter_system_calls(void) {
  static struct sock_filter code[6 + 2 * DENIED_COUNT];
  unsigned n = 0;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2 * DENIED_COUNT - 1, 0);
  for (unsigned i = 0; i < DENIED_COUNT; i++) {
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DENIED[i], 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  }
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = n, .filter = code};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) stop("system call filter");
}

static int is_kept(int capability, unsigned capabilities) {
  return capability < 32 && (capabilities & CAPABILITY(capability)) != 0;
}

static void keep_only(unsigned capabilities) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[2] = {{0}, {0}};
  data[0].effective = data[0].permitted = data[0].inheritable = capabilities;
  if (syscall(SYS_capset, &header, data) != 0) stop("capabilities");
  for (int capability = 0; capability < 32; capability++) {
    if (!is_kept(capability, capabilities)) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) stop("capabilities");
  }
}

void confine(unsigned id, unsigned capabilities) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) stop("core limit");
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    if (!is_kept(capability, capabilities) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) stop("bounding set");
  }
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) stop("capabilities");
  if (setgroups(0, NULL) != 0 || setresgid(id, id, id) != 0) stop("group");
  if (setresuid(id, id, id) != 0) stop("user");
  keep_only(capabilities);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) stop("no new privileges");
  filter_system_calls();
}
