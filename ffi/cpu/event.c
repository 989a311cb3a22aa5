#include "event.h"

#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "handles.h"
#include "process.h"
#include "shared_event.h"
#include "stream.h"

struct event {
  cudaEvent_t handle;
  int device; /* ordinal */
  bool timed;
  bool destroyed;
  unsigned references;          /* entries of queues */
  uint64_t recorded, completed; /* recordings so far (not of an interprocess event), and the last one that a stream here got to */
  struct event_counts counts;   /* of an interprocess event, else with nothing shared */
  uint64_t nanoseconds;         /* when it got there */
  struct stream *last_stream;   /* where this process last recorded it; only to be driven first, and only while not done */
  uint64_t last_recording;      /* there */
};

struct event *event_find(cudaEvent_t handle, const char *call, cudaError_t *error) {
  struct event *event = handle_find(HANDLE_EVENT, handle);
  if (event == NULL) {
    *error = cuda_fail(cudaErrorInvalidResourceHandle, "%s was given %p, which is no event, or one that was destroyed", call,
                       (void *)handle);
  }
  return event;
}

static bool is_shared(const struct event *event) { return event->counts.shared != NULL; }

static uint64_t recorded(const struct event *event) {
  return is_shared(event) ? atomic_load(&event->counts.shared->recorded) : event->recorded;
}

static uint64_t count_recording(struct event *event) {
  return is_shared(event) ? atomic_fetch_add(&event->counts.shared->recorded, 1) + 1 : ++event->recorded;
}

bool event_has_reached(const struct event *event, uint64_t count) {
  return (is_shared(event) ? event_counts_completed(&event->counts) : event->completed) >= count;
}

bool event_is_done(const struct event *event) { return event_has_reached(event, recorded(event)); }

uint64_t event_retain(struct event *event) {
  event->references++;
  return recorded(event);
}

/* The stream is there as long as the recording is in its queue; an interprocess event may be pending in other processes only. */
static struct stream *own_stream(const struct event *event) {
  return event->last_stream != NULL && event->completed < event->last_recording ? event->last_stream : NULL;
}

static void end(struct event *event) {
  event_counts_close(&event->counts);
  free(event);
}

void event_release(struct event *event) {
  if (--event->references == 0 && event->destroyed) end(event);
}

void event_reached(struct event *event, uint64_t count) {
  if (is_shared(event)) event_counts_complete(&event->counts, count);
  if (count > event->completed) event->completed = count;
  event->nanoseconds = event->timed ? now_nanoseconds() : 0;
}

_Static_assert(sizeof(struct event_place) <= sizeof(cudaIpcEventHandle_t), "a place fits a handle");

/* Takes the counts over. */
static cudaError_t new_event(const char *call, bool timed, struct event_counts counts, cudaEvent_t *handle) {
  struct event *event = calloc(1, sizeof *event);
  if (event != NULL) event->handle = handle_open(HANDLE_EVENT, event);
  if (event == NULL || event->handle == NULL) {
    free(event);
    event_counts_close(&counts);
    return cuda_fail(cudaErrorMemoryAllocation, "%s: the host's memory is used up", call);
  }
  event->device = device_current();
  event->timed = timed;
  event->counts = counts;
  *handle = event->handle;
  account_add(ACCOUNT_LIVE_EVENTS, 1);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned int flags) {
  ENTER(cudaEventCreateWithFlags);
  if (handle == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaEventCreateWithFlags was given no place for its answer");
  if (flags > 7) return cuda_fail(cudaErrorInvalidValue, "an event's flags are 0 to 7, not %u", flags);
  if ((flags & cudaEventInterprocess) != 0 && (flags & cudaEventDisableTiming) == 0) {
    return cuda_fail(cudaErrorInvalidValue, "an interprocess event keeps no time: cudaEventDisableTiming goes with cudaEventInterprocess");
  }
  struct event_counts counts = {0};
  cudaError_t error = cudaSuccess;
  engine_lock();
  if ((flags & cudaEventInterprocess) != 0 && !event_counts_new(&counts, device_physical(device_current()))) {
    error = cuda_fail(cudaErrorMemoryAllocation, "cudaEventCreateWithFlags: there is no place for another interprocess event");
  }
  if (error == cudaSuccess) error = new_event("cudaEventCreateWithFlags", (flags & cudaEventDisableTiming) == 0, counts, handle);
  engine_unlock();
  return error;
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t *out, cudaEvent_t handle) {
  ENTER(cudaIpcGetEventHandle);
  if (out == NULL) return cuda_fail(cudaErrorInvalidValue, "cudaIpcGetEventHandle was given no place for its answer");
  cudaError_t error = cudaSuccess;
  engine_lock();
  const struct event *event = event_find(handle, "cudaIpcGetEventHandle", &error);
  if (event != NULL && (!is_shared(event) || event->counts.mapping != NULL)) {
    error = cuda_fail(cudaErrorInvalidResourceHandle, "cudaIpcGetEventHandle takes events that this process made with cudaEventInterprocess");
  } else if (event != NULL) {
    memset(out, 0, sizeof *out);
    memcpy(out, &event->counts.place, sizeof event->counts.place);
  }
  engine_unlock();
  return error;
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t *handle, cudaIpcEventHandle_t shared) {
  ENTER(cudaIpcOpenEventHandle);
  const char *const call = "cudaIpcOpenEventHandle";
  if (handle == NULL) return cuda_fail(cudaErrorInvalidValue, "%s was given no place for its answer", call);
  *handle = NULL;
  struct event_place place;
  memcpy(&place, &shared, sizeof place);
  struct event_counts counts = {0};
  cudaError_t error = cudaSuccess;
  engine_lock();
  const struct self *self = process_self();
  if (self != NULL && place.pid == self->pid && place.start_time == self->start_time) {
    error = cuda_fail(cudaErrorDeviceUninitialized, "%s was given a handle that this process itself exported", call);
  } else if (!event_counts_open(&counts, &place)) {
    error = cuda_fail(cudaErrorInvalidResourceHandle, "%s: the bytes are no event's handle, or its process or the event is gone", call);
  }
  if (error == cudaSuccess) error = new_event(call, false, counts, handle);
  engine_unlock();
  return error;
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
    if (event->references == 0) end(event);
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
      event->last_stream = stream;
      work->event.event = event;
      event_retain(event);
      work->event.count = event->last_recording = count_recording(event);
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
    bool moved = engine_progress(own_stream(event), QUERY_BUDGET);
    if (!moved && !event_is_done(event)) {
      engine_make_way();
      event = event_find(handle, "cudaEventQuery", &error);
    }
    done = event == NULL || event_is_done(event);
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
  return event == NULL || event_has_reached(event, mark->count);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  ENTER(cudaEventSynchronize);
  cudaError_t error = cudaSuccess;
  engine_lock();
  struct event *event = event_find(handle, "cudaEventSynchronize", &error);
  struct device *device = event == NULL ? NULL : device_get(own_stream(event) != NULL ? event->last_stream->device->ordinal : event->device);
  if (device != NULL) error = device_may_synchronize(device, "cudaEventSynchronize", false);
  if (error == cudaSuccess && !event_is_done(event)) {
    struct event_mark mark = {.handle = handle, .count = recorded(event)};
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
