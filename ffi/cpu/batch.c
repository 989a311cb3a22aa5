/* libcudart's copies in batches, in the form of the release: 12.8 and 12.9 answer the index of the copy that failed. */
#include <stdint.h>

#include "accounts.h"
#include "api.h"
#include "copy.h"
#include "engine.h"
#include "errors.h"
#include "handles.h"
#include "stream.h"

#if HAS_BATCH

static const char *const call = "cudaMemcpyBatchAsync";

static cudaError_t check_attributes(size_t count, const struct cudaMemcpyAttributes *attributes, const size_t *starts, size_t n) {
  if (n == 0 || n > count || attributes == NULL || starts == NULL || starts[0] != 0) {
    return cuda_fail(cudaErrorInvalidValue, "%s takes 1 to %zu attributes, the first for copy 0", call, count);
  }
  for (size_t i = 0; i < n; i++) {
    if (attributes[i].srcAccessOrder < 1 || attributes[i].srcAccessOrder > 3) {
      return cuda_fail(cudaErrorInvalidValue, "%s: attribute %zu has the access order %d, which is none", call, i,
                       attributes[i].srcAccessOrder);
    }
    if (i > 0 && (starts[i] <= starts[i - 1] || starts[i] >= count)) {
      return cuda_fail(cudaErrorInvalidValue, "%s: attribute %zu is for copy %zu, out of order", call, i, starts[i]);
    }
  }
  return cudaSuccess;
}

/* As in CUDA the copies of a batch are in no order that a caller may count on; here they run one after the other. */
static cudaError_t enqueue_batch(void *const *to, const void *const *from, const size_t *sizes, size_t count,
                                 const struct cudaMemcpyAttributes *attributes, const size_t *starts, size_t attribute_count,
                                 cudaStream_t handle, size_t *failed) {
  if ((uintptr_t)handle <= 2) return cuda_fail(cudaErrorInvalidValue, "%s does not take the default stream", call);
  if (count == 0 || to == NULL || from == NULL || sizes == NULL) {
    return cuda_fail(cudaErrorInvalidValue, "%s takes at least one copy, with its addresses and sizes", call);
  }
  cudaError_t error = check_attributes(count, attributes, starts, attribute_count);
  if (error != cudaSuccess) return error;
  engine_lock();
  struct stream *stream = stream_for_work(handle, call, &error);
  struct copy copy;
  /* All are checked before the first is enqueued. */
  for (size_t i = 0; stream != NULL && error == cudaSuccess && i < count; i++) {
    if (sizes[i] == 0) error = cuda_fail(cudaErrorInvalidValue, "%s: copy %zu has no bytes", call, i);
    if (error == cudaSuccess) error = copy_check(call, to[i], from[i], sizes[i], cudaMemcpyDefault, &copy);
    if (error != cudaSuccess) *failed = i;
  }
  for (size_t i = 0; stream != NULL && error == cudaSuccess && i < count; i++) {
    error = copy_check(call, to[i], from[i], sizes[i], cudaMemcpyDefault, &copy);
    if (error == cudaSuccess) error = copy_enqueue(call, &copy, sizes[i], handle, stream);
    if (error != cudaSuccess) *failed = i;
    stream = handle_find(HANDLE_STREAM, handle);
  }
  engine_unlock();
  return error;
}

#if HAS_BATCH_INDEX

cudaError_t cudaMemcpyBatchAsync(void **to, void **from, size_t *sizes, size_t count, struct cudaMemcpyAttributes *attributes,
                                 size_t *attribute_starts, size_t attribute_count, size_t *fail_index, cudaStream_t handle) {
  ENTER(cudaMemcpyBatchAsync);
  size_t failed = SIZE_MAX;
  cudaError_t error = enqueue_batch(to, (const void *const *)from, sizes, count, attributes, attribute_starts, attribute_count, handle,
                                    &failed);
  if (error != cudaSuccess && fail_index != NULL) *fail_index = failed;
  return error;
}

#else

cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *sizes, size_t count,
                                 struct cudaMemcpyAttributes *attributes, size_t *attribute_starts, size_t attribute_count,
                                 cudaStream_t handle) {
  ENTER(cudaMemcpyBatchAsync);
  return enqueue_batch(to, from, sizes, count, attributes, attribute_starts, attribute_count, handle, &(size_t){0});
}

#endif
#endif
