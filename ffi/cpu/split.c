/*
 * Splits: a collective among the ranks of a communicator, with no part on any stream. All post color and key; of each color the member
 * that comes first makes the new world and publishes its place; the others open it; when all have, the next split may begin. A shrink is a
 * split in which the ranks that are left out take no part.
 */
#include <stdlib.h>
#include <string.h>

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
  uint8_t *excluded;  /* by rank: left out by a shrink; NULL for a split */
  int leader;         /* rank in the parent */
  int nranks, rank;   /* of the child */
};

static bool is_excluded(const struct split *split, int rank) { return split->excluded != NULL && split->excluded[rank] != 0; }

/* Size of the new communicator, this rank's place in it, and who leads it. Members are in the order of key, then rank in the parent. */
static void find_members(struct communicator *parent, struct split *split) {
  const struct world_rank *ranks = parent->world->ranks;
  int leader_key = 0;
  split->leader = -1;
  split->nranks = split->rank = 0;
  for (int rank = 0; rank < parent->nranks; rank++) {
    if (is_excluded(split, rank) || ranks[rank].split_color != split->color) continue;
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
  split_drop(parent);
  atomic_store_explicit(&parent->world->ranks[parent->rank].split_finished, ++parent->splits, memory_order_release);
}

/* Whether every rank has counted beyond `count`. */
static bool all_beyond(const struct communicator *parent, size_t field, uint64_t count) {
  for (int rank = 0; rank < parent->nranks; rank++) {
    if (is_excluded(parent->split, rank)) continue;
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
    if (is_excluded(split, rank)) continue;
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
  if (parent->split != NULL) free(parent->split->excluded);
  free(parent->split);
  parent->split = NULL;
}

/* Begins a split, whose fields say what for; takes `excluded` over. */
static ncclResult_t start(struct communicator *parent, struct split arguments, const ncclConfig_t *config) {
  ncclComm_t handle = parent->handle, *child = arguments.child;
  arguments.blocking = parent->blocking;
  ncclResult_t result = communicator_config(config, &arguments.blocking);
  struct split *split = result == ncclSuccess ? malloc(sizeof *split) : NULL;
  if (result == ncclSuccess && split == NULL) result = nccl_fail(ncclSystemError, "the host's memory is used up");
  if (result != ncclSuccess) {
    free(arguments.excluded);
    return result;
  }
  *split = arguments;
  parent->split = split;
  communicator_negotiates(parent, true);
  if (group_is_open()) {
    group_add_pending(handle, child);
    return ncclSuccess;
  }
  if (!parent->blocking) return ncclInProgress;
  result = communicator_settle(handle);
  if (result == ncclSuccess && *child != NULL && arguments.blocking) result = communicator_settle(*child);
  return result;
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
  struct communicator *parent = communicator_divisible(handle, "ncclCommSplit", false, &result);
  if (parent != NULL) result = start(parent, (struct split){.color = color, .key = key, .child = child}, config);
  engine_unlock();
  return result;
}

#if HAS_SHRINK

/* By rank, whether it is in the list; NULL after setting the result. */
static uint8_t *read_excluded(const struct communicator *parent, const int *list, int count, ncclResult_t *result) {
  if (list == NULL || count < 1 || count >= parent->nranks) {
    *result = nccl_fail(ncclInvalidArgument, "ncclCommShrink on rank %d leaves out 1 to %d ranks, not %d", parent->rank, parent->nranks - 1,
                        list == NULL ? 0 : count);
    return NULL;
  }
  uint8_t *excluded = calloc((size_t)parent->nranks, 1);
  if (excluded == NULL) *result = nccl_fail(ncclSystemError, "the host's memory is used up");
  for (int i = 0; excluded != NULL && i < count; i++) {
    if (list[i] >= 0 && list[i] < parent->nranks && list[i] != parent->rank && excluded[list[i]] == 0) {
      excluded[list[i]] = 1;
      continue;
    }
    *result = nccl_fail(ncclInvalidArgument, "ncclCommShrink on rank %d is to leave out rank %d, which is %s", parent->rank, list[i],
                        list[i] == parent->rank ? "itself" : "none, or named twice");
    free(excluded);
    return NULL;
  }
  return excluded;
}

ncclResult_t ncclCommShrink(ncclComm_t handle, int *list, int count, ncclComm_t *child, ncclConfig_t *config, int flags) {
  ENTER(ncclCommShrink);
  if (child == NULL) return nccl_fail(ncclInvalidArgument, "ncclCommShrink was given no place for its communicator");
  if (flags != NCCL_SHRINK_DEFAULT && flags != NCCL_SHRINK_ABORT) {
    return nccl_fail(ncclInvalidArgument, "the flags of ncclCommShrink are 0 or 1, not %d", flags);
  }
  *child = NULL;
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *parent = communicator_divisible(handle, "ncclCommShrink", flags == NCCL_SHRINK_ABORT, &result);
  if (parent != NULL && flags == NCCL_SHRINK_DEFAULT && parent->launches != NULL) {
    result = nccl_violation("ncclCommShrink on rank %d: its communicator has work under way, which NCCL_SHRINK_ABORT would end", parent->rank);
    parent = NULL;
  }
  uint8_t *excluded = parent == NULL ? NULL : read_excluded(parent, list, count, &result);
  if (excluded != NULL) {
    if (flags == NCCL_SHRINK_ABORT) communicator_revoke(parent);
    result = start(parent, (struct split){.child = child, .key = parent->rank, .excluded = excluded}, config);
  }
  engine_unlock();
  return result;
}

#endif

#if HAS_REVOKE

ncclResult_t ncclCommRevoke(ncclComm_t handle, int flags) {
  ENTER(ncclCommRevoke);
  if (flags != 0) return nccl_fail(ncclInvalidArgument, "the flags of ncclCommRevoke are 0, not %d", flags);
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_divisible(handle, "ncclCommRevoke", true, &result);
  if (communicator != NULL) {
    communicator_revoke(communicator);
    if (!communicator->blocking) result = ncclInProgress;
  }
  engine_unlock();
  return result;
}

#endif
