/*
 * Devices. An ordinal is `physical | instance << 16`: instances of one physical device share its memory, as with MIG, but each has streams
 * and outstanding groups of its own, so that many ranks of one process are told apart.
 */
#ifndef SEQFERRY_CPU_DEVICE_H
#define SEQFERRY_CPU_DEVICE_H

#include <stdbool.h>

#define DEVICE_INSTANCE_SHIFT 16

struct stream;

/* One device instance; made on first use, kept for the life of the process. */
struct device {
  int ordinal;
  struct stream *default_stream;    /* the NULL stream; made on first use */
  unsigned nonblocking_groups;      /* outstanding groups of nonblocking communicators */
  unsigned blocking_groups;         /* and of blocking ones */
  struct device *next;              /* in its hash bucket */
};

static inline int device_physical(int ordinal) { return ordinal & ((1 << DEVICE_INSTANCE_SHIFT) - 1); }

bool device_exists(int ordinal);
/* The calling thread's current ordinal. */
int device_current(void);
/* The instance with an ordinal; NULL when memory is short. Lock held. */
struct device *device_get(int ordinal);

#endif
