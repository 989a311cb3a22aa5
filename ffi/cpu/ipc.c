/* libcudart's calls that hand device memory to other processes. */
#include <string.h>

#include "accounts.h"
#include "api.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "imports.h"
#include "memory.h"
#include "process.h"
#include "stream.h"

#define MEMORY_MAGIC UINT64_C(0x5346495043424c4b)

_Static_assert(sizeof(struct export_place) <= sizeof(cudaIpcMemHandle_t), "a place fits a handle");

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *address) {
  ENTER(cudaIpcGetMemHandle);
  if (handle == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaIpcGetMemHandle was given no place for its answer");
  cudaError_t error = cudaSuccess;
  engine_lock();
  const struct block *block = heap_block((uintptr_t)address);
  const struct self *self = process_self();
  if (block == NULL) {
    error = cuda_fail(cudaErrorInvalidValue, "cudaIpcGetMemHandle was given %p, which is not the start of a live device allocation",
                      address);
  } else {
    struct export_place place = {.magic = MEMORY_MAGIC,
                                 .start_time = self->start_time,
                                 .offset = heap_offset(address),
                                 .bytes = block->asked,
                                 .pid = self->pid,
                                 .heap_fd = heap_descriptor()};
    memset(handle, 0, sizeof *handle);
    memcpy(handle, &place, sizeof place);
  }
  engine_unlock();
  return error;
}

cudaError_t cudaIpcOpenMemHandle(void **address, cudaIpcMemHandle_t handle, unsigned int flags) {
  ENTER(cudaIpcOpenMemHandle);
  const char *const call = "cudaIpcOpenMemHandle";
  if (address == NULL) return cuda_fail(cudaErrorInvalidValue, "%s was given no place for its answer", call);
  *address = NULL;
  if (flags != cudaIpcMemLazyEnablePeerAccess) {
    return cuda_fail(cudaErrorInvalidValue, "the flags of %s are cudaIpcMemLazyEnablePeerAccess (1), not %u", call, flags);
  }
  struct export_place place;
  memcpy(&place, &handle, sizeof place);
  if (place.magic != MEMORY_MAGIC) return cuda_fail(cudaErrorInvalidValue, "%s was given bytes that are no memory handle", call);
  cudaError_t error = cudaSuccess;
  engine_lock();
  const struct self *self = process_self();
  if (self == NULL) {
    error = cuda_fail(cudaErrorOperatingSystem, "%s: the process cannot start sharing memory", call);
  } else if (place.pid == self->pid && place.start_time == self->start_time) {
    error = cuda_fail(cudaErrorDeviceUninitialized, "%s was given a handle that this process itself exported", call);
  } else {
    /* As if all devices could reach each other: the memory may be another device's. */
    uintptr_t found = 0;
    switch (import_open(&place, &found)) {
      case IMPORTED:
        *address = (void *)found;
        break;
      case NO_SUCH_PROCESS:
        error = cuda_fail(cudaErrorInvalidValue, "%s: process %d, which exported the memory, has ended or cannot be reached", call, place.pid);
        break;
      case NO_SUCH_MEMORY:
        error = cuda_fail(cudaErrorInvalidValue, "%s: process %d has no %llu bytes there", call, place.pid, (unsigned long long)place.bytes);
        break;
      case NO_ADDRESSES:
        error = cuda_fail(cudaErrorMapBufferObjectFailed, "%s: %llu bytes find no addresses here", call, (unsigned long long)place.bytes);
        break;
    }
  }
  engine_unlock();
  return error;
}

cudaError_t cudaIpcCloseMemHandle(void *address) {
  ENTER(cudaIpcCloseMemHandle);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct device *device = device_get(device_current());
  if (device != NULL) error = device_may_synchronize(device, "cudaIpcCloseMemHandle", true);
  if (error == cudaSuccess) {
    /* Work enqueued before may still read or write it. */
    if (device != NULL) device_drain(device);
    if (!import_close((uintptr_t)address)) {
      error = cuda_fail(cudaErrorInvalidValue, "cudaIpcCloseMemHandle was given %p, which cudaIpcOpenMemHandle did not give, or no longer",
                        address);
    }
  }
  engine_unlock();
  return error;
}
