/* libnccl's calls that make communicators from a unique id. */
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "faults.h"
#include "group.h"

_Static_assert(sizeof(struct world_place) <= sizeof(ncclUniqueId), "a place fits a unique id");

ncclResult_t ncclGetVersion(int *version) {
  ENTER(ncclGetVersion);
  if (version == NULL) return nccl_fail(ncclInvalidArgument, "ncclGetVersion was given no place for its answer");
  *version = SEQFERRY_CPU_NCCL_VERSION;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  ENTER(ncclGetUniqueId);
  if (id == NULL) return nccl_fail(ncclInvalidArgument, "ncclGetUniqueId was given no place for its answer");
  struct world_place place;
  engine_lock();
  ncclResult_t result = world_create(&place);
  engine_unlock();
  if (result != ncclSuccess) return result;
  memset(id, 0, sizeof *id);
  memcpy(id, &place, sizeof place);
  return ncclSuccess;
}

static ncclResult_t init(const char *call, ncclComm_t *comm, int nranks, const ncclUniqueId *id, int rank, const ncclConfig_t *config) {
  if (comm == NULL) return nccl_fail(ncclInvalidArgument, "%s was given no place for its communicator", call);
  *comm = NULL;
  if (nranks < 1 || nranks > WORLD_MOST_RANKS) {
    return nccl_fail(ncclInvalidArgument, "%s: a communicator has 1 to %d ranks, not %d", call, WORLD_MOST_RANKS, nranks);
  }
  if (rank < 0 || rank >= nranks) {
    return nccl_fail(ncclInvalidArgument, "%s: of %d ranks the last is %d, and this one is to be rank %d", call, nranks, nranks - 1, rank);
  }
  bool blocking = true;
  ncclResult_t result = communicator_config(config, &blocking);
  if (result != ncclSuccess) return result;
  struct world_place place;
  memcpy(&place, id, sizeof place);
  struct communicator *communicator = NULL;
  engine_lock();
  struct device *device = device_get(device_current());
  result = device == NULL ? nccl_fail(ncclSystemError, "the host's memory is used up")
                          : communicator_join(&place, nranks, rank, device, blocking, &communicator);
  if (result == ncclSuccess) {
    ncclComm_t handle = *comm = communicator->handle;
    fault_joined(device->ordinal, rank);
    if (group_is_open()) {
      group_add_pending(handle, NULL);
    } else if (!blocking) {
      result = ncclInProgress;
    } else {
      result = communicator_settle(handle);
    }
  }
  engine_unlock();
  if (result != ncclSuccess && result != ncclInProgress && *comm != NULL) {
    ncclCommAbort(*comm);
    *comm = NULL;
  }
  return result;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank) {
  ENTER(ncclCommInitRank);
  return init("ncclCommInitRank", comm, nranks, &id, rank, NULL);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
  ENTER(ncclCommInitRankConfig);
  return init("ncclCommInitRankConfig", comm, nranks, &id, rank, config);
}

#if HAS_INIT_SCALABLE
/* Several unique ids spread the meeting over several processes; here the first of them serves all ranks. */
ncclResult_t ncclCommInitRankScalable(ncclComm_t *comm, int nranks, int rank, int id_count, ncclUniqueId *ids, ncclConfig_t *config) {
  ENTER(ncclCommInitRankScalable);
  if (id_count < 1 || id_count > nranks || ids == NULL) {
    return nccl_fail(ncclInvalidArgument, "ncclCommInitRankScalable takes 1 to %d unique ids, not %d", nranks, ids == NULL ? 0 : id_count);
  }
  return init("ncclCommInitRankScalable", comm, nranks, ids, rank, config);
}
#endif
