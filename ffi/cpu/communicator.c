/* Communicators: finding one that takes calls, and joining a world. */
#include "communicator.h"

#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "device.h"
#include "engine.h"
#include "handles.h"
#include "settings.h"

struct communicator *communicators;

struct communicator *communicator_find(ncclComm_t handle) { return handle_find(HANDLE_COMMUNICATOR, handle); }

/* ---- finding one that takes calls */

ncclResult_t no_communicator(const char *call, const void *handle) {
  return nccl_fail(ncclInvalidArgument, "%s was given %p, which is no communicator, or one that was destroyed", call, handle);
}

struct communicator *communicator_divisible(ncclComm_t handle, const char *call, bool despite_fault, ncclResult_t *result) {
  struct communicator *communicator = communicator_find(handle);
  if (communicator == NULL) {
    *result = no_communicator(call, handle);
    return NULL;
  }
  int rank = communicator->rank;
  if (communicator->state != COMMUNICATOR_ABORTED && !despite_fault && communicator_is_faulty(communicator)) {
    *result = nccl_fail(communicator->fault, "%s", communicator->fault_text);
  } else if (communicator->state == COMMUNICATOR_JOINING) {
    *result = nccl_violation("%s on rank %d: its communicator is still being initialized", call, rank);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    *result = nccl_violation("%s on rank %d: its communicator was aborted", call, rank);
  } else if (communicator->state != COMMUNICATOR_READY) {
    *result = nccl_violation("%s on rank %d: its communicator was finalized", call, rank);
  } else if (communicator->split != NULL) {
    *result = nccl_violation("%s on rank %d: its communicator is still being split", call, rank);
  } else if (communicator->unsettled && !despite_fault) {
    *result = nccl_violation("%s on rank %d: its last group is still being enqueued; poll ncclCommGetAsyncError until it says ncclSuccess",
                             call, rank);
  } else {
    return communicator;
  }
  return NULL;
}

struct communicator *communicator_usable(ncclComm_t handle, const char *call, ncclResult_t *result) {
  struct communicator *communicator = communicator_divisible(handle, call, false, result);
  if (communicator == NULL || !communicator->revoked) return communicator;
  *result = nccl_violation("%s on rank %d: its communicator was revoked", call, communicator->rank);
  return NULL;
}

bool communicator_is_unsettled(ncclComm_t handle) {
  const struct communicator *communicator = communicator_find(handle);
  return communicator != NULL && communicator->state != COMMUNICATOR_ABORTED && communicator->unsettled;
}

/* ---- joining */

void communicator_negotiates(struct communicator *communicator, bool negotiating) {
  if (communicator->negotiating == negotiating) return;
  communicator->negotiating = negotiating;
  engine_negotiating(negotiating ? 1 : -1);
}

void communicator_free(struct communicator *communicator) {
  if (communicator->handle != NULL) handle_close(HANDLE_COMMUNICATOR, communicator->handle);
  free(communicator->peers);
  free(communicator->sent);
  free(communicator->received);
  free(communicator->sent_bytes);
  free(communicator->received_bytes);
  free(communicator->awaited);
  free(communicator);
}

/* An int that has come into the struct later; unset where the caller's is shorter. */
static int config_int(const ncclConfig_t *config, size_t offset) {
  int value = NCCL_CONFIG_UNDEF_INT;
  if (config->size >= offset + sizeof value) memcpy(&value, (const char *)config + offset, sizeof value);
  return value;
}

/* As NCCL does: a least count of thread blocks without a most is refused too. */
static ncclResult_t check_limits(const ncclConfig_t *config) {
  /* Where they stand in ncclConfig_t, from 2.17 and 2.18 on. */
  enum { CGA_CLUSTER_SIZE = 20, MIN_CTAS = 24, MAX_CTAS = 28, SPLIT_SHARE = 40 };
  int cga_cluster_size = config_int(config, CGA_CLUSTER_SIZE), split_share = config_int(config, SPLIT_SHARE);
  int min_ctas = config_int(config, MIN_CTAS), max_ctas = config_int(config, MAX_CTAS);
  if (config->version < 21700) return ncclSuccess;
  if ((min_ctas != NCCL_CONFIG_UNDEF_INT && min_ctas <= 0) ||
      (max_ctas != NCCL_CONFIG_UNDEF_INT && max_ctas <= 0) || min_ctas > max_ctas) {
    return nccl_fail(ncclInvalidArgument, "minCTAs and maxCTAs of an ncclConfig_t are %d and %d", min_ctas, max_ctas);
  }
  if (cga_cluster_size != NCCL_CONFIG_UNDEF_INT && cga_cluster_size < 0) {
    return nccl_fail(ncclInvalidArgument, "cgaClusterSize of an ncclConfig_t is %d", cga_cluster_size);
  }
  if (split_share != NCCL_CONFIG_UNDEF_INT && split_share != 0 && split_share != 1) {
    return nccl_fail(ncclInvalidArgument, "splitShare of an ncclConfig_t is 0 or 1, not %d", split_share);
  }
  return ncclSuccess;
}

ncclResult_t communicator_config(const ncclConfig_t *config, bool *blocking) {
  if (config == NULL) return ncclSuccess;
  if (config->size < sizeof *config || config->size > 4096) {
    return nccl_fail(ncclInvalidArgument, "an ncclConfig_t has at least %zu bytes; its size says %zu", sizeof *config, config->size);
  }
  if (config->magic != NCCL_CONFIG_MAGIC) {
    return nccl_fail(ncclInvalidArgument, "the magic of an ncclConfig_t is 0x%x, not 0x%x", NCCL_CONFIG_MAGIC, config->magic);
  }
  ncclResult_t result = check_limits(config);
  if (result != ncclSuccess || config->blocking == NCCL_CONFIG_UNDEF_INT) return result;
  if (config->blocking != 0 && config->blocking != 1) {
    return nccl_fail(ncclInvalidArgument, "blocking of an ncclConfig_t is 0 or 1, not %d", config->blocking);
  }
  *blocking = config->blocking == 1;
  return ncclSuccess;
}

ncclResult_t communicator_join(const struct world_place *place, int nranks, int rank, struct device *device, bool blocking,
                               struct communicator **out) {
  struct communicator *communicator = calloc(1, sizeof *communicator);
  if (communicator == NULL) return nccl_fail(ncclSystemError, "the host's memory is used up");
  size_t count = (size_t)nranks;
  communicator->rank = rank;
  communicator->nranks = nranks;
  communicator->blocking = blocking;
  communicator->device = device;
  communicator->lost_peer = -1;
  communicator->launches_tail = &communicator->launches;
  communicator->peers = calloc(count, sizeof *communicator->peers);
  communicator->sent = calloc(count, sizeof *communicator->sent);
  communicator->received = calloc(count, sizeof *communicator->received);
  communicator->sent_bytes = calloc(count, sizeof *communicator->sent_bytes);
  communicator->received_bytes = calloc(count, sizeof *communicator->received_bytes);
  communicator->awaited = calloc(count, sizeof *communicator->awaited);
  communicator->handle = handle_open(HANDLE_COMMUNICATOR, communicator);
  ncclResult_t result = ncclSuccess;
  if (communicator->peers == NULL || communicator->sent == NULL || communicator->received == NULL ||
      communicator->sent_bytes == NULL || communicator->received_bytes == NULL || communicator->awaited == NULL ||
      communicator->handle == NULL) {
    result = nccl_fail(ncclSystemError, "the host's memory is used up");
  }
  if (result == ncclSuccess) result = world_join(place, nranks, rank, device->ordinal, &communicator->world);
  if (result != ncclSuccess) {
    communicator_free(communicator);
    return result;
  }
  communicator->next = communicators;
  communicators = communicator;
  account_add(ACCOUNT_LIVE_COMMUNICATORS, 1);
  communicator_negotiates(communicator, true);
  *out = communicator;
  return ncclSuccess;
}

/* Whether all ranks have come together; faults where they cannot. */
static bool join_advance(struct communicator *communicator) {
  struct world *world = communicator->world;
  struct notice *refusal = &world->header->refusal;
  if (atomic_load_explicit(&refusal->state, memory_order_acquire) == NOTICE_WRITTEN) {
    communicator_fail(communicator, refusal->code, "%s", refusal->text);
    return true;
  }
  if (atomic_load_explicit(&world->header->joined, memory_order_acquire) < (uint32_t)world->nranks) return false;
  /* Devices are compared within this machine, which is all there is. */
  for (int rank = 0; !settings_get()->shared_device && rank < world->nranks; rank++) {
    if (rank == communicator->rank) continue;
    int physical = device_physical(world->ranks[rank].device);
    if (physical != device_physical(communicator->device->ordinal)) continue;
    communicator_fail(communicator, ncclInvalidUsage, "Duplicate GPU detected: rank %d and rank %d both are on device %d",
                      communicator->rank, rank, physical);
    return true;
  }
  communicator->state = COMMUNICATOR_READY;
  worlds_sweep();
  return true;
}

bool communicators_of_one_device(void) {
  for (const struct communicator *communicator = communicators; communicator != NULL; communicator = communicator->next) {
    if (communicator->device != communicators->device) return false;
  }
  return true;
}

bool communicators_negotiate(void) {
  bool moved = false;
  for (struct communicator *communicator = communicators; communicator != NULL; communicator = communicator->next) {
    if (!communicator->negotiating) continue;
    if (!communicator_is_faulty(communicator)) {
      bool joining = communicator->state == COMMUNICATOR_JOINING;
      if (joining ? join_advance(communicator) : split_advance(communicator)) moved = true;
    }
    bool busy = communicator->state == COMMUNICATOR_JOINING || communicator->split != NULL;
    if (!busy || communicator->fault != ncclSuccess) communicator_negotiates(communicator, false);
  }
  return moved;
}

static bool settled(void *argument) {
  struct communicator *communicator = communicator_find(*(ncclComm_t *)argument);
  return communicator == NULL || !communicator->negotiating;
}

ncclResult_t communicator_settle(ncclComm_t handle) {
  engine_wait(settled, &handle);
  struct communicator *communicator = communicator_find(handle);
  if (communicator == NULL || communicator->state == COMMUNICATOR_ABORTED) {
    return nccl_fail(ncclInvalidUsage, "the communicator was aborted while it was being initialized or split");
  }
  return communicator->fault == ncclSuccess ? ncclSuccess : nccl_fail(communicator->fault, "%s", communicator->fault_text);
}
