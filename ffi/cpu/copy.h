/* Copies, checked and enqueued. All functions are called with the engine's lock held. */
#ifndef SEQFERRY_CPU_COPY_H
#define SEQFERRY_CPU_COPY_H

#include <stdbool.h>
#include <stddef.h>

#include "api.h"

struct stream;

/* A copy that was checked. */
struct copy {
  char *to;
  const char *from;
  bool to_device, from_device;
};

cudaError_t copy_check(const char *call, void *to, const void *from, size_t count, int kind, struct copy *copy);
cudaError_t copy_enqueue(const char *call, const struct copy *copy, size_t count, cudaStream_t handle, struct stream *stream);

#endif
