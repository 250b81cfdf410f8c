/* System calls that the worker is refused. The filter is made of this list, and the probe of the test flavour tries each. */
#ifndef DENIED_H
#define DENIED_H

#define DENIED_CALLS(X) \
  /* the machine */ \
    X(mount) X(umount2) X(pivot_root) X(chroot) X(swapon) X(swapoff) X(reboot) X(kexec_load) \
    X(kexec_file_load) X(init_module) X(finit_module) X(delete_module) X(iopl) X(ioperm) X(settimeofday) \
    X(clock_settime) X(adjtimex) X(clock_adjtime) X(sethostname) X(setdomainname) X(acct) X(quotactl) \
    X(syslog) X(mknod) X(mknodat) X(open_tree) X(move_mount) X(fsopen) X(fsconfig) X(fsmount) X(fspick) \
    X(mount_setattr) \
  /* other processes, and this one from outside */ \
    X(ptrace) X(process_vm_readv) X(process_vm_writev) X(process_madvise) X(kcmp) X(pidfd_getfd) X(setns) \
    X(unshare) \
  /* large kernel interfaces that inference has no use for */ \
    X(bpf) X(perf_event_open) X(userfaultfd) X(io_uring_setup) X(io_uring_enter) X(io_uring_register) \
    X(keyctl) X(add_key) X(request_key) X(fanotify_init) X(name_to_handle_at) X(open_by_handle_at) \
    X(lookup_dcookie) X(vhangup) X(personality) X(memfd_secret)

#endif
