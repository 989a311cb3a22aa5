/* libnccl's operations: their arguments are checked and added to the calling thread's group. */
#include <stdlib.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "group.h"
#include "imports.h"
#include "memory.h"

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

static ncclResult_t check_reduction(const char *call, const struct operation *operation, int rank) {
  if (reduction_is_known(operation->reduction, operation->type)) return ncclSuccess;
  return nccl_fail(ncclInvalidArgument, "%s on rank %d: reduction %d of %s is not among those that the stand-in knows", call, rank,
                   operation->reduction, type_name(operation->type));
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
    case OPERATION_REDUCE:
      result = check_peer(call, "root", operation->peer, communicator);
      if (operation->peer != rank) to_bytes = 0;
      if (result == ncclSuccess) result = check_reduction(call, operation, rank);
      break;
    case OPERATION_REDUCE_SCATTER:
      from_bytes *= ranks;
      result = check_reduction(call, operation, rank);
      break;
    case OPERATION_ALL_REDUCE:
      result = check_reduction(call, operation, rank);
      break;
  }
  if (result == ncclSuccess) result = check_pointer(call, "send buffer", from, from_bytes, rank);
  if (result == ncclSuccess) result = check_pointer(call, "receive buffer", to, to_bytes, rank);
  if (result != ncclSuccess) return result;
  if (from_bytes > 0) {
    operation->from = heap_pointer(from);
    operation->from_offset = heap_offset(from);
    operation->from_bytes = from_bytes;
    operation->is_import = import_owns(from);
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

ncclResult_t operation_add(const char *call, struct operation arguments, const void *from, void *to) {
  group_start();
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
    group_add(operation);
  } else {
    if (operation != NULL) operation_free(operation);
    group_fail(result);
  }
  ncclResult_t end = group_end();
  return result != ncclSuccess ? result : end;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclSend);
  return operation_add("ncclSend",
                       (struct operation){.kind = OPERATION_SEND, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                          .peer = peer, .reduction = -1},
                       send, NULL);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclRecv);
  return operation_add("ncclRecv",
                       (struct operation){.kind = OPERATION_RECEIVE, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                          .peer = peer, .reduction = -1},
                       NULL, receive);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  ENTER(ncclBroadcast);
  return operation_add("ncclBroadcast",
                       (struct operation){.kind = OPERATION_BROADCAST, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                          .peer = root, .reduction = -1},
                       send, receive);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  ENTER(ncclAllReduce);
  return operation_add("ncclAllReduce",
                       (struct operation){.kind = OPERATION_ALL_REDUCE, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                          .peer = -1, .reduction = op},
                       send, receive);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclAllGather);
  return operation_add("ncclAllGather",
                       (struct operation){.kind = OPERATION_ALL_GATHER, .communicator = comm, .stream_handle = stream, .count = count, .type = type,
                                          .peer = -1, .reduction = -1},
                       send, receive);
}
