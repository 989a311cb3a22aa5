/* Launches: what happens to a communicator's part of a group on its streams. */
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "faults.h"
#include "group.h"
#include "helper.h"
#include "memory.h"

bool operation_is_copied(const struct operation *operation) {
  return operation_left(operation) == 0 && helper_has_done(operation);
}

void operation_free(struct operation *operation) {
  /* Only operations that were launched have a stage, and those are freed with the lock held. */
  struct block *stage = operation->stage == 0 ? NULL : heap_block(operation->stage);
  if (stage != NULL) heap_free(stage);
  free(operation->seen);
  free(operation->held);
  free(operation->scratch);
  free(operation);
}

void operations_free(struct operation *operation) {
  while (operation != NULL) {
    struct operation *next = operation->next;
    operation_free(operation);
    operation = next;
  }
}

void launch_free(struct launch *launch) {
  operations_free(launch->operations);
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
  /* It may be at a message of this launch, or at one that this launch sends to a rank of the same process. */
  helper_finish();
  operations_free(launch->operations);
  launch->operations = NULL;
}

void launch_release(struct launch *launch) {
  if (--launch->references == 0) launch_free(launch);
}

/*
 * Peers read what a rank gives in that rank's own heap. What lies in memory that another process exported is copied there first, now that the
 * streams have got to it.
 */
static bool stage_imports(struct launch *launch) {
  struct communicator *communicator = launch->communicator;
  for (struct operation *operation = launch->operations; operation != NULL; operation = operation->next) {
    if (!operation->is_import || operation->stage != 0) continue;
    if (heap_allocate(operation->from_bytes, communicator->device->ordinal, &operation->stage) != ALLOCATED) {
      operation->stage = 0;
      communicator_fail(communicator, ncclSystemError, "rank %d has no memory for %zu bytes of another process's that it sends",
                        communicator->rank, operation->from_bytes);
      return false;
    }
    char *stage = heap_pointer((void *)operation->stage);
    memcpy(stage, operation->from, operation->from_bytes);
    operation->from = stage;
    operation->from_offset = heap_offset((void *)operation->stage);
  }
  return true;
}

enum step launch_step(struct launch *launch, bool *arrived, size_t *budget) {
  struct communicator *communicator = launch->communicator;
  if (communicator == NULL) return STEP_DONE;
  if (!*arrived) {
    *arrived = true;
    launch->streams_awaited--;
  }
  if (launch->streams_awaited > 0 || communicator_is_faulty(communicator)) return STEP_STUCK;
  if (faults_armed() && fault_holds_group(launch)) return STEP_STUCK;
  if (!stage_imports(launch)) return STEP_STUCK;
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
    operation_free(operation);
  }
  if (launch->operations != NULL) return moved ? STEP_MOVED : STEP_STUCK;
  detach(launch);
  return STEP_DONE;
}
