/* Opening and closing groups; what happens to a launch on its streams. */
#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "handles.h"
#include "memory.h"

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

/* ---- launches */

static void free_operation(struct operation *operation) {
  free(operation->seen);
  free(operation->scratch);
  free(operation);
}

static void free_operations(struct operation *operation) {
  while (operation != NULL) {
    struct operation *next = operation->next;
    free_operation(operation);
    operation = next;
  }
}

static void free_launch(struct launch *launch) {
  free_operations(launch->operations);
  free(launch->streams);
  free(launch);
}

/* Takes a launch off its communicator: it is complete, or dropped. */
static void detach(struct launch *launch) {
  struct communicator *communicator = launch->communicator;
  struct launch **link = &communicator->launches;
  while (*link != launch) link = &(*link)->next;
  *link = launch->next;
  if (*link == NULL) communicator->launches_tail = link;
  launch->communicator = NULL;
  if (launch->blocking) {
    communicator->device->blocking_groups--;
  } else {
    communicator->device->nonblocking_groups--;
  }
  account_subtract(ACCOUNT_OUTSTANDING_GROUPS, 1);
}

void launch_drop(struct launch *launch) {
  detach(launch);
  free_operations(launch->operations);
  launch->operations = NULL;
}

void launch_release(struct launch *launch) {
  if (--launch->references == 0) free_launch(launch);
}

enum step launch_step(struct launch *launch, bool *arrived, size_t *budget) {
  struct communicator *communicator = launch->communicator;
  if (communicator == NULL) return STEP_DONE;
  if (!*arrived) {
    *arrived = true;
    launch->streams_awaited--;
  }
  if (launch->streams_awaited > 0 || communicator_is_faulty(communicator)) return STEP_STUCK;
  bool moved = false;
  for (struct operation **link = &launch->operations; *link != NULL;) {
    struct operation *operation = *link;
    enum step result = operation->kind == OPERATION_SEND      ? send_step(communicator, operation)
                       : operation->kind == OPERATION_RECEIVE ? receive_step(communicator, operation, budget)
                                                              : collective_step(communicator, operation, budget);
    if (communicator->fault != ncclSuccess) return STEP_STUCK;
    if (result != STEP_STUCK) moved = true;
    if (result != STEP_DONE) {
      link = &operation->next;
      continue;
    }
    account_add(operation->kind == OPERATION_SEND      ? ACCOUNT_SENDS
                : operation->kind == OPERATION_RECEIVE ? ACCOUNT_RECEIVES
                                                       : ACCOUNT_COLLECTIVES,
                1);
    *link = operation->next;
    free_operation(operation);
  }
  if (launch->operations != NULL) return moved ? STEP_MOVED : STEP_STUCK;
  detach(launch);
  return STEP_DONE;
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
  free_operations(operations);
  while (*launches != NULL) {
    struct launch *launch = *launches;
    *launches = launch->next;
    free_launch(launch);
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
    free_operations(operations);
    return result;
  }
  bool blocking = first->blocking;
  struct launch *launches;
  struct work *entries = NULL;
  if (make_launches(operations, &launches)) entries = make_entries(launches);
  if (entries == NULL) {
    while (launches != NULL) {
      struct launch *next = launches->next;
      free_launch(launches);
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

static void start_group(void) {
  if (group.depth++ == 0) {
    group.error = ncclSuccess;
    group.operations = NULL;
    group.tail = &group.operations;
    group.pending = NULL;
  }
}

static ncclResult_t end_group(void) {
  if (--group.depth > 0) return ncclSuccess;
  struct operation *operations = group.operations;
  struct pending *pending = group.pending;
  group.operations = NULL;
  group.pending = NULL;
  ncclResult_t result = group.error;
  if (result != ncclSuccess) {
    free_operations(operations);
    operations = NULL;
    nccl_fail(result, "%s", group.error_text);
  } else if (operations != NULL && pending != NULL) {
    free_operations(operations);
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
  start_group();
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  ENTER(ncclGroupEnd);
  if (group.depth == 0) return nccl_violation("ncclGroupEnd was called without an ncclGroupStart before it on this thread");
  return end_group();
}

/* ---- adding to a group */

static ncclResult_t check_pointer(const char *call, const char *which, const void *address, size_t bytes, int rank) {
  char why[256];
  if (bytes == 0 || heap_check(address, bytes, why, sizeof why)) return ncclSuccess;
  return nccl_fail(ncclInvalidArgument, "%s on rank %d: its %s %s", call, rank, which, why);
}

static ncclResult_t check_peer(const char *call, const char *what, int peer, const struct communicator *communicator) {
  if (peer >= 0 && peer < communicator->nranks) return ncclSuccess;
  return nccl_fail(ncclInvalidArgument, "%s on rank %d: its %s is %d, and ranks are 0 to %d", call, communicator->rank, what, peer,
                   communicator->nranks - 1);
}

/* Fills in what follows from the arguments, and checks it. */
static ncclResult_t prepare(const char *call, struct operation *operation, const void *from, void *to) {
  ncclResult_t result = ncclSuccess;
  const struct communicator *communicator = communicator_usable(operation->communicator, call, &result);
  if (communicator == NULL) return result;
  size_t element = type_bytes(operation->type);
  int rank = communicator->rank;
  size_t ranks = (size_t)communicator->nranks;
  if (element == 0) return nccl_fail(ncclInvalidArgument, "%s on rank %d: there is no data type %d", call, rank, operation->type);
  if (operation->count > SIZE_MAX / element / ranks) {
    return nccl_fail(ncclInvalidArgument, "%s on rank %d: %zu elements are more than there can be", call, rank, operation->count);
  }
  operation->bytes = operation->count * element;
  size_t from_bytes = operation->bytes, to_bytes = operation->bytes;
  switch (operation->kind) {
    case OPERATION_SEND:
      result = check_peer(call, "peer", operation->peer, communicator);
      to_bytes = 0;
      break;
    case OPERATION_RECEIVE:
      result = check_peer(call, "peer", operation->peer, communicator);
      from_bytes = 0;
      break;
    case OPERATION_BROADCAST:
      result = check_peer(call, "root", operation->peer, communicator);
      if (operation->peer != rank) from_bytes = 0;
      break;
    case OPERATION_ALL_GATHER:
      to_bytes *= ranks;
      break;
    case OPERATION_ALL_REDUCE:
      if (!reduction_is_known(operation->reduction, operation->type)) {
        result = nccl_fail(ncclInvalidArgument, "%s on rank %d: reduction %d of %s is not among those that the stand-in knows", call, rank,
                           operation->reduction, type_name(operation->type));
      }
      break;
  }
  if (result == ncclSuccess) result = check_pointer(call, "send buffer", from, from_bytes, rank);
  if (result == ncclSuccess) result = check_pointer(call, "receive buffer", to, to_bytes, rank);
  if (result != ncclSuccess) return result;
  if (from_bytes > 0) {
    operation->from = heap_pointer(from);
    operation->from_offset = heap_offset(from);
  }
  if (to_bytes > 0) operation->to = heap_pointer(to);
  cudaError_t error = cudaSuccess;
  operation->stream = stream_find(operation->stream_handle, call, &error);
  if (operation->stream == NULL) return ncclInvalidArgument;
  if (operation->stream->handle == NULL) operation->stream_handle = NULL;
  if (operation->stream->device != communicator->device) {
    return nccl_fail(ncclInvalidArgument, "%s on rank %d: its stream is on device %d (instance %d), its communicator on device %d (instance %d)",
                     call, rank, device_physical(operation->stream->device->ordinal),
                     operation->stream->device->ordinal >> DEVICE_INSTANCE_SHIFT, device_physical(communicator->device->ordinal),
                     communicator->device->ordinal >> DEVICE_INSTANCE_SHIFT);
  }
  if (operation->kind > OPERATION_RECEIVE) {
    operation->current = -1;
    operation->seen = calloc(ranks, 1);
    if (operation->seen == NULL) return nccl_fail(ncclSystemError, "the host's memory is used up");
  }
  return ncclSuccess;
}

/* An operation outside a group is a group of one. */
static ncclResult_t add(const char *call, struct operation arguments, const void *from, void *to) {
  start_group();
  struct operation *operation = malloc(sizeof *operation);
  ncclResult_t result;
  if (operation == NULL) {
    result = nccl_fail(ncclSystemError, "the host's memory is used up");
  } else {
    *operation = arguments;
    engine_lock();
    result = prepare(call, operation, from, to);
    engine_unlock();
  }
  if (result == ncclSuccess) {
    *group.tail = operation;
    group.tail = &operation->next;
  } else {
    if (operation != NULL) free_operation(operation);
    if (group.error == ncclSuccess) {
      group.error = result;
      snprintf(group.error_text, sizeof group.error_text, "%s", last_sentence());
    }
  }
  ncclResult_t end = end_group();
  return result != ncclSuccess ? result : end;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclSend);
  return add("ncclSend",
             (struct operation){.kind = OPERATION_SEND, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                .peer = peer, .reduction = -1},
             send, NULL);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclRecv);
  return add("ncclRecv",
             (struct operation){.kind = OPERATION_RECEIVE, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                .peer = peer, .reduction = -1},
             NULL, receive);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  ENTER(ncclBroadcast);
  return add("ncclBroadcast",
             (struct operation){.kind = OPERATION_BROADCAST, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                .peer = root, .reduction = -1},
             send, receive);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  ENTER(ncclAllReduce);
  return add("ncclAllReduce",
             (struct operation){.kind = OPERATION_ALL_REDUCE, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                .peer = -1, .reduction = op},
             send, receive);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclAllGather);
  return add("ncclAllGather",
             (struct operation){.kind = OPERATION_ALL_GATHER, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                .peer = -1, .reduction = -1},
             send, receive);
}
