/* What the environment says, read once at first use. */
#ifndef SEQFERRY_CPU_SETTINGS_H
#define SEQFERRY_CPU_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct settings {
  int devices;         /* SEQFERRY_CPU_DEVICES: physical devices, 1 to 64; 8 */
  size_t memory;       /* SEQFERRY_CPU_MEMORY: bytes of each physical device; 8 GiB */
  bool strict;         /* SEQFERRY_CPU_STRICT=1: leaks change the exit code, freed memory is poisoned whole */
  bool verbose;        /* SEQFERRY_CPU_VERBOSE=1: leaks and refusals are told on standard error */
  bool shared_device;  /* SEQFERRY_CPU_SHARED_DEVICE=0 refuses two ranks of a communicator on one physical device */
  bool huge_pages;     /* SEQFERRY_CPU_HUGE_PAGES=0: device memory is of small pages; 1, where the system has them */
  int runtime_version; /* SEQFERRY_CPU_CUDART_VERSION: 1000 * major + 10 * minor; the build's */
};

const struct settings *settings_get(void);

#endif
