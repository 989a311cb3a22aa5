/* A communicator's peers: reaching them, faults that both ends are told, whom is waited for, and who is gone. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "accounts.h"
#include "communicator.h"
#include "group.h"
#include "process.h"

/* Nanoseconds between two looks at whether processes are still there, each of which costs microseconds; and while something moves. */
#define CHECK_PEERS_EVERY UINT64_C(50000000)
#define CHECK_PEERS_EVERY_MOVING UINT64_C(500000000)

/* ---- reaching and failing */

struct peer *communicator_peer(struct communicator *communicator, int rank) {
  if (communicator->peers[rank] != NULL) return communicator->peers[rank];
  const struct world_rank *row = &communicator->world->ranks[rank];
  struct peer *peer = peer_open(row->pid, row->start_time, row->control_fd, row->heap_fd);
  /* Whoever has left in order may also end; that is looked at after the process was found gone. */
  if (peer == NULL && world_has(communicator->world, rank)) {
    int saved = errno;
    bool alive = process_alive(row->pid, row->start_time);
    if (!alive) communicator->lost_peer = rank;
    communicator_fail(communicator, alive ? ncclSystemError : ncclRemoteError, "rank %d cannot reach rank %d in process %d: %s",
                      communicator->rank, rank, (int)row->pid, alive ? strerror(saved) : "it has ended");
  }
  return communicator->peers[rank] = peer;
}

void communicator_cannot_read(struct communicator *communicator, int rank) {
  communicator_fail(communicator, ncclSystemError, "rank %d cannot read the device memory of rank %d", communicator->rank, rank);
}

static void cannot_map(struct communicator *communicator, int rank) {
  communicator_fail(communicator, ncclSystemError, "rank %d cannot map the device memory of rank %d", communicator->rank, rank);
}

bool communicator_read(struct communicator *communicator, int rank, uint64_t offset, void *to, size_t bytes, size_t whole) {
  struct peer *peer = communicator_peer(communicator, rank);
  if (peer == NULL) return false;
  struct heap_place place;
  if (!peer_locate(peer, offset, bytes, &place)) {
    cannot_map(communicator, rank);
    return false;
  }
  if (heap_place_copy(to, &place, bytes, whole)) return true;
  communicator_cannot_read(communicator, rank);
  return false;
}

void communicator_try(struct communicator *communicator, int rank, uint64_t offset, size_t bytes) {
  struct peer *peer = communicator_peer(communicator, rank);
  if (peer != NULL && !peer_map(peer, offset, bytes)) cannot_map(communicator, rank);
}

void communicator_ring(struct communicator *communicator, int rank) {
  struct peer *peer = communicator_peer(communicator, rank);
  if (peer != NULL) peer_ring(peer);
}

void communicator_ring_all(struct communicator *communicator) {
  for (int rank = 0; rank < communicator->nranks && communicator->fault == ncclSuccess; rank++) {
    communicator_ring(communicator, rank);
  }
}

void communicator_fail(struct communicator *communicator, ncclResult_t code, const char *format, ...) {
  if (communicator->fault != ncclSuccess) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(communicator->fault_text, sizeof communicator->fault_text, format, arguments);
  va_end(arguments);
  communicator->fault = code;
  self_ring();
}

void communicator_fail_both(struct communicator *communicator, int peer, ncclResult_t code, const char *format, ...) {
  char text[SENTENCE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  account_add(ACCOUNT_VIOLATIONS, 1);
  notice_write(&communicator->world->ranks[peer].fault, code, text);
  communicator_ring(communicator, peer);
  communicator_fail(communicator, code, "%s", text);
}

bool communicator_is_faulty(struct communicator *communicator) {
  if (communicator->fault != ncclSuccess) return true;
  if (communicator->revoked) return false;
  struct notice *notice = &communicator->world->ranks[communicator->rank].fault;
  if (atomic_load_explicit(&notice->state, memory_order_acquire) != NOTICE_WRITTEN) return false;
  communicator_fail(communicator, notice->code, "%s", notice->text);
  return true;
}

/* ---- waiting for */

void communicator_awaits(const struct communicator *communicator, uint8_t *awaited) {
  const struct world *world = communicator->world;
  memset(awaited, 0, (size_t)communicator->nranks);
  if (communicator->state == COMMUNICATOR_JOINING) {
    for (int rank = 0; rank < communicator->nranks; rank++) {
      awaited[rank] = atomic_load_explicit(&world->ranks[rank].state, memory_order_acquire) != RANK_JOINED;
    }
  }
  if (communicator->split != NULL) split_awaits(communicator, awaited);
  for (const struct launch *launch = communicator->launches; launch != NULL; launch = launch->next) {
    for (const struct operation *operation = launch->operations; operation != NULL; operation = operation->next) {
      int peer = operation->peer;
      if (operation->kind == OPERATION_SEND) {
        awaited[peer] = 1;
      } else if (operation->kind == OPERATION_RECEIVE) {
        const struct pair *pair = world_pair(world, peer, communicator->rank);
        bool there = atomic_load_explicit(&pair->posted, memory_order_acquire) > operation->sequence && world_has(world, peer);
        if (!there) awaited[peer] = 1;
      } else {
        collective_awaits(communicator, operation, awaited);
      }
    }
  }
  awaited[communicator->rank] = 0;
}

/* Whether a process is there; each is looked at once in a round. */
static bool alive_this_round(int pid, uint64_t start_time, uint64_t round) {
  static struct {
    int pid;
    uint64_t start_time, round;
    bool alive;
  } known[64];
  unsigned at = (unsigned)pid % 64;
  if (known[at].pid == pid && known[at].start_time == start_time && known[at].round == round) return known[at].alive;
  known[at].pid = pid;
  known[at].start_time = start_time;
  known[at].round = round;
  return known[at].alive = process_alive(pid, start_time);
}

void communicators_check_peers(uint64_t now, uint64_t last_moved) {
  static uint64_t last;
  bool moving = now - last_moved < CHECK_PEERS_EVERY;
  if (now - last < (moving ? CHECK_PEERS_EVERY_MOVING : CHECK_PEERS_EVERY)) return;
  last = now;
  for (struct communicator *communicator = communicators; communicator != NULL; communicator = communicator->next) {
    bool joining = communicator->state == COMMUNICATOR_JOINING;
    if (communicator->fault != ncclSuccess) continue;
    communicator_awaits(communicator, communicator->awaited);
    for (int rank = 0; rank < communicator->nranks && communicator->fault == ncclSuccess; rank++) {
      const struct world_rank *row = &communicator->world->ranks[rank];
      /* While joining those are awaited of whom nothing is known yet; what can be known is whether one who came is gone again. */
      bool awaited = communicator->awaited[rank] != 0;
      /* Later all have to be there: whoever is waited for may itself wait for the dead. Only one who left in order may end. */
      if (joining ? awaited : !awaited && atomic_load(&row->left) != 0) continue;
      if (row->pid == process_self()->pid || alive_this_round(row->pid, row->start_time, now)) continue;
      communicator->lost_peer = rank;
      communicator_fail(communicator, ncclRemoteError, "rank %d of %d is gone: its process %d has ended%s", rank, communicator->nranks,
                        (int)row->pid, awaited ? ", and this rank waits for it" : " without leaving");
    }
    memset(communicator->awaited, 0, (size_t)communicator->nranks);
  }
}
