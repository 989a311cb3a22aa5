/*
 * Point to point. The sender posts where its bytes are; the receiver copies them and says so. A stopped or absent sender therefore never
 * writes into memory that has moved on, and a send is one copy from device memory to device memory.
 */
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "faults.h"
#include "group.h"
#include "helper.h"
#include "process.h"

enum step send_step(struct communicator *communicator, struct operation *operation) {
  struct pair *pair = world_pair(communicator->world, communicator->rank, operation->peer);
  bool moved = false;
  uint64_t consumed = atomic_load_explicit(&pair->consumed, memory_order_acquire);
  if (!operation->posted) {
    /* In order: an earlier send of the pair may be on another stream, or have found no room. */
    if (atomic_load_explicit(&pair->posted, memory_order_relaxed) != operation->sequence) return STEP_STUCK;
    if (operation->sequence - consumed >= WORLD_RING_SLOTS) return STEP_STUCK;
    struct descriptor *slot = &pair->slots[operation->sequence % WORLD_RING_SLOTS];
    slot->offset = operation->from_offset;
    slot->bytes = operation->bytes;
    slot->count = operation->count;
    slot->type = operation->type;
    atomic_store_explicit(&pair->posted, operation->sequence + 1, memory_order_release);
    operation->posted = moved = true;
    communicator_ring(communicator, operation->peer);
  }
  if (consumed <= operation->sequence) return moved ? STEP_MOVED : STEP_STUCK;
  communicator->sent_bytes[operation->peer] += operation->bytes;
  return STEP_DONE;
}

enum step receive_step(struct communicator *communicator, struct operation *operation, size_t *budget) {
  int peer = operation->peer;
  struct pair *pair = world_pair(communicator->world, peer, communicator->rank);
  if (atomic_load_explicit(&pair->posted, memory_order_acquire) <= operation->sequence) return STEP_STUCK;
  /* In order: an earlier receive of the pair may be on another stream. */
  if (atomic_load_explicit(&pair->consumed, memory_order_relaxed) != operation->sequence) return STEP_STUCK;
  struct descriptor slot = pair->slots[operation->sequence % WORLD_RING_SLOTS];
  if (slot.bytes != operation->bytes) {
    communicator_fail_both(communicator, peer, ncclInvalidUsage,
                           "rank %d sends %llu bytes (%llu of %s) to rank %d, which receives %zu bytes (%zu of %s)", peer,
                           (unsigned long long)slot.bytes, (unsigned long long)slot.count, type_name(slot.type), communicator->rank,
                           operation->bytes, operation->count, type_name(operation->type));
    return STEP_STUCK;
  }
  if (!world_has(communicator->world, peer)) return STEP_STUCK;
  size_t bytes = operation_left(operation);
  if (bytes > *budget) bytes = *budget;
  if (faults_armed() && fault_holds_message(communicator, operation, peer, &bytes)) return STEP_STUCK;
  if (bytes > 0) {
    struct peer *process = communicator_peer(communicator, peer);
    if (process == NULL) return STEP_STUCK;
    bytes = helper_share(operation, process, slot.offset, bytes);
    char *to = operation->to + operation->done;
    if (!communicator_read(communicator, peer, slot.offset + operation->done, to, bytes, operation->bytes)) return STEP_STUCK;
    operation->done += bytes;
    *budget -= bytes;
  }
  if (!operation_is_copied(operation)) return bytes > 0 ? STEP_MOVED : STEP_STUCK;
  if (operation->is_unread) return communicator_cannot_read(communicator, peer), STEP_STUCK;
  if (!world_has(communicator->world, peer)) return STEP_STUCK;
  atomic_store_explicit(&pair->consumed, operation->sequence + 1, memory_order_release);
  communicator_ring(communicator, peer);
  communicator->received_bytes[peer] += operation->bytes;
  account_add(ACCOUNT_PEER_BYTES, operation->bytes);
  return STEP_DONE;
}
