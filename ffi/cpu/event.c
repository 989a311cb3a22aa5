#include "event.h"

#include <stdlib.h>

#include "accounts.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "handles.h"
#include "process.h"
#include "stream.h"

struct event {
  cudaEvent_t handle;
  int device; /* ordinal */
  bool timed;
  bool destroyed;
  unsigned references;          /* entries of queues */
  uint64_t recorded, completed; /* recordings so far, and the last one that a stream got to */
  uint64_t nanoseconds;         /* when it got there */
  struct stream *last_stream;   /* where it was last recorded; only to be driven first, and only while not done */
};

struct event *event_find(cudaEvent_t handle, const char *call, cudaError_t *error) {
  struct event *event = handle_find(HANDLE_EVENT, handle);
  if (event == NULL) {
    *error = cuda_fail(cudaErrorInvalidResourceHandle, "%s was given %p, which is no event, or one that was destroyed", call,
                       (void *)handle);
  }
  return event;
}

bool event_is_done(const struct event *event) { return event->completed >= event->recorded; }

uint64_t event_retain(struct event *event) {
  event->references++;
  return event->recorded;
}

void event_release(struct event *event) {
  if (--event->references == 0 && event->destroyed) free(event);
}

void event_reached(struct event *event, uint64_t count) {
  if (count > event->completed) event->completed = count;
  event->nanoseconds = event->timed ? now_nanoseconds() : 0;
}

bool event_has_reached(const struct event *event, uint64_t count) { return event->completed >= count; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned int flags) {
  ENTER(cudaEventCreateWithFlags);
  if (handle == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaEventCreateWithFlags was given no place for its answer");
  if (flags > 3) return cuda_fail(cudaErrorInvalidValue, "an event's flags are 0 to 3 here, not %u", flags);
  engine_lock();
  struct event *event = calloc(1, sizeof *event);
  if (event != NULL) event->handle = handle_open(HANDLE_EVENT, event);
  if (event == NULL || event->handle == NULL) {
    free(event);
    engine_unlock();
    return cuda_fail(cudaErrorMemoryAllocation, "cudaEventCreateWithFlags: the host's memory is used up");
  }
  event->device = device_current();
  event->timed = (flags & cudaEventDisableTiming) == 0;
  *handle = event->handle;
  account_add(ACCOUNT_LIVE_EVENTS, 1);
  engine_unlock();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  ENTER(cudaEventDestroy);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct event *event = event_find(handle, "cudaEventDestroy", &error);
  if (event != NULL) {
    handle_close(HANDLE_EVENT, handle);
    account_subtract(ACCOUNT_LIVE_EVENTS, 1);
    event->destroyed = true;
    if (event->references == 0) free(event);
  }
  engine_unlock();
  return error;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  ENTER(cudaEventRecord);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct stream *stream = stream_for_work(stream_handle, "cudaEventRecord", &error);
  struct event *event = stream == NULL ? NULL : event_find(handle, "cudaEventRecord", &error);
  if (event != NULL && device_physical(event->device) != device_physical(stream->device->ordinal)) {
    error = cuda_fail(cudaErrorInvalidResourceHandle, "cudaEventRecord was given an event of device %d and a stream of device %d",
                      device_physical(event->device), device_physical(stream->device->ordinal));
    event = NULL;
  }
  if (event != NULL) {
    struct work *work = work_new(WORK_RECORD);
    if (work == NULL) {
      error = cuda_fail(cudaErrorMemoryAllocation, "cudaEventRecord: the host's memory is used up");
    } else {
      event->recorded++;
      event->last_stream = stream;
      work->event.event = event;
      work->event.count = event_retain(event);
      stream_enqueue(stream, work);
    }
  }
  engine_unlock();
  return error;
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  ENTER(cudaEventQuery);
  cudaError_t error = device_may_poll("cudaEventQuery");
  if (error != cudaSuccess) return error;
  engine_lock();
  struct event *event = event_find(handle, "cudaEventQuery", &error);
  bool done = true;
  if (event != NULL && !event_is_done(event)) {
    /* The stream is there as long as the recording is in its queue. */
    engine_progress(event->last_stream, QUERY_BUDGET);
    done = event_is_done(event);
  }
  engine_unlock();
  return event == NULL ? error : done ? cudaSuccess : cuda_not_ready();
}

struct event_mark {
  cudaEvent_t handle;
  uint64_t count;
};

static bool event_passed(void *argument) {
  const struct event_mark *mark = argument;
  const struct event *event = handle_find(HANDLE_EVENT, mark->handle);
  return event == NULL || event->completed >= mark->count;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  ENTER(cudaEventSynchronize);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct event *event = event_find(handle, "cudaEventSynchronize", &error);
  struct device *device = event == NULL ? NULL : device_get(event->last_stream != NULL && !event_is_done(event)
                                                                ? event->last_stream->device->ordinal
                                                                : event->device);
  if (device != NULL) error = device_may_synchronize(device, "cudaEventSynchronize", false);
  if (error == cudaSuccess && !event_is_done(event)) {
    struct event_mark mark = {.handle = handle, .count = event->recorded};
    engine_wait(event_passed, &mark);
  }
  engine_unlock();
  return error;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start_handle, cudaEvent_t end_handle) {
  ENTER(cudaEventElapsedTime);
  cudaError_t error = cudaSuccess;
  if (milliseconds == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaEventElapsedTime was given no place for its answer");
  engine_lock();
  struct event *start = event_find(start_handle, "cudaEventElapsedTime", &error);
  struct event *end = start == NULL ? NULL : event_find(end_handle, "cudaEventElapsedTime", &error);
  if (end != NULL) {
    if (!start->timed || !end->timed || start->recorded == 0 || end->recorded == 0) {
      error = cuda_fail(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime takes events that keep time and were recorded");
    } else if (!event_is_done(start) || !event_is_done(end)) {
      error = cuda_not_ready();
    } else {
      *milliseconds = (float)((double)(int64_t)(end->nanoseconds - start->nanoseconds) / 1e6);
    }
  }
  engine_unlock();
  return error;
}
