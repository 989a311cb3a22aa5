/*
 * Splits: a collective among the ranks of a communicator, with no part on any stream. All post color and key; of each color the member
 * that comes first makes the new world and publishes its place; the others open it; when all have, the next split may begin.
 */
#include <stdlib.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "group.h"

enum phase { WAIT_FOR_LAST, WAIT_FOR_COLORS, WAIT_FOR_PLACE };

struct split {
  enum phase phase;
  int color, key;
  bool blocking;
  ncclComm_t *child;
  int leader;         /* rank in the parent */
  int nranks, rank;   /* of the child */
};

/* Size of the new communicator, this rank's place in it, and who leads it. Members are in the order of key, then rank in the parent. */
static void find_members(struct communicator *parent, struct split *split) {
  const struct world_rank *ranks = parent->world->ranks;
  int leader_key = 0;
  split->leader = -1;
  split->nranks = split->rank = 0;
  for (int rank = 0; rank < parent->nranks; rank++) {
    if (ranks[rank].split_color != split->color) continue;
    int key = ranks[rank].split_key;
    split->nranks++;
    if (key < split->key || (key == split->key && rank < parent->rank)) split->rank++;
    if (split->leader < 0 || key < leader_key) {
      split->leader = rank;
      leader_key = key;
    }
  }
}

static void finish(struct communicator *parent, ncclComm_t child) {
  *parent->split->child = child;
  free(parent->split);
  parent->split = NULL;
  atomic_store_explicit(&parent->world->ranks[parent->rank].split_finished, ++parent->splits, memory_order_release);
}

/* Whether every rank has counted beyond `count`. */
static bool all_beyond(const struct communicator *parent, size_t field, uint64_t count) {
  for (int rank = 0; rank < parent->nranks; rank++) {
    const _Atomic uint64_t *counter = (const _Atomic uint64_t *)((const char *)&parent->world->ranks[rank] + field);
    if (atomic_load_explicit(counter, memory_order_acquire) <= count) return false;
  }
  return true;
}

bool split_advance(struct communicator *parent) {
  struct split *split = parent->split;
  struct world_rank *ranks = parent->world->ranks, *own = &ranks[parent->rank];
  uint64_t number = parent->splits;
  bool moved = false;
  if (split->phase == WAIT_FOR_LAST) {
    if (number > 0 && !all_beyond(parent, offsetof(struct world_rank, split_finished), number - 1)) return moved;
    own->split_color = split->color;
    own->split_key = split->key;
    atomic_store_explicit(&own->split_posted, number + 1, memory_order_release);
    split->phase = WAIT_FOR_COLORS;
    moved = true;
  }
  if (split->phase == WAIT_FOR_COLORS) {
    if (!all_beyond(parent, offsetof(struct world_rank, split_posted), number)) return moved;
    moved = true;
    if (split->color == NCCL_SPLIT_NOCOLOR) {
      finish(parent, NULL);
      return true;
    }
    find_members(parent, split);
    if (split->leader == parent->rank) {
      ncclResult_t result = world_create(&own->split_place);
      if (result != ncclSuccess) {
        communicator_fail(parent, result, "%s", last_sentence());
        return true;
      }
      atomic_store_explicit(&own->split_published, number + 1, memory_order_release);
    }
    split->phase = WAIT_FOR_PLACE;
  }
  struct world_rank *leader = &ranks[split->leader];
  if (atomic_load_explicit(&leader->split_published, memory_order_acquire) <= number) return moved;
  struct communicator *child = NULL;
  ncclResult_t result =
      communicator_join(&leader->split_place, split->nranks, split->rank, parent->device, split->blocking, &child);
  if (result != ncclSuccess) {
    communicator_fail(parent, result, "%s", last_sentence());
    return true;
  }
  finish(parent, child->handle);
  return true;
}

void split_awaits(const struct communicator *parent, uint8_t *awaited) {
  const struct split *split = parent->split;
  uint64_t number = parent->splits;
  for (int rank = 0; rank < parent->nranks; rank++) {
    const struct world_rank *row = &parent->world->ranks[rank];
    if (split->phase == WAIT_FOR_LAST) {
      if (atomic_load_explicit(&row->split_finished, memory_order_acquire) < number) awaited[rank] = 1;
    } else if (split->phase == WAIT_FOR_COLORS) {
      if (atomic_load_explicit(&row->split_posted, memory_order_acquire) <= number) awaited[rank] = 1;
    } else if (rank == split->leader && atomic_load_explicit(&row->split_published, memory_order_acquire) <= number) {
      awaited[rank] = 1;
    }
  }
}

void split_drop(struct communicator *parent) {
  free(parent->split);
  parent->split = NULL;
}

ncclResult_t ncclCommSplit(ncclComm_t handle, int color, int key, ncclComm_t *child, ncclConfig_t *config) {
  ENTER(ncclCommSplit);
  if (child == NULL) return nccl_fail(ncclInvalidArgument, "ncclCommSplit was given no place for its communicator");
  if (color < NCCL_SPLIT_NOCOLOR) {
    return nccl_fail(ncclInvalidArgument, "a color of ncclCommSplit is 0 or more, or -1 for none, not %d", color);
  }
  *child = NULL;
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *parent = communicator_usable(handle, "ncclCommSplit", &result);
  bool blocking = parent != NULL && parent->blocking;
  if (parent != NULL) result = communicator_config(config, &blocking);
  struct split *split = parent == NULL || result != ncclSuccess ? NULL : calloc(1, sizeof *split);
  if (parent != NULL && result == ncclSuccess && split == NULL) result = nccl_fail(ncclSystemError, "the host's memory is used up");
  if (result == ncclSuccess) {
    *split = (struct split){.color = color, .key = key, .blocking = blocking, .child = child};
    parent->split = split;
    communicator_negotiates(parent, true);
    if (group_is_open()) {
      group_add_pending(handle, child);
    } else if (!parent->blocking) {
      result = ncclInProgress;
    } else {
      result = communicator_settle(handle);
      if (result == ncclSuccess && *child != NULL && blocking) result = communicator_settle(*child);
    }
  }
  engine_unlock();
  return result;
}
