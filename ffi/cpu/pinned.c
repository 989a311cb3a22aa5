#include "pinned.h"

#include <stdint.h>
#include <stdlib.h>

#include "accounts.h"
#include "api.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "stream.h"

/* Some address ranges; there are few, so a list does. */
static struct range {
  struct range *next;
  uintptr_t start;
  size_t bytes;
  bool registered; /* the memory is the caller's */
} *ranges;

bool pinned_covers(const void *host, size_t bytes) {
  for (const struct range *range = ranges; range != NULL; range = range->next) {
    size_t offset = (uintptr_t)host - range->start;
    if (offset < range->bytes && bytes <= range->bytes - offset) return true;
  }
  return false;
}

static bool overlaps(uintptr_t start, size_t bytes) {
  for (const struct range *range = ranges; range != NULL; range = range->next) {
    if (start < range->start + range->bytes && range->start < start + bytes) return true;
  }
  return false;
}

static bool add(uintptr_t start, size_t bytes, bool registered) {
  struct range *range = malloc(sizeof *range);
  if (range == NULL) return false;
  *range = (struct range){.next = ranges, .start = start, .bytes = bytes, .registered = registered};
  ranges = range;
  account_add(ACCOUNT_PINNED_BYTES, bytes);
  return true;
}

/* Takes the range that begins at `start` off the list; false where there is none of this kind. */
static bool remove_range(uintptr_t start, bool registered) {
  for (struct range **link = &ranges; *link != NULL; link = &(*link)->next) {
    struct range *range = *link;
    if (range->start != start || range->registered != registered) continue;
    *link = range->next;
    account_subtract(ACCOUNT_PINNED_BYTES, range->bytes);
    free(range);
    return true;
  }
  return false;
}

static cudaError_t may_allocate(const char *call) {
  struct device *device = device_get(device_current());
  if (device == NULL) return cuda_fail(cudaErrorMemoryAllocation, "%s: the host's memory is used up", call);
  return device_may_synchronize(device, call, true);
}

cudaError_t cudaHostAlloc(void **host, size_t size, unsigned int flags) {
  ENTER(cudaHostAlloc);
  if (host == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaHostAlloc was given no place for its answer");
  if (flags > 7) return cuda_fail(cudaErrorInvalidValue, "the flags of cudaHostAlloc are 0 to 7, not %u", flags);
  *host = NULL;
  engine_lock();
  cudaError_t error = may_allocate("cudaHostAlloc");
  if (error == cudaSuccess && size > 0) {
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, size) != 0 || !add((uintptr_t)memory, size, false)) {
      free(memory);
      error = cuda_fail(cudaErrorMemoryAllocation, "cudaHostAlloc: the host has no %zu bytes left", size);
    } else {
      *host = memory;
    }
  }
  engine_unlock();
  return error;
}

cudaError_t cudaFreeHost(void *host) {
  ENTER(cudaFreeHost);
  if (host == NULL) return cudaSuccess;
  engine_lock();
  cudaError_t error = may_allocate("cudaFreeHost");
  if (error == cudaSuccess) {
    device_drain(device_get(device_current()));
    if (remove_range((uintptr_t)host, false)) {
      free(host);
    } else {
      error = cuda_fail(cudaErrorInvalidValue, "cudaFreeHost was given %p, which cudaHostAlloc did not give, or which was freed", host);
    }
  }
  engine_unlock();
  return error;
}

cudaError_t cudaHostRegister(void *host, size_t size, unsigned int flags) {
  ENTER(cudaHostRegister);
  if (host == NULL || size == 0) {
    return cuda_fail(cudaErrorInvalidValue, "cudaHostRegister takes at least one byte, not %zu at %p", size, host);
  }
  if (flags > 15) return cuda_fail(cudaErrorInvalidValue, "the flags of cudaHostRegister are 0 to 15, not %u", flags);
  cudaError_t error = cudaSuccess;
  engine_lock();
  if (overlaps((uintptr_t)host, size)) {
    error = cuda_fail(cudaErrorHostMemoryAlreadyRegistered, "part of %zu bytes at %p is pinned already", size, host);
  } else if (!add((uintptr_t)host, size, true)) {
    error = cuda_fail(cudaErrorMemoryAllocation, "cudaHostRegister: the host's memory is used up");
  }
  engine_unlock();
  return error;
}

cudaError_t cudaHostUnregister(void *host) {
  ENTER(cudaHostUnregister);
  cudaError_t error = cudaSuccess;
  engine_lock();
  if (!remove_range((uintptr_t)host, true)) {
    error = cuda_fail(cudaErrorHostMemoryNotRegistered, "no host memory registered at %p", host);
  }
  engine_unlock();
  return error;
}
