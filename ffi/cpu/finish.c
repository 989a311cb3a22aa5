/* The end of a communicator: finalized and destroyed, or aborted. */
#include <stdlib.h>

#include "accounts.h"
#include "communicator.h"
#include "engine.h"
#include "group.h"
#include "process.h"

/* How many aborted communicators can still be asked what they waited for. */
#define MOST_ABORTED 1024

static struct communicator *aborted, **aborted_tail = &aborted;
static unsigned aborted_count;

static void unlink_from(struct communicator **list, struct communicator *communicator) {
  while (*list != communicator) list = &(*list)->next;
  *list = communicator->next;
}

void communicator_leave(struct communicator *communicator) {
  unlink_from(&communicators, communicator);
  communicator_negotiates(communicator, false);
  split_drop(communicator);
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (communicator->peers[rank] != NULL) peer_close(communicator->peers[rank]);
    communicator->peers[rank] = NULL;
  }
  world_leave(communicator->world, communicator->rank);
  /* Now that no peer takes what it reads for good, what was staged for them can go. */
  while (communicator->launches != NULL) launch_drop(communicator->launches);
  communicator->world = NULL;
  account_subtract(ACCOUNT_LIVE_COMMUNICATORS, 1);
  self_ring();
}

void communicator_revoke(struct communicator *communicator) {
  while (communicator->launches != NULL) launch_drop(communicator->launches);
  communicator->unsettled = false;
  communicator->revoked = true;
  communicator->fault = ncclSuccess;
  self_ring();
}

static void forget_aborted(struct communicator *communicator) {
  unlink_from(&aborted, communicator);
  aborted_tail = &aborted;
  while (*aborted_tail != NULL) aborted_tail = &(*aborted_tail)->next;
  aborted_count--;
  communicator_free(communicator);
}

/* Drops what is outstanding, and keeps the record of whom that waited for. */
static void abort_now(struct communicator *communicator) {
  communicator_awaits(communicator, communicator->awaited);
  communicator_leave(communicator);
  communicator->state = COMMUNICATOR_ABORTED;
  communicator->next = NULL;
  *aborted_tail = communicator;
  aborted_tail = &communicator->next;
  if (++aborted_count > MOST_ABORTED) forget_aborted(aborted);
  /* The streams go on at once. */
  engine_progress(NULL, CHUNK_BUDGET);
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  ENTER(ncclCommAbort);
  ncclResult_t result = ncclSuccess;
  if (handle == NULL) return ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_find(handle);
  if (communicator == NULL) {
    result = no_communicator("ncclCommAbort", handle);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    result = nccl_violation("ncclCommAbort on rank %d: its communicator was aborted before", communicator->rank);
  } else {
    abort_now(communicator);
  }
  engine_unlock();
  return result;
}

/* Whether nothing of a communicator is outstanding, or never will be. */
static bool quiet(void *argument) {
  struct communicator *communicator = communicator_find(*(ncclComm_t *)argument);
  return communicator == NULL || communicator->state == COMMUNICATOR_ABORTED || communicator->launches == NULL ||
         communicator_is_faulty(communicator);
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  ENTER(ncclCommFinalize);
  if (group_is_open()) {
    return nccl_violation("ncclCommFinalize was called between ncclGroupStart and ncclGroupEnd: the group was left open");
  }
  ncclResult_t result = ncclSuccess;
  if (handle == NULL) return ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_usable(handle, "ncclCommFinalize", &result);
  if (communicator != NULL) {
    communicator->state = COMMUNICATOR_FINALIZING;
    if (!communicator->blocking) {
      result = ncclInProgress;
    } else {
      if (!quiet(&handle)) engine_wait(quiet, &handle);
      communicator = communicator_find(handle);
      if (communicator == NULL || communicator->state == COMMUNICATOR_ABORTED) {
        result = nccl_fail(ncclInvalidUsage, "ncclCommFinalize: the communicator was aborted meanwhile");
      } else if (communicator->fault != ncclSuccess) {
        result = nccl_fail(communicator->fault, "%s", communicator->fault_text);
      } else {
        communicator->state = COMMUNICATOR_FINALIZED;
      }
    }
  }
  engine_unlock();
  return result;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  ENTER(ncclCommDestroy);
  if (handle == NULL) return ncclSuccess;
  if (group_is_open()) {
    return nccl_violation("ncclCommDestroy was called between ncclGroupStart and ncclGroupEnd: the group was left open");
  }
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_find(handle);
  if (communicator != NULL && communicator->state != COMMUNICATOR_ABORTED && communicator->state != COMMUNICATOR_JOINING) {
    /* No further group can be issued; those that are outstanding end first. */
    if (communicator->state == COMMUNICATOR_READY) communicator->state = COMMUNICATOR_FINALIZING;
    if (!quiet(&handle)) engine_wait(quiet, &handle);
    communicator = communicator_find(handle);
  }
  if (communicator == NULL) {
    result = no_communicator("ncclCommDestroy", handle);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    forget_aborted(communicator);
  } else {
    communicator_leave(communicator);
    communicator_free(communicator);
    engine_progress(NULL, CHUNK_BUDGET);
  }
  engine_unlock();
  return result;
}
