/* Opening and closing groups. */
#include "group.h"

#include <stdio.h>
#include <stdlib.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "handles.h"

/* A communicator that is coming about in a group. */
struct pending {
  struct pending *next;
  ncclComm_t communicator;
  ncclComm_t *child;
};

/* The calling thread's group. */
static _Thread_local struct {
  int depth;
  ncclResult_t error; /* the first that one of its calls answered */
  char error_text[SENTENCE_BYTES];
  struct operation *operations, **tail;
  struct pending *pending;
} group;

bool group_is_open(void) { return group.depth > 0; }

void group_add_pending(ncclComm_t communicator, ncclComm_t *child) {
  struct pending *pending = malloc(sizeof *pending);
  if (pending == NULL) return;
  *pending = (struct pending){.next = group.pending, .communicator = communicator, .child = child};
  group.pending = pending;
}

void group_add(struct operation *operation) {
  *group.tail = operation;
  group.tail = &operation->next;
}

void group_fail(ncclResult_t result) {
  if (group.error != ncclSuccess) return;
  group.error = result;
  snprintf(group.error_text, sizeof group.error_text, "%s", last_sentence());
}

/* ---- closing a group */

/* Checks that a communicator's operations in this group can be enqueued. */
static ncclResult_t check_operation(struct operation *operation, const struct communicator *first) {
  ncclResult_t result = ncclSuccess;
  struct communicator *communicator = communicator_usable(operation->communicator, "ncclGroupEnd", &result);
  if (communicator == NULL) return result;
  if (communicator->blocking != first->blocking) {
    return nccl_fail(ncclInvalidArgument, "a group holds calls on blocking and on nonblocking communicators");
  }
  if (operation->stream_handle != NULL) {
    operation->stream = handle_find(HANDLE_STREAM, operation->stream_handle);
    if (operation->stream == NULL) {
      return nccl_fail(ncclInvalidArgument, "a stream was destroyed while a group with calls on it was open");
    }
  }
  if (operation->stream->unsettled != NULL && communicator_is_unsettled(operation->stream->unsettled)) {
    return nccl_violation("ncclGroupEnd on rank %d: the stream's last group is still being enqueued; poll ncclCommGetAsyncError until it "
                          "says ncclSuccess",
                          communicator->rank);
  }
  return ncclSuccess;
}

/* A rank that sends to itself receives that in the same group: nothing else can ever take it. */
static ncclResult_t check_own_sends(struct operation *operations, ncclComm_t handle) {
  const struct communicator *communicator = handle_find(HANDLE_COMMUNICATOR, handle);
  long balance = 0;
  for (const struct operation *operation = operations; operation != NULL; operation = operation->next) {
    if (operation->communicator != handle || operation->peer != communicator->rank) continue;
    if (operation->kind == OPERATION_SEND) balance++;
    if (operation->kind == OPERATION_RECEIVE) balance--;
  }
  if (balance == 0) return ncclSuccess;
  return nccl_violation("rank %d %s itself in a group without the matching %s", communicator->rank,
                        balance > 0 ? "sends to" : "receives from", balance > 0 ? "receive" : "send");
}

static struct launch *find_launch(struct launch *launches, const struct communicator *communicator) {
  while (launches != NULL && launches->communicator != communicator) launches = launches->next;
  return launches;
}

static bool add_stream(struct launch *launch, struct stream *stream) {
  for (unsigned i = 0; i < launch->stream_count; i++) {
    if (launch->streams[i] == stream) return true;
  }
  struct stream **streams = realloc(launch->streams, (launch->stream_count + 1) * sizeof *streams);
  if (streams == NULL) return false;
  launch->streams = streams;
  streams[launch->stream_count++] = stream;
  return true;
}

/*
 * Launches of one group that share a stream run one after the other, in an order that is the same on all ranks, whatever the order of the
 * calls within the group: otherwise two ranks could wait for each other for ever.
 */
static bool precedes(const struct launch *one, const struct launch *other) {
  return one->communicator->world->header->nonce <= other->communicator->world->header->nonce;
}

/* Sorts the operations into one launch for each communicator; false when memory is short. Takes the operations over either way. */
static bool make_launches(struct operation *operations, struct launch **launches) {
  *launches = NULL;
  while (operations != NULL) {
    struct operation *operation = operations;
    struct communicator *communicator = handle_find(HANDLE_COMMUNICATOR, operation->communicator);
    struct launch *launch = find_launch(*launches, communicator);
    if (launch == NULL) {
      launch = calloc(1, sizeof *launch);
      if (launch == NULL) break;
      launch->communicator = communicator;
      launch->blocking = communicator->blocking;
      launch->tail = &launch->operations;
      struct launch **link = launches;
      while (*link != NULL && precedes(*link, launch)) link = &(*link)->next;
      launch->next = *link;
      *link = launch;
    }
    if (!add_stream(launch, operation->stream)) break;
    operations = operation->next;
    operation->next = NULL;
    *launch->tail = operation;
    launch->tail = &operation->next;
  }
  if (operations == NULL) return true;
  operations_free(operations);
  while (*launches != NULL) {
    struct launch *launch = *launches;
    *launches = launch->next;
    launch_free(launch);
  }
  return false;
}

static void number_operations(struct communicator *communicator, struct operation *operation) {
  for (; operation != NULL; operation = operation->next) {
    if (operation->kind == OPERATION_SEND) {
      operation->sequence = communicator->sent[operation->peer]++;
    } else if (operation->kind == OPERATION_RECEIVE) {
      operation->sequence = communicator->received[operation->peer]++;
    } else {
      operation->sequence = communicator->collectives++;
    }
  }
}

/* Entries for all streams of all launches, linked; NULL when memory is short. */
static struct work *make_entries(const struct launch *launches) {
  struct work *entries = NULL;
  for (; launches != NULL; launches = launches->next) {
    for (unsigned i = 0; i < launches->stream_count; i++) {
      struct work *work = work_new(WORK_LAUNCH);
      if (work == NULL) {
        while (entries != NULL) {
          work = entries->next;
          free(entries);
          entries = work;
        }
        return NULL;
      }
      work->next = entries;
      entries = work;
    }
  }
  return entries;
}

static void enqueue_launch(struct launch *launch, struct work **entries) {
  struct communicator *communicator = launch->communicator;
  number_operations(communicator, launch->operations);
  launch->next = NULL;
  *communicator->launches_tail = launch;
  communicator->launches_tail = &launch->next;
  launch->references = launch->streams_awaited = launch->stream_count;
  account_add(ACCOUNT_OUTSTANDING_GROUPS, 1);
  if (launch->blocking) {
    communicator->device->blocking_groups++;
  } else {
    communicator->device->nonblocking_groups++;
    communicator->unsettled = true;
  }
  for (unsigned i = 0; i < launch->stream_count; i++) {
    struct work *work = *entries;
    *entries = work->next;
    work->launch.launch = launch;
    if (!launch->blocking) launch->streams[i]->unsettled = communicator->handle;
    stream_append(launch->streams[i], work);
  }
}

/* Enqueues all; the operations are taken over. */
static ncclResult_t enqueue(struct operation *operations) {
  ncclResult_t result = ncclSuccess;
  const struct communicator *first = communicator_usable(operations->communicator, "ncclGroupEnd", &result);
  for (struct operation *operation = operations; operation != NULL && result == ncclSuccess; operation = operation->next) {
    result = check_operation(operation, first);
  }
  for (struct operation *operation = operations; operation != NULL && result == ncclSuccess; operation = operation->next) {
    const struct communicator *communicator = handle_find(HANDLE_COMMUNICATOR, operation->communicator);
    if (operation->kind <= OPERATION_RECEIVE && operation->peer == communicator->rank) {
      result = check_own_sends(operations, operation->communicator);
    }
  }
  if (result != ncclSuccess) {
    operations_free(operations);
    return result;
  }
  bool blocking = first->blocking;
  struct launch *launches;
  struct work *entries = NULL;
  if (make_launches(operations, &launches)) entries = make_entries(launches);
  if (entries == NULL) {
    while (launches != NULL) {
      struct launch *next = launches->next;
      launch_free(launches);
      launches = next;
    }
    return nccl_fail(ncclSystemError, "the host's memory is used up");
  }
  while (launches != NULL) {
    struct launch *launch = launches;
    launches = launch->next;
    enqueue_launch(launch, &entries);
  }
  size_t budget = CHUNK_BUDGET;
  streams_advance(64, &budget);
  if (streams_active()) engine_pending();
  return blocking ? ncclSuccess : ncclInProgress;
}

/* Waits for the communicators that blocking calls of the group are making. */
static ncclResult_t settle_pending(struct pending *pending) {
  ncclResult_t result = ncclSuccess;
  while (pending != NULL) {
    struct communicator *communicator = handle_find(HANDLE_COMMUNICATOR, pending->communicator);
    ncclResult_t one;
    if (communicator != NULL && communicator->state != COMMUNICATOR_ABORTED && !communicator->blocking) {
      one = ncclInProgress;
    } else {
      one = communicator_settle(pending->communicator);
      if (one == ncclSuccess && pending->child != NULL && *pending->child != NULL) {
        communicator = handle_find(HANDLE_COMMUNICATOR, *pending->child);
        if (communicator != NULL && communicator->blocking) one = communicator_settle(*pending->child);
      }
    }
    if (result == ncclSuccess || (result == ncclInProgress && one != ncclSuccess)) result = one;
    struct pending *next = pending->next;
    free(pending);
    pending = next;
  }
  return result;
}

void group_start(void) {
  if (group.depth++ == 0) {
    group.error = ncclSuccess;
    group.operations = NULL;
    group.tail = &group.operations;
    group.pending = NULL;
  }
}

ncclResult_t group_end(void) {
  if (--group.depth > 0) return ncclSuccess;
  struct operation *operations = group.operations;
  struct pending *pending = group.pending;
  group.operations = NULL;
  group.pending = NULL;
  ncclResult_t result = group.error;
  if (result != ncclSuccess) {
    operations_free(operations);
    operations = NULL;
    nccl_fail(result, "%s", group.error_text);
  } else if (operations != NULL && pending != NULL) {
    operations_free(operations);
    operations = NULL;
    result = nccl_violation("a group holds both operations and the making of communicators");
  }
  engine_lock();
  if (operations != NULL) result = enqueue(operations);
  ncclResult_t settled = settle_pending(pending);
  engine_unlock();
  return result == ncclSuccess ? settled : result;
}

ncclResult_t ncclGroupStart(void) {
  ENTER(ncclGroupStart);
  group_start();
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  ENTER(ncclGroupEnd);
  if (group.depth == 0) return nccl_violation("ncclGroupEnd was called without an ncclGroupStart before it on this thread");
  return group_end();
}
