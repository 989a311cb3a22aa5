/* What can be asked of a communicator. */
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *state) {
  ENTER(ncclCommGetAsyncError);
  if (state == NULL) return nccl_fail(ncclInvalidArgument, "ncclCommGetAsyncError was given no place for its answer");
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_find(handle);
  if (communicator != NULL && communicator->state != COMMUNICATOR_ABORTED &&
      (communicator->negotiating || communicator->state == COMMUNICATOR_FINALIZING)) {
    engine_progress(NULL, QUERY_BUDGET);
  }
  if (communicator == NULL) {
    result = no_communicator("ncclCommGetAsyncError", handle);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    result = nccl_violation("ncclCommGetAsyncError on rank %d: its communicator was aborted", communicator->rank);
  } else if (communicator_is_faulty(communicator)) {
    *state = nccl_fail(communicator->fault, "%s", communicator->fault_text);
  } else if (communicator->negotiating) {
    *state = ncclInProgress;
  } else if (communicator->state == COMMUNICATOR_FINALIZING && communicator->launches != NULL) {
    *state = ncclInProgress;
  } else {
    if (communicator->state == COMMUNICATOR_FINALIZING) communicator->state = COMMUNICATOR_FINALIZED;
    communicator->unsettled = false;
    *state = ncclSuccess;
  }
  engine_unlock();
  return result;
}

enum question { COUNT, DEVICE, RANK };

static ncclResult_t ask(const char *call, ncclComm_t handle, enum question question, int *answer) {
  if (answer == NULL) return nccl_fail(ncclInvalidArgument, "%s was given no place for its answer", call);
  ncclResult_t result = ncclSuccess;
  engine_lock();
  const struct communicator *communicator = communicator_find(handle);
  if (communicator == NULL) {
    result = no_communicator(call, handle);
  } else if (communicator->state == COMMUNICATOR_JOINING || communicator->state == COMMUNICATOR_ABORTED) {
    result = nccl_violation("%s on rank %d: its communicator %s", call, communicator->rank,
                            communicator->state == COMMUNICATOR_JOINING ? "is still being initialized" : "was aborted");
  } else {
    *answer = question == COUNT    ? communicator->nranks
              : question == DEVICE ? communicator->device->ordinal
                                   : communicator->rank;
  }
  engine_unlock();
  return result;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
  ENTER(ncclCommCount);
  return ask("ncclCommCount", comm, COUNT, count);
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
  ENTER(ncclCommCuDevice);
  return ask("ncclCommCuDevice", comm, DEVICE, device);
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  ENTER(ncclCommUserRank);
  return ask("ncclCommUserRank", comm, RANK, rank);
}

int seqferryCpuPeerBytes(ncclComm_t handle, int peer, uint64_t *sent, uint64_t *received) {
  engine_lock();
  const struct communicator *communicator = communicator_find(handle);
  bool known = communicator != NULL && peer >= 0 && peer < communicator->nranks;
  if (known) {
    *sent = communicator->sent_bytes[peer];
    *received = communicator->received_bytes[peer];
  }
  engine_unlock();
  return known ? 0 : 1;
}

int seqferryCpuOutstanding(ncclComm_t handle, uint8_t *per_peer, size_t nranks) {
  engine_lock();
  const struct communicator *communicator = communicator_find(handle);
  bool known = communicator != NULL && nranks == (size_t)communicator->nranks;
  if (known && communicator->state == COMMUNICATOR_ABORTED) {
    memcpy(per_peer, communicator->awaited, nranks);
  } else if (known) {
    communicator_awaits(communicator, per_peer);
  }
  engine_unlock();
  return known ? 0 : 1;
}

int seqferryCpuLostPeer(ncclComm_t handle) {
  engine_lock();
  const struct communicator *communicator = communicator_find(handle);
  int lost = communicator == NULL ? -1 : communicator->lost_peer;
  engine_unlock();
  return lost;
}
