/* Streams: queues of work, each done in order. All functions are called with the engine's lock held. */
#ifndef SEQFERRY_CPU_STREAM_H
#define SEQFERRY_CPU_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

struct device;
struct event;
struct launch;

enum work_kind { WORK_COPY, WORK_FILL, WORK_RECORD, WORK_WAIT, WORK_FREE, WORK_LAUNCH };

/* One entry of a queue. */
struct work {
  struct work *next;
  enum work_kind kind;
  union {
    struct {
      char *to;         /* where the library writes */
      const char *from; /* where the library reads */
      size_t bytes, done;
      void *stage; /* the host bytes, taken when the copy was enqueued; freed with the work */
    } copy;
    struct {
      char *to;
      size_t bytes, done;
      int value;
    } fill;
    struct {
      struct event *event;
      uint64_t count; /* the recording it makes, or waits for */
    } event;
    uintptr_t address; /* WORK_FREE */
    struct {
      struct launch *launch;
      bool arrived;
    } launch;
  };
};

/* What one look at the head of a queue brought. */
enum step { STEP_DONE, STEP_MOVED, STEP_STUCK };

struct stream {
  cudaStream_t handle; /* NULL for a default stream */
  struct device *device;
  struct work *head, **tail;
  uint64_t enqueued, completed; /* entries so far */
  bool closing;                 /* destroyed; goes when its queue is empty */
  ncclComm_t unsettled;         /* the last nonblocking communicator that issued a group here */
  struct stream *next, *previous; /* in the ring of active streams */
};

/* The stream, or the current device's default one for NULL; NULL after setting the error. `call` is for the sentence. */
struct stream *stream_find(cudaStream_t handle, const char *call, cudaError_t *error);
/* As stream_find, for a call that puts work on it: refuses while a nonblocking group is not settled. */
struct stream *stream_for_work(cudaStream_t handle, const char *call, cudaError_t *error);
/* A new, empty entry; NULL when memory is short. */
struct work *work_new(enum work_kind kind);
/* Appends an entry. Does not drive the stream. */
void stream_append(struct stream *stream, struct work *work);
/* Appends an entry, and drives the stream for one chunk. */
void stream_enqueue(struct stream *stream, struct work *work);
/* Drives one stream; whether anything moved. Takes what it copies from the budget. */
bool stream_advance(struct stream *stream, size_t *budget);
/* Drives up to `count` active streams, in turn. */
bool streams_advance(unsigned count, size_t *budget);
/* Whether any stream has work. */
bool streams_active(void);
/* Waits until a stream has done what is enqueued now. */
void stream_wait(struct stream *stream);
/* Drives a device's streams as far as they go without waiting. */
void device_drain(struct device *device);
/*
 * Checks that the calling thread may wait for, or ask about, a device: no group of its own is open and, for a call that synchronizes, no
 * group of a nonblocking communicator is outstanding on the device (of any communicator where `implicit`).
 */
cudaError_t device_may_poll(const char *call);
cudaError_t device_may_synchronize(struct device *device, const char *call, bool implicit);

#endif
