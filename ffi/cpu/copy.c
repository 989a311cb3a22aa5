/* libcudart's copies and fills. */
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

/* A copy that was checked. */
struct copy {
  char *to;
  const char *from;
  bool to_device, from_device;
};

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

static cudaError_t check(const char *call, void *to, const void *from, size_t count, int kind, struct copy *copy) {
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

static cudaError_t enqueue_copy(const char *call, const struct copy *copy, size_t count, cudaStream_t handle, struct stream *stream) {
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
  if (stream != NULL) error = check("cudaMemcpyAsync", to, from, count, kind, &copy);
  if (error == cudaSuccess && count > 0) error = enqueue_copy("cudaMemcpyAsync", &copy, count, handle, stream);
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
  if (stream != NULL) error = check("cudaMemcpy", to, from, count, kind, &copy);
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

/* As in CUDA the copies of a batch are in no order that a caller may count on; here they run one after the other. */
cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *sizes, size_t count,
                                 struct cudaMemcpyAttributes *attributes, size_t *attribute_starts, size_t attribute_count,
                                 cudaStream_t handle) {
  ENTER(cudaMemcpyBatchAsync);
  const char *const call = "cudaMemcpyBatchAsync";
  if ((uintptr_t)handle <= 2) return cuda_fail(cudaErrorInvalidValue, "%s does not take the default stream", call);
  if (count == 0 || to == NULL || from == NULL || sizes == NULL) {
    return cuda_fail(cudaErrorInvalidValue, "%s takes at least one copy, with its addresses and sizes", call);
  }
  if (attribute_count == 0 || attribute_count > count || attributes == NULL || attribute_starts == NULL || attribute_starts[0] != 0) {
    return cuda_fail(cudaErrorInvalidValue, "%s takes 1 to %zu attributes, the first for copy 0", call, count);
  }
  for (size_t i = 0; i < attribute_count; i++) {
    if (attributes[i].srcAccessOrder < 1 || attributes[i].srcAccessOrder > 3) {
      return cuda_fail(cudaErrorInvalidValue, "%s: attribute %zu has the access order %d, which is none", call, i,
                       attributes[i].srcAccessOrder);
    }
    if (i > 0 && (attribute_starts[i] <= attribute_starts[i - 1] || attribute_starts[i] >= count)) {
      return cuda_fail(cudaErrorInvalidValue, "%s: attribute %zu is for copy %zu, out of order", call, i, attribute_starts[i]);
    }
  }
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_for_work(handle, call, &error);
  struct copy copy;
  /* All are checked before the first is enqueued. */
  for (size_t i = 0; stream != NULL && error == cudaSuccess && i < count; i++) {
    if (sizes[i] == 0) error = cuda_fail(cudaErrorInvalidValue, "%s: copy %zu has no bytes", call, i);
    if (error == cudaSuccess) error = check(call, to[i], from[i], sizes[i], cudaMemcpyDefault, &copy);
  }
  for (size_t i = 0; stream != NULL && error == cudaSuccess && i < count; i++) {
    error = check(call, to[i], from[i], sizes[i], cudaMemcpyDefault, &copy);
    if (error == cudaSuccess) error = enqueue_copy(call, &copy, sizes[i], handle, stream);
    stream = handle_find(HANDLE_STREAM, handle);
  }
  engine_unlock();
  return error;
}
