/* libnccl's reductions to some of the ranks, and its gather, scatter and all-to-all, which are groups of sends and receives. */
#include "accounts.h"
#include "communicator.h"
#include "engine.h"
#include "group.h"

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  ENTER(ncclReduce);
  return operation_add("ncclReduce",
                       (struct operation){.kind = OPERATION_REDUCE, .communicator = comm, .stream_handle = stream, .count = count,
                                          .type = type, .peer = root, .reduction = op},
                       send, receive);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  ENTER(ncclReduceScatter);
  return operation_add("ncclReduceScatter",
                       (struct operation){.kind = OPERATION_REDUCE_SCATTER, .communicator = comm, .stream_handle = stream, .count = count,
                                          .type = type, .peer = -1, .reduction = op},
                       send, receive);
}

#if HAS_ROOTED

/* What all sends and receives of one call have in common. */
struct exchange {
  const char *call;
  ncclComm_t comm;
  cudaStream_t stream;
  size_t count, bytes; /* of one part */
  int type, rank, nranks;
  ncclResult_t refusal; /* the first of its parts */
};

/* Looks the communicator up and checks what all parts share; `root` is NULL where there is none. */
static ncclResult_t begin(struct exchange *exchange, const int *root) {
  ncclResult_t result = ncclSuccess;
  engine_lock();
  const struct communicator *communicator = communicator_usable(exchange->comm, exchange->call, &result);
  if (communicator != NULL) {
    exchange->rank = communicator->rank;
    exchange->nranks = communicator->nranks;
  }
  engine_unlock();
  if (communicator == NULL) return result;
  size_t element = type_bytes(exchange->type);
  if (element == 0) return nccl_fail(ncclInvalidArgument, "%s: there is no data type %d", exchange->call, exchange->type);
  if (exchange->count > SIZE_MAX / element / (size_t)exchange->nranks) {
    return nccl_fail(ncclInvalidArgument, "%s: %zu elements are more than there can be", exchange->call, exchange->count);
  }
  if (root != NULL && (*root < 0 || *root >= exchange->nranks)) {
    return nccl_fail(ncclInvalidArgument, "%s on rank %d: its root is %d, and ranks are 0 to %d", exchange->call, exchange->rank, *root,
                     exchange->nranks - 1);
  }
  exchange->bytes = exchange->count * element;
  return ncclSuccess;
}

/* Answers a refusal; that all goes well is known when the group ends. */
static ncclResult_t add_part(const struct exchange *exchange, enum operation_kind kind, int peer, const void *from, void *to) {
  return operation_add(exchange->call,
                       (struct operation){.kind = kind,
                                          .communicator = exchange->comm,
                                          .stream_handle = exchange->stream,
                                          .count = exchange->count,
                                          .type = exchange->type,
                                          .peer = peer,
                                          .reduction = -1},
                       from, to);
}

static void send_part(struct exchange *exchange, const char *from, int peer) {
  if (exchange->refusal == ncclSuccess) exchange->refusal = add_part(exchange, OPERATION_SEND, peer, from, NULL);
}

static void receive_part(struct exchange *exchange, char *to, int peer) {
  if (exchange->refusal == ncclSuccess) exchange->refusal = add_part(exchange, OPERATION_RECEIVE, peer, NULL, to);
}

static ncclResult_t end(const struct exchange *exchange) {
  ncclResult_t result = group_end();
  return exchange->refusal != ncclSuccess ? exchange->refusal : result;
}

/* The failure of a part is the group's, as is that of the call itself. */
static ncclResult_t refuse(ncclResult_t result) {
  group_start();
  group_fail(result);
  group_end();
  return result;
}

ncclResult_t ncclGather(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  ENTER(ncclGather);
  struct exchange exchange = {.call = "ncclGather", .comm = comm, .stream = stream, .count = count, .type = type};
  ncclResult_t result = begin(&exchange, &root);
  if (result != ncclSuccess) return refuse(result);
  group_start();
  send_part(&exchange, send, root);
  for (int rank = 0; exchange.rank == root && rank < exchange.nranks; rank++) {
    receive_part(&exchange, (char *)receive + (size_t)rank * exchange.bytes, rank);
  }
  return end(&exchange);
}

ncclResult_t ncclScatter(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                         cudaStream_t stream) {
  ENTER(ncclScatter);
  struct exchange exchange = {.call = "ncclScatter", .comm = comm, .stream = stream, .count = count, .type = type};
  ncclResult_t result = begin(&exchange, &root);
  if (result != ncclSuccess) return refuse(result);
  group_start();
  receive_part(&exchange, receive, root);
  for (int rank = 0; exchange.rank == root && rank < exchange.nranks; rank++) {
    send_part(&exchange, (const char *)send + (size_t)rank * exchange.bytes, rank);
  }
  return end(&exchange);
}

ncclResult_t ncclAlltoAll(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  ENTER(ncclAlltoAll);
  struct exchange exchange = {.call = "ncclAlltoAll", .comm = comm, .stream = stream, .count = count, .type = type};
  ncclResult_t result = begin(&exchange, NULL);
  if (result != ncclSuccess) return refuse(result);
  group_start();
  for (int rank = 0; rank < exchange.nranks; rank++) {
    send_part(&exchange, (const char *)send + (size_t)rank * exchange.bytes, rank);
    receive_part(&exchange, (char *)receive + (size_t)rank * exchange.bytes, rank);
  }
  return end(&exchange);
}

#endif
