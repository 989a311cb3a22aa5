/* For O_TMPFILE. */
#define _GNU_SOURCE
#include "shared_file.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"

/* Of <linux/mount.h>, which older C libraries lack. The system calls have these numbers on all architectures. */
enum { CALL_FSOPEN = 430, CALL_FSCONFIG = 431, CALL_FSMOUNT = 432 };
enum { FSOPEN_CLOSES_ON_EXEC = 1, FSMOUNT_CLOSES_ON_EXEC = 1, FSCONFIG_STRING = 1, FSCONFIG_CREATE = 6 };

int shared_file(const char *name) { return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */); }

/* A mounted tmpfs that no path leads to, of huge pages and any size; -1 where that is not allowed. */
static int mount_huge_pages(void) {
  int context = (int)syscall(CALL_FSOPEN, "tmpfs", FSOPEN_CLOSES_ON_EXEC);
  if (context < 0) return -1;
  int mount = -1;
  if (syscall(CALL_FSCONFIG, context, FSCONFIG_STRING, "huge", "always", 0) == 0 &&
      syscall(CALL_FSCONFIG, context, FSCONFIG_STRING, "size", "0", 0) == 0 &&
      syscall(CALL_FSCONFIG, context, FSCONFIG_CREATE, NULL, NULL, 0) == 0) {
    mount = (int)syscall(CALL_FSMOUNT, context, FSMOUNT_CLOSES_ON_EXEC, 0);
  }
  close(context);
  return mount;
}

int shared_file_of_huge_pages(const char *name) {
  int mount = settings_get()->huge_pages ? mount_huge_pages() : -1;
  if (mount < 0) return shared_file(name);
  /* The mount goes with the last descriptor of the file. */
  int fd = openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  close(mount);
  return fd >= 0 ? fd : shared_file(name);
}

int open_descriptor_of(int pid, int fd, bool writable) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
  return open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

void *reserve_addresses(size_t bytes) {
  char *range = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return NULL;
  size_t before = (HUGE_PAGE - (uintptr_t)range % HUGE_PAGE) % HUGE_PAGE;
  if (before > 0) munmap(range, before);
  munmap(range + before + bytes, HUGE_PAGE - before);
  return range + before;
}
