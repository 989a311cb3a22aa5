#include "stream.h"

#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "copy_bytes.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "event.h"
#include "group.h"
#include "handles.h"
#include "memory.h"

/* Streams with work: a ring; the next one to look at. */
static struct stream *active;

static void activate(struct stream *stream) {
  if (active == NULL) {
    active = stream->next = stream->previous = stream;
    return;
  }
  stream->next = active;
  stream->previous = active->previous;
  active->previous->next = stream;
  active->previous = stream;
}

static void deactivate(struct stream *stream) {
  if (active == stream) active = stream->next == stream ? NULL : stream->next;
  stream->previous->next = stream->next;
  stream->next->previous = stream->previous;
  stream->next = stream->previous = NULL;
  if (stream->closing) free(stream);
}

bool streams_active(void) { return active != NULL; }

static struct stream *stream_new(struct device *device) {
  struct stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) return NULL;
  stream->device = device;
  stream->tail = &stream->head;
  return stream;
}

struct work *work_new(enum work_kind kind) {
  struct work *work = calloc(1, sizeof *work);
  if (work != NULL) work->kind = kind;
  return work;
}

/* ---- doing the work */

static size_t portion(size_t bytes, size_t done, size_t *budget) {
  size_t left = bytes - done;
  if (left > *budget) left = *budget;
  *budget -= left;
  return left;
}

static enum step step(struct work *work, size_t *budget) {
  switch (work->kind) {
    case WORK_COPY: {
      size_t bytes = portion(work->copy.bytes, work->copy.done, budget);
      /* Source and destination may overlap within one allocation. */
      if (bytes > 0) copy_bytes(work->copy.to + work->copy.done, work->copy.from + work->copy.done, bytes, work->copy.bytes);
      work->copy.done += bytes;
      return work->copy.done == work->copy.bytes ? STEP_DONE : bytes > 0 ? STEP_MOVED : STEP_STUCK;
    }
    case WORK_FILL: {
      size_t bytes = portion(work->fill.bytes, work->fill.done, budget);
      if (bytes > 0) memset(work->fill.to + work->fill.done, work->fill.value, bytes);
      work->fill.done += bytes;
      return work->fill.done == work->fill.bytes ? STEP_DONE : bytes > 0 ? STEP_MOVED : STEP_STUCK;
    }
    case WORK_RECORD:
      event_reached(work->event.event, work->event.count);
      return STEP_DONE;
    case WORK_WAIT:
      return event_has_reached(work->event.event, work->event.count) ? STEP_DONE : STEP_STUCK;
    case WORK_FREE: {
      struct block *block = heap_block(work->address);
      if (block != NULL) heap_free(block);
      return STEP_DONE;
    }
    case WORK_LAUNCH:
      return launch_step(work->launch.launch, &work->launch.arrived, budget);
  }
  return STEP_DONE;
}

static void work_end(struct work *work) {
  if (work->kind == WORK_COPY) free(work->copy.stage);
  if (work->kind == WORK_RECORD || work->kind == WORK_WAIT) event_release(work->event.event);
  if (work->kind == WORK_LAUNCH) launch_release(work->launch.launch);
  free(work);
}

bool stream_advance(struct stream *stream, size_t *budget) {
  bool moved = false;
  if (stream->head == NULL) return false;
  while (stream->head != NULL) {
    struct work *work = stream->head;
    enum step result = step(work, budget);
    if (result != STEP_STUCK) moved = true;
    if (result != STEP_DONE) return moved;
    stream->head = work->next;
    if (stream->head == NULL) stream->tail = &stream->head;
    stream->completed++;
    work_end(work);
  }
  deactivate(stream);
  return moved;
}

bool streams_advance(unsigned count, size_t *budget) {
  bool moved = false;
  struct stream *first = active;
  for (unsigned i = 0; i < count && active != NULL && *budget > 0; i++) {
    struct stream *stream = active;
    active = stream->next;
    if (stream_advance(stream, budget)) {
      moved = true;
      /* `first` may have left the ring: one more round finds out. */
      first = active;
    } else if (active == first) {
      break;
    }
  }
  return moved;
}

void stream_append(struct stream *stream, struct work *work) {
  bool idle = stream->head == NULL;
  work->next = NULL;
  *stream->tail = work;
  stream->tail = &work->next;
  stream->enqueued++;
  if (idle) activate(stream);
}

void stream_enqueue(struct stream *stream, struct work *work) {
  bool idle = stream->head == NULL;
  stream_append(stream, work);
  size_t budget = CHUNK_BUDGET;
  if (idle) stream_advance(stream, &budget);
  if (stream->head != NULL) engine_pending();
}

/* ---- waiting */

struct stream_mark {
  cudaStream_t handle;
  struct stream *stream; /* a default stream, which never goes */
  uint64_t count;
};

static bool stream_passed(void *argument) {
  const struct stream_mark *mark = argument;
  const struct stream *stream = mark->stream != NULL ? mark->stream : handle_find(HANDLE_STREAM, mark->handle);
  return stream == NULL || stream->completed >= mark->count;
}

void stream_wait(struct stream *stream) {
  struct stream_mark mark = {
      .handle = stream->handle, .stream = stream->handle == NULL ? stream : NULL, .count = stream->enqueued};
  if (stream_passed(&mark)) return;
  engine_wait(stream_passed, &mark);
}

void device_drain(struct device *device) {
  bool moved;
  do {
    moved = false;
    struct stream *stream = active;
    /* A stream that runs empty leaves the ring, and may be freed: begin again after each that moved. */
    for (size_t left = SIZE_MAX; stream != NULL && left > 0; left--) {
      struct stream *next = stream->next;
      size_t budget = SIZE_MAX;
      if (stream->device == device && stream_advance(stream, &budget)) {
        moved = true;
        break;
      }
      stream = next == active ? NULL : next;
    }
  } while (moved);
}

static bool device_idle(void *argument) {
  const struct device *device = argument;
  const struct stream *stream = active;
  if (stream == NULL) return true;
  do {
    if (stream->device == device) return false;
    stream = stream->next;
  } while (stream != active);
  return true;
}

cudaError_t device_may_poll(const char *call) {
  if (group_is_open()) {
    return cuda_violation("%s was called between ncclGroupStart and ncclGroupEnd: the group was left open", call);
  }
  return cudaSuccess;
}

cudaError_t device_may_synchronize(struct device *device, const char *call, bool implicit) {
  cudaError_t error = device_may_poll(call);
  if (error != cudaSuccess) return error;
  unsigned outstanding = device->nonblocking_groups + (implicit ? device->blocking_groups : 0);
  if (outstanding == 0) return cudaSuccess;
  return cuda_violation("%s synchronizes device %d%s while %u group%s of NCCL calls %s outstanding on it", call,
                        device_physical(device->ordinal), implicit ? " implicitly" : "", outstanding, outstanding == 1 ? "" : "s",
                        outstanding == 1 ? "is" : "are");
}

/* ---- finding */

struct stream *stream_find(cudaStream_t handle, const char *call, cudaError_t *error) {
  /* 1 and 2 are CUDA's names for the legacy and the per-thread default stream. */
  if ((uintptr_t)handle <= 2) {
    struct device *device = device_get(device_current());
    if (device != NULL && device->default_stream == NULL) device->default_stream = stream_new(device);
    if (device != NULL && device->default_stream != NULL) return device->default_stream;
    *error = cuda_fail(cudaErrorMemoryAllocation, "%s: the host's memory is used up", call);
    return NULL;
  }
  struct stream *stream = handle_find(HANDLE_STREAM, handle);
  if (stream == NULL) {
    *error = cuda_fail(cudaErrorInvalidResourceHandle, "%s was given %p, which is no stream, or one that was destroyed", call,
                       (void *)handle);
  }
  return stream;
}

struct stream *stream_for_work(cudaStream_t handle, const char *call, cudaError_t *error) {
  struct stream *stream = stream_find(handle, call, error);
  if (stream == NULL || stream->unsettled == NULL) return stream;
  if (!communicator_is_unsettled(stream->unsettled)) {
    stream->unsettled = NULL;
    return stream;
  }
  *error = cuda_violation("%s puts work on a stream whose group of NCCL calls is still being enqueued: poll ncclCommGetAsyncError "
                          "until it says ncclSuccess",
                          call);
  return NULL;
}

/* ---- libcudart */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned int flags) {
  ENTER(cudaStreamCreateWithFlags);
  if (handle == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaStreamCreateWithFlags was given no place for its answer");
  if (flags > 1) return cuda_fail(cudaErrorInvalidValue, "a stream's flags are 0 or 1, not %u", flags);
  engine_lock();
  struct device *device = device_get(device_current());
  struct stream *stream = device == NULL ? NULL : stream_new(device);
  if (stream != NULL) stream->handle = handle_open(HANDLE_STREAM, stream);
  if (stream == NULL || stream->handle == NULL) {
    free(stream);
    engine_unlock();
    return cuda_fail(cudaErrorMemoryAllocation, "cudaStreamCreateWithFlags: the host's memory is used up");
  }
  *handle = stream->handle;
  account_add(ACCOUNT_LIVE_STREAMS, 1);
  engine_unlock();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  ENTER(cudaStreamDestroy);
  engine_lock();
  struct stream *stream = handle_find(HANDLE_STREAM, handle);
  if (stream == NULL) {
    engine_unlock();
    return cuda_fail(cudaErrorInvalidResourceHandle, "cudaStreamDestroy was given %p, which is no stream, or one that was destroyed",
                     (void *)handle);
  }
  handle_close(HANDLE_STREAM, handle);
  account_subtract(ACCOUNT_LIVE_STREAMS, 1);
  stream->closing = true;
  /* Work that is left is done in the background, as CUDA does. */
  if (stream->head == NULL) free(stream);
  engine_unlock();
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  ENTER(cudaStreamQuery);
  cudaError_t error = device_may_poll("cudaStreamQuery");
  if (error != cudaSuccess) return error;
  engine_lock();
  struct stream *stream = stream_find(handle, "cudaStreamQuery", &error);
  bool ready = true;
  if (stream != NULL && stream->head != NULL) {
    bool moved = engine_progress(stream, QUERY_BUDGET);
    if (!moved && stream->head != NULL) {
      engine_make_way();
      stream = stream_find(handle, "cudaStreamQuery", &error);
    }
    ready = stream == NULL || stream->head == NULL;
  }
  engine_unlock();
  return stream == NULL ? error : ready ? cudaSuccess : cuda_not_ready();
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  ENTER(cudaStreamSynchronize);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_find(handle, "cudaStreamSynchronize", &error);
  if (stream != NULL) error = device_may_synchronize(stream->device, "cudaStreamSynchronize", false);
  if (error == cudaSuccess) stream_wait(stream);
  engine_unlock();
  return error;
}

cudaError_t cudaDeviceSynchronize(void) {
  ENTER(cudaDeviceSynchronize);
  engine_lock();
  struct device *device = device_get(device_current());
  cudaError_t error = device == NULL ? cuda_fail(cudaErrorMemoryAllocation, "cudaDeviceSynchronize: the host's memory is used up")
                                     : device_may_synchronize(device, "cudaDeviceSynchronize", false);
  if (error == cudaSuccess && !device_idle(device)) engine_wait(device_idle, device);
  engine_unlock();
  return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned int flags) {
  ENTER(cudaStreamWaitEvent);
  cudaError_t error = cudaSuccess;
  if (flags != 0) return cuda_fail(cudaErrorInvalidValue, "cudaStreamWaitEvent takes flags 0 here, not %u", flags);
  engine_lock();
  struct stream *stream = stream_for_work(handle, "cudaStreamWaitEvent", &error);
  struct event *event = stream == NULL ? NULL : event_find(event_handle, "cudaStreamWaitEvent", &error);
  if (event != NULL && !event_is_done(event)) {
    struct work *work = work_new(WORK_WAIT);
    if (work == NULL) {
      error = cuda_fail(cudaErrorMemoryAllocation, "cudaStreamWaitEvent: the host's memory is used up");
    } else {
      work->event.event = event;
      work->event.count = event_retain(event);
      stream_enqueue(stream, work);
    }
  }
  engine_unlock();
  return error;
}
