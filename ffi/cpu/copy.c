/* libcudart's copies and fills. */
#include "copy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "api.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "handles.h"
#include "memory.h"
#include "pinned.h"
#include "stream.h"

static cudaError_t check_end(const char *call, const char *end, const void *address, size_t count, bool device) {
  char why[256];
  if (device) {
    return heap_check(address, count, why, sizeof why) ? cudaSuccess : cuda_fail(cudaErrorInvalidValue, "%s: its %s %s", call, end, why);
  }
  if (address == NULL) return cuda_fail(cudaErrorInvalidValue, "%s: its %s is NULL", call, end);
  if (heap_owns(address)) {
    return cuda_fail(cudaErrorInvalidValue, "%s: its %s is said to be on the host, and %p is a device address", call, end, address);
  }
  return cudaSuccess;
}

cudaError_t copy_check(const char *call, void *to, const void *from, size_t count, int kind, struct copy *copy) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
    return cuda_fail(cudaErrorInvalidMemcpyDirection, "%s: there is no kind of copy %d", call, kind);
  }
  copy->to_device = kind == cudaMemcpyDefault ? heap_owns(to) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  copy->from_device = kind == cudaMemcpyDefault ? heap_owns(from) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (count == 0) return cudaSuccess;
  cudaError_t error = check_end(call, "destination", to, count, copy->to_device);
  if (error == cudaSuccess) error = check_end(call, "source", from, count, copy->from_device);
  copy->to = copy->to_device ? heap_pointer(to) : to;
  copy->from = copy->from_device ? heap_pointer(from) : from;
  return error;
}

/* Drives a stream until it has done `count` entries, or would have to wait for something. Drops the lock between chunks. */
static void drive_to(cudaStream_t handle, struct stream *stream, uint64_t count) {
  while (stream != NULL && stream->completed < count) {
    size_t budget = QUERY_BUDGET;
    cudaStream_t again = stream->handle;
    if (!stream_advance(stream, &budget)) return;
    engine_unlock();
    engine_lock();
    /* A default stream never goes; another may have been destroyed meanwhile. */
    if (again != NULL) stream = handle_find(HANDLE_STREAM, handle);
  }
}

cudaError_t copy_enqueue(const char *call, const struct copy *copy, size_t count, cudaStream_t handle, struct stream *stream) {
  bool takes = !copy->from_device && !pinned_covers(copy->from, count);
  bool gives = !copy->to_device && !pinned_covers(copy->to, count);
  /* Pageable bytes are taken before the call returns: at once where the queue is empty or can be emptied, else by way of a copy. */
  if (takes && stream->head != NULL) {
    drive_to(handle, stream, stream->enqueued);
    stream = stream_find(handle, call, &(cudaError_t){0});
    if (stream == NULL) return cudaErrorInvalidResourceHandle;
  }
  struct work *work = work_new(WORK_COPY);
  void *stage = NULL;
  if (work != NULL && takes && stream->head != NULL) {
    stage = malloc(count);
    if (stage != NULL) memcpy(stage, copy->from, count);
  }
  if (work == NULL || (takes && stream->head != NULL && stage == NULL)) {
    free(work);
    return cuda_fail(cudaErrorMemoryAllocation, "%s: the host's memory is used up", call);
  }
  bool direct = (takes && stage == NULL) || gives;
  work->copy.to = copy->to;
  work->copy.from = stage != NULL ? stage : copy->from;
  work->copy.bytes = count;
  work->copy.stage = stage;
  uint64_t ticket = stream->enqueued + 1;
  stream_enqueue(stream, work);
  if (direct && stream->completed < ticket) drive_to(handle, stream, ticket);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t count, int kind, cudaStream_t handle) {
  ENTER(cudaMemcpyAsync);
  cudaError_t error = cudaSuccess;
  struct copy copy;
  engine_lock();
  struct stream *stream = stream_for_work(handle, "cudaMemcpyAsync", &error);
  if (stream != NULL) error = copy_check("cudaMemcpyAsync", to, from, count, kind, &copy);
  if (error == cudaSuccess && count > 0) error = copy_enqueue("cudaMemcpyAsync", &copy, count, handle, stream);
  engine_unlock();
  return error;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t count, int kind) {
  ENTER(cudaMemcpy);
  cudaError_t error = device_may_poll("cudaMemcpy");
  if (error != cudaSuccess) return error;
  struct copy copy;
  engine_lock();
  struct stream *stream = stream_for_work(NULL, "cudaMemcpy", &error);
  if (stream != NULL) error = copy_check("cudaMemcpy", to, from, count, kind, &copy);
  if (error == cudaSuccess && count > 0) {
    struct work *work = work_new(WORK_COPY);
    if (work == NULL) {
      error = cuda_fail(cudaErrorMemoryAllocation, "cudaMemcpy: the host's memory is used up");
    } else {
      work->copy.to = copy.to;
      work->copy.from = copy.from;
      work->copy.bytes = count;
      stream_enqueue(stream, work);
      stream_wait(stream);
    }
  }
  engine_unlock();
  return error;
}

static cudaError_t enqueue_fill(const char *call, void *address, int value, size_t count, struct stream *stream) {
  if (count == 0) return cudaSuccess;
  cudaError_t error = check_end(call, "destination", address, count, true);
  if (error != cudaSuccess) return error;
  struct work *work = work_new(WORK_FILL);
  if (work == NULL) return cuda_fail(cudaErrorMemoryAllocation, "%s: the host's memory is used up", call);
  work->fill.to = heap_pointer(address);
  work->fill.bytes = count;
  work->fill.value = value & 0xff;
  stream_enqueue(stream, work);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *address, int value, size_t count, cudaStream_t handle) {
  ENTER(cudaMemsetAsync);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_for_work(handle, "cudaMemsetAsync", &error);
  if (stream != NULL) error = enqueue_fill("cudaMemsetAsync", address, value, count, stream);
  engine_unlock();
  return error;
}

cudaError_t cudaMemset(void *address, int value, size_t count) {
  ENTER(cudaMemset);
  cudaError_t error = device_may_poll("cudaMemset");
  if (error != cudaSuccess) return error;
  engine_lock();
  struct stream *stream = stream_for_work(NULL, "cudaMemset", &error);
  if (stream != NULL) error = enqueue_fill("cudaMemset", address, value, count, stream);
  if (error == cudaSuccess) stream_wait(stream);
  engine_unlock();
  return error;
}
