/*
 * Collectives. Every rank posts its part on its board; each reads what it needs from the others' memory, in the order of collectives;
 * whoever is read from waits until all have finished. A slot of the board is free again when all ranks have finished what was in it.
 *
 * A short part of an all-gather stands on the board itself: whoever has read the others' is done, and waits for nobody to read its own. It is
 * of use only when all have come, so that only the last to come wakes the others.
 */
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "copy_bytes.h"
#include "faults.h"
#include "group.h"
#include "helper.h"
#include "process.h"

/* Bytes that are reduced in one go, and for which the inputs are brought together. */
#define REDUCE_BYTES ((size_t)32 << 10)

static const char *kind_name(int kind) {
  return kind == OPERATION_BROADCAST    ? "ncclBroadcast"
         : kind == OPERATION_ALL_GATHER ? "ncclAllGather"
         : kind == OPERATION_ALL_REDUCE ? "ncclAllReduce"
         : kind == OPERATION_REDUCE     ? "ncclReduce"
         : kind == OPERATION_REDUCE_SCATTER ? "ncclReduceScatter"
                                            : "no collective";
}

/* Whether a rank reads what the others give, and whether the others read what it gives. */
static bool takes(const struct operation *operation, int rank) { return operation->kind != OPERATION_REDUCE || operation->peer == rank; }

static bool gives(const struct operation *operation, int rank) {
  if (operation->kind == OPERATION_BROADCAST) return operation->peer == rank;
  return operation->kind != OPERATION_REDUCE || operation->peer != rank;
}

/* Whether its parts stand on the boards. */
static bool is_short(const struct operation *operation) {
  return operation->kind == OPERATION_ALL_GATHER && operation->bytes <= WORLD_BOARD_BYTES;
}

static struct world_rank *row_of(const struct communicator *communicator, int rank) { return &communicator->world->ranks[rank]; }

static bool has_posted(const struct communicator *communicator, int rank, uint64_t sequence) {
  return atomic_load_explicit(&row_of(communicator, rank)->posted, memory_order_seq_cst) > sequence;
}

static bool has_finished(const struct communicator *communicator, int rank, uint64_t sequence) {
  return atomic_load_explicit(&row_of(communicator, rank)->finished, memory_order_acquire) > sequence;
}

/* ---- posting */

static bool slot_is_free(struct communicator *communicator, uint64_t sequence) {
  if (sequence < communicator->finished_by_all + WORLD_BOARD_SLOTS) return true;
  uint64_t least = UINT64_MAX;
  for (int rank = 0; rank < communicator->nranks; rank++) {
    uint64_t finished = atomic_load_explicit(&row_of(communicator, rank)->finished, memory_order_acquire);
    if (finished < least) least = finished;
  }
  communicator->finished_by_all = least;
  return sequence < least + WORLD_BOARD_SLOTS;
}

static bool all_have_posted(const struct communicator *communicator, uint64_t sequence) {
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (!has_posted(communicator, rank, sequence)) return false;
  }
  return true;
}

static bool post(struct communicator *communicator, struct operation *operation) {
  struct world_rank *own = row_of(communicator, communicator->rank);
  uint64_t sequence = operation->sequence;
  if (atomic_load_explicit(&own->posted, memory_order_relaxed) != sequence || !slot_is_free(communicator, sequence)) return false;
  struct posting *posting = &own->postings[sequence % WORLD_BOARD_SLOTS];
  posting->sequence = sequence;
  posting->count = operation->count;
  posting->offset = operation->from_offset;
  posting->kind = (int32_t)operation->kind;
  posting->type = operation->type;
  posting->reduction = operation->reduction;
  posting->root = operation->peer;
  if (is_short(operation) && operation->bytes > 0) memcpy(posting->bytes, operation->from, operation->bytes);
  /* Of two who come last at once, each stores before it looks, so that one of them sees both. */
  atomic_store_explicit(&own->posted, sequence + 1, memory_order_seq_cst);
  operation->posted = true;
  if (!is_short(operation) || all_have_posted(communicator, sequence)) communicator_ring_all(communicator);
  return true;
}

/* ---- comparing */

/* What another rank posted, found to agree with this rank's part. NULL where it has not posted, or after both were told that it differs. */
static const struct posting *agreed_posting(struct communicator *communicator, struct operation *operation, int rank) {
  if (!has_posted(communicator, rank, operation->sequence)) return NULL;
  const struct posting *posting = &row_of(communicator, rank)->postings[operation->sequence % WORLD_BOARD_SLOTS];
  if (posting->kind == (int32_t)operation->kind && posting->count == operation->count && posting->type == operation->type &&
      posting->reduction == operation->reduction && posting->root == operation->peer) {
    return posting;
  }
  communicator_fail_both(communicator, rank, ncclInvalidUsage,
                         "collective %llu of the communicator is %s of %zu %s (root %d, reduction %d) on rank %d, and %s of %llu %s "
                         "(root %d, reduction %d) on rank %d",
                         (unsigned long long)operation->sequence, kind_name((int)operation->kind), operation->count,
                         type_name(operation->type), operation->peer, operation->reduction, communicator->rank,
                         kind_name(posting->kind), (unsigned long long)posting->count, type_name(posting->type), posting->root,
                         posting->reduction, rank);
  return NULL;
}

/* ---- reading */

/* Whether what a rank posted is still what it gave: its memory is not once it has left, the board is. */
static bool can_read(const struct communicator *communicator, const struct operation *operation, int rank) {
  return is_short(operation) || world_has(communicator->world, rank);
}

/* Copies some more of one rank's part. */
static enum step copy_part(struct communicator *communicator, struct operation *operation, int rank, char *to, size_t *budget) {
  size_t bytes = operation_left(operation);
  if (bytes > *budget) bytes = *budget;
  if (bytes > 0) {
    char *at = to + operation->done;
    if (rank == communicator->rank) {
      const char *from = operation->from + operation->done;
      if (at != from) copy_bytes(at, from, bytes, operation->bytes);
    } else {
      const struct posting *posting = agreed_posting(communicator, operation, rank);
      if (posting == NULL || !can_read(communicator, operation, rank)) return STEP_STUCK;
      if (faults_armed() && fault_holds_message(communicator, operation, rank, &bytes)) return STEP_STUCK;
      if (bytes == 0) return STEP_STUCK;
      if (operation->kind == OPERATION_BROADCAST) {
        struct peer *root = communicator_peer(communicator, rank);
        if (root == NULL) return STEP_STUCK;
        bytes = helper_share(operation, root, posting->offset, bytes);
      }
      bool is_there = world_has(communicator->world, rank);
      uint64_t offset = posting->offset + operation->done;
      if (is_short(operation)) {
        /* So that a rank whose memory cannot be mapped is found out now, and not in the middle of a transfer; unless it is done and gone. */
        if (is_there) communicator_try(communicator, rank, offset, bytes);
        if (communicator->fault != ncclSuccess) return STEP_STUCK;
        memcpy(at, posting->bytes + operation->done, bytes);
      } else if (!is_there || !communicator_read(communicator, rank, offset, at, bytes, operation->bytes)) {
        return STEP_STUCK;
      }
    }
    operation->done += bytes;
    *budget -= bytes;
  }
  if (!operation_is_copied(operation)) return bytes > 0 ? STEP_MOVED : STEP_STUCK;
  if (operation->is_unread) return communicator_cannot_read(communicator, rank), STEP_STUCK;
  if (rank != communicator->rank) {
    if (!can_read(communicator, operation, rank)) return STEP_STUCK;
    communicator->received_bytes[rank] += operation->bytes;
    account_add(ACCOUNT_COLLECTIVE_BYTES, operation->bytes);
  }
  return STEP_DONE;
}

static enum step read_broadcast(struct communicator *communicator, struct operation *operation, size_t *budget) {
  int root = operation->peer;
  if (root != communicator->rank && agreed_posting(communicator, operation, root) == NULL) return STEP_STUCK;
  return copy_part(communicator, operation, root, operation->to, budget);
}

/* Each rank's part is copied as soon as it is there. */
static enum step read_all_gather(struct communicator *communicator, struct operation *operation, size_t *budget) {
  bool moved = false;
  int missing = 0;
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (operation->seen[rank]) continue;
    missing++;
    if (operation->current >= 0 && operation->current != rank) continue;
    if (rank != communicator->rank && agreed_posting(communicator, operation, rank) == NULL) continue;
    char *to = operation->bytes == 0 ? NULL : operation->to + (size_t)rank * operation->bytes;
    enum step result = copy_part(communicator, operation, rank, to, budget);
    if (result == STEP_DONE) {
      operation->seen[rank] = 1;
      operation->current = -1;
      operation->done = 0;
      missing--;
    } else if (operation->done > 0) {
      operation->current = rank;
    }
    if (result != STEP_STUCK) moved = true;
    if (communicator->fault != ncclSuccess) return STEP_STUCK;
  }
  return missing == 0 ? STEP_DONE : moved ? STEP_MOVED : STEP_STUCK;
}

/* Whether all ranks have posted, and agree. */
static bool all_posted(struct communicator *communicator, struct operation *operation) {
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (operation->seen[rank]) continue;
    if (rank != communicator->rank && agreed_posting(communicator, operation, rank) == NULL) return false;
    operation->seen[rank] = 1;
  }
  return true;
}

/* In the order of ranks, so that the result is the same to the last bit on all of them. */
static enum step read_reduced(struct communicator *communicator, struct operation *operation, size_t *budget) {
  static union {
    char bytes[REDUCE_BYTES];
    double align;
  } sum, part;
  if (!takes(operation, communicator->rank)) return STEP_DONE;
  if (!all_posted(communicator, operation)) return STEP_STUCK;
  if (faults_armed() && fault_holds_parts(communicator, operation)) return STEP_STUCK;
  bool moved = false;
  /* Where in what each rank gives this rank's part begins. */
  size_t part_start = operation->kind == OPERATION_REDUCE_SCATTER ? (size_t)communicator->rank * operation->bytes : 0;
  size_t element = type_bytes(operation->type);
  bool overlaps = operation->from < operation->to + operation->bytes && operation->to < operation->from + operation->from_bytes;
  if (operation->bytes > 0 && overlaps && operation->scratch == NULL) {
    operation->scratch = malloc(operation->bytes);
    if (operation->scratch == NULL) {
      communicator_fail(communicator, ncclSystemError, "the host's memory is used up");
      return STEP_STUCK;
    }
  }
  char *to = operation->scratch != NULL ? operation->scratch : operation->to;
  while (operation->done < operation->bytes && *budget > 0) {
    size_t bytes = operation->bytes - operation->done;
    if (bytes > REDUCE_BYTES) bytes = REDUCE_BYTES;
    for (int rank = 0; rank < communicator->nranks; rank++) {
      const struct posting *posting = &row_of(communicator, rank)->postings[operation->sequence % WORLD_BOARD_SLOTS];
      if (!world_has(communicator->world, rank)) return STEP_STUCK;
      uint64_t offset = posting->offset + part_start + operation->done;
      if (!communicator_read(communicator, rank, offset, rank == 0 ? sum.bytes : part.bytes, bytes, bytes)) return STEP_STUCK;
      if (rank > 0) reduce(operation->reduction, operation->type, sum.bytes, part.bytes, bytes / element);
    }
    memcpy(to + operation->done, sum.bytes, bytes);
    operation->done += bytes;
    moved = true;
    *budget -= bytes < *budget ? bytes : *budget;
  }
  if (operation->done < operation->bytes) return moved ? STEP_MOVED : STEP_STUCK;
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (!world_has(communicator->world, rank)) return STEP_STUCK;
  }
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (rank == communicator->rank) continue;
    communicator->received_bytes[rank] += operation->bytes;
    account_add(ACCOUNT_COLLECTIVE_BYTES, operation->bytes);
  }
  return STEP_DONE;
}

/* ---- waiting until this rank's part was read */

/* Whether others read from this rank's memory, so that it waits for them. */
static bool is_read(const struct communicator *communicator, const struct operation *operation) {
  return gives(operation, communicator->rank) && !is_short(operation);
}

/* Whether a rank has a full board and may wait for a slot with what this rank has finished now. */
static bool somebody_needs_slot(const struct communicator *communicator, uint64_t sequence) {
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (has_posted(communicator, rank, sequence + WORLD_BOARD_SLOTS - 1)) return true;
  }
  return false;
}

static bool was_read_by_all(struct communicator *communicator, struct operation *operation) {
  if (!is_read(communicator, operation)) return true;
  bool all = true;
  for (int rank = 0; rank < communicator->nranks && communicator->fault == ncclSuccess; rank++) {
    if (has_finished(communicator, rank, operation->sequence)) continue;
    all = false;
    /* A rank that goes wrong is found here where nothing is read from it. Its slot stays until this rank has been read, see post(). */
    if (!operation->seen[rank] && agreed_posting(communicator, operation, rank) != NULL) operation->seen[rank] = 1;
  }
  return all && communicator->fault == ncclSuccess;
}

enum step collective_step(struct communicator *communicator, struct operation *operation, size_t *budget) {
  struct world_rank *own = row_of(communicator, communicator->rank);
  bool moved = false;
  if (!operation->posted) {
    if (!post(communicator, operation)) return STEP_STUCK;
    moved = true;
  }
  if (!operation->finished) {
    if (atomic_load_explicit(&own->finished, memory_order_relaxed) != operation->sequence) return moved ? STEP_MOVED : STEP_STUCK;
    enum step result = operation->kind == OPERATION_BROADCAST    ? read_broadcast(communicator, operation, budget)
                       : operation->kind == OPERATION_ALL_GATHER ? read_all_gather(communicator, operation, budget)
                                                                 : read_reduced(communicator, operation, budget);
    if (result != STEP_DONE) return moved ? STEP_MOVED : result;
    atomic_store_explicit(&own->finished, operation->sequence + 1, memory_order_seq_cst);
    operation->finished = moved = true;
    /* The others' parts are done with: from here on `seen` is about whom this rank still waits for. */
    if (operation->kind == OPERATION_BROADCAST) memset(operation->seen, 0, (size_t)communicator->nranks);
    if (!is_short(operation) || somebody_needs_slot(communicator, operation->sequence)) communicator_ring_all(communicator);
  }
  if (!was_read_by_all(communicator, operation)) return moved ? STEP_MOVED : STEP_STUCK;
  if (operation->scratch != NULL) memcpy(operation->to, operation->scratch, operation->bytes);
  for (int rank = 0; gives(operation, communicator->rank) && rank < communicator->nranks; rank++) {
    if (rank != communicator->rank && takes(operation, rank)) communicator->sent_bytes[rank] += operation->bytes;
  }
  return STEP_DONE;
}

void collective_awaits(const struct communicator *communicator, const struct operation *operation, uint8_t *awaited) {
  bool waits = is_read(communicator, operation);
  bool absent = false;
  for (int rank = 0; rank < communicator->nranks; rank++) {
    bool reads = takes(operation, communicator->rank) && gives(operation, rank);
    if (!waits && !reads) continue;
    bool there = has_posted(communicator, rank, operation->sequence) && can_read(communicator, operation, rank);
    if (there || has_finished(communicator, rank, operation->sequence)) continue;
    awaited[rank] = 1;
    absent = true;
  }
  /* Those who came but have not finished wait for the absent ones themselves; they are named only where nobody is absent. */
  for (int rank = 0; waits && !absent && rank < communicator->nranks; rank++) {
    if (!has_finished(communicator, rank, operation->sequence)) awaited[rank] = 1;
  }
}
