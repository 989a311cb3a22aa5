/* libcudart's calls on device memory. */
#include <stdio.h>

#include "accounts.h"
#include "api.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "faults.h"
#include "memory.h"
#include "settings.h"
#include "stream.h"

static cudaError_t allocate(const char *call, int device, size_t size, void **address) {
  uintptr_t found = 0;
  int told_to_answer = faults_armed() ? fault_of_memory(device, size) : 0;
  if (told_to_answer != 0) return cuda_fail(told_to_answer, "%s: %zu bytes were asked for, and told to be refused", call, size);
  switch (heap_allocate(size, device, &found)) {
    case ALLOCATED:
      *address = (void *)found;
      return cudaSuccess;
    case NO_DEVICE_MEMORY:
      return cuda_fail(cudaErrorMemoryAllocation, "%s: %zu bytes were asked for, and of device %d's %zu bytes %zu are free", call,
                       size, device_physical(device), settings_get()->memory,
                       settings_get()->memory - heap_live_bytes(device_physical(device)));
    case NO_HOST_MEMORY:
      break;
  }
  return cuda_fail(cudaErrorMemoryAllocation, "%s: %zu bytes were asked for, and the host cannot provide them", call, size);
}

cudaError_t cudaMalloc(void **address, size_t size) {
  ENTER(cudaMalloc);
  if (address == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaMalloc was given no place for its answer");
  *address = NULL;
  engine_lock();
  struct device *device = device_get(device_current());
  cudaError_t error = device == NULL ? cuda_fail(cudaErrorMemoryAllocation, "cudaMalloc: the host's memory is used up")
                                     : device_may_synchronize(device, "cudaMalloc", true);
  if (error == cudaSuccess && size > 0) error = allocate("cudaMalloc", device->ordinal, size, address);
  engine_unlock();
  return error;
}

/* The block at an address that is to be freed; NULL after setting the error. */
static struct block *to_free(const char *call, void *address, cudaError_t *error) {
  struct block *block = heap_block((uintptr_t)address);
  if (block == NULL) {
    *error = cuda_fail(cudaErrorInvalidValue, "%s was given %p, which is not the start of a live device allocation%s", call, address,
                       heap_owns(address) ? " (was it freed before?)" : "");
  } else if (block->freeing) {
    *error = cuda_fail(cudaErrorInvalidValue, "%s was given %p, which a stream is to free already", call, address);
    block = NULL;
  }
  return block;
}

cudaError_t cudaFree(void *address) {
  ENTER(cudaFree);
  if (address == NULL) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct block *block = to_free("cudaFree", address, &error);
  struct device *device = block == NULL ? NULL : device_get(block->device);
  if (device != NULL) error = device_may_synchronize(device, "cudaFree", true);
  if (error == cudaSuccess) {
    /* Work enqueued before may still read or write it. */
    device_drain(device);
    block = to_free("cudaFree", address, &error);
    if (block != NULL) heap_free(block);
  }
  engine_unlock();
  return error;
}

cudaError_t cudaMallocAsync(void **address, size_t size, cudaStream_t handle) {
  ENTER(cudaMallocAsync);
  if (address == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaMallocAsync was given no place for its answer");
  *address = NULL;
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_for_work(handle, "cudaMallocAsync", &error);
  if (stream != NULL && size > 0) error = allocate("cudaMallocAsync", stream->device->ordinal, size, address);
  engine_unlock();
  return error;
}

cudaError_t cudaFreeAsync(void *address, cudaStream_t handle) {
  ENTER(cudaFreeAsync);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_for_work(handle, "cudaFreeAsync", &error);
  struct block *block = stream == NULL || address == NULL ? NULL : to_free("cudaFreeAsync", address, &error);
  if (block != NULL) {
    struct work *work = work_new(WORK_FREE);
    if (work == NULL) {
      error = cuda_fail(cudaErrorMemoryAllocation, "cudaFreeAsync: the host's memory is used up");
    } else {
      block->freeing = true;
      work->address = block->address;
      stream_enqueue(stream, work);
    }
  }
  engine_unlock();
  return error;
}
