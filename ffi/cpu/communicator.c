/* A communicator's life: joining, state, faults, end. */
#include "communicator.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "device.h"
#include "engine.h"
#include "group.h"
#include "handles.h"
#include "process.h"
#include "settings.h"

/* How many aborted communicators can still be asked what they waited for. */
#define MOST_ABORTED 1024
/* Nanoseconds between two looks at whether processes are still there. */
#define CHECK_PEERS_EVERY UINT64_C(50000000)

static struct communicator *communicators;
static struct communicator *aborted, **aborted_tail = &aborted;
static unsigned aborted_count;

static struct communicator *find(ncclComm_t handle) { return handle_find(HANDLE_COMMUNICATOR, handle); }

/* ---- finding one that takes calls */

static ncclResult_t no_communicator(const char *call, const void *handle) {
  return nccl_fail(ncclInvalidArgument, "%s was given %p, which is no communicator, or one that was destroyed", call, handle);
}

struct communicator *communicator_usable(ncclComm_t handle, const char *call, ncclResult_t *result) {
  struct communicator *communicator = find(handle);
  if (communicator == NULL) {
    *result = no_communicator(call, handle);
    return NULL;
  }
  int rank = communicator->rank;
  if (communicator->state != COMMUNICATOR_ABORTED && communicator_is_faulty(communicator)) {
    *result = nccl_fail(communicator->fault, "%s", communicator->fault_text);
  } else if (communicator->state == COMMUNICATOR_JOINING) {
    *result = nccl_violation("%s on rank %d: its communicator is still being initialized", call, rank);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    *result = nccl_violation("%s on rank %d: its communicator was aborted", call, rank);
  } else if (communicator->state != COMMUNICATOR_READY) {
    *result = nccl_violation("%s on rank %d: its communicator was finalized", call, rank);
  } else if (communicator->split != NULL) {
    *result = nccl_violation("%s on rank %d: its communicator is still being split", call, rank);
  } else if (communicator->unsettled) {
    *result = nccl_violation("%s on rank %d: its last group is still being enqueued; poll ncclCommGetAsyncError until it says ncclSuccess",
                             call, rank);
  } else {
    return communicator;
  }
  return NULL;
}

bool communicator_is_unsettled(ncclComm_t handle) {
  const struct communicator *communicator = find(handle);
  return communicator != NULL && communicator->state != COMMUNICATOR_ABORTED && communicator->unsettled;
}

/* ---- joining */

static void set_negotiating(struct communicator *communicator, bool negotiating) {
  if (communicator->negotiating == negotiating) return;
  communicator->negotiating = negotiating;
  engine_negotiating(negotiating ? 1 : -1);
}

static void unlink_from(struct communicator **list, struct communicator *communicator) {
  while (*list != communicator) list = &(*list)->next;
  *list = communicator->next;
}

static void free_record(struct communicator *communicator) {
  if (communicator->handle != NULL) handle_close(HANDLE_COMMUNICATOR, communicator->handle);
  free(communicator->peers);
  free(communicator->sent);
  free(communicator->received);
  free(communicator->sent_bytes);
  free(communicator->received_bytes);
  free(communicator->awaited);
  free(communicator);
}

ncclResult_t communicator_config(const ncclConfig_t *config, bool *blocking) {
  if (config == NULL) return ncclSuccess;
  if (config->size < sizeof *config || config->size > 4096) {
    return nccl_fail(ncclInvalidArgument, "an ncclConfig_t has at least %zu bytes; its size says %zu", sizeof *config, config->size);
  }
  if (config->magic != NCCL_CONFIG_MAGIC) {
    return nccl_fail(ncclInvalidArgument, "the magic of an ncclConfig_t is 0x%x, not 0x%x", NCCL_CONFIG_MAGIC, config->magic);
  }
  if (config->blocking == NCCL_CONFIG_UNDEF_INT) return ncclSuccess;
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
    free_record(communicator);
    return result;
  }
  communicator->next = communicators;
  communicators = communicator;
  account_add(ACCOUNT_LIVE_COMMUNICATORS, 1);
  set_negotiating(communicator, true);
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

bool communicators_negotiate(void) {
  bool moved = false;
  for (struct communicator *communicator = communicators; communicator != NULL; communicator = communicator->next) {
    if (!communicator->negotiating) continue;
    if (!communicator_is_faulty(communicator)) {
      bool joining = communicator->state == COMMUNICATOR_JOINING;
      if (joining ? join_advance(communicator) : split_advance(communicator)) moved = true;
    }
    bool busy = communicator->state == COMMUNICATOR_JOINING || communicator->split != NULL;
    if (!busy || communicator->fault != ncclSuccess) set_negotiating(communicator, false);
  }
  return moved;
}

static bool settled(void *argument) {
  struct communicator *communicator = find(*(ncclComm_t *)argument);
  return communicator == NULL || !communicator->negotiating;
}

ncclResult_t communicator_settle(ncclComm_t handle) {
  engine_wait(settled, &handle);
  struct communicator *communicator = find(handle);
  if (communicator == NULL || communicator->state == COMMUNICATOR_ABORTED) {
    return nccl_fail(ncclInvalidUsage, "the communicator was aborted while it was being initialized or split");
  }
  return communicator->fault == ncclSuccess ? ncclSuccess : nccl_fail(communicator->fault, "%s", communicator->fault_text);
}

/* ---- peers and faults */

struct peer *communicator_peer(struct communicator *communicator, int rank) {
  if (communicator->peers[rank] != NULL) return communicator->peers[rank];
  const struct world_rank *row = &communicator->world->ranks[rank];
  struct peer *peer = peer_open(row->pid, row->start_time, row->control_fd, row->heap_fd);
  if (peer == NULL) {
    int saved = errno;
    bool alive = process_alive(row->pid, row->start_time);
    if (!alive) communicator->lost_peer = rank;
    communicator_fail(communicator, alive ? ncclSystemError : ncclRemoteError, "rank %d cannot reach rank %d in process %d: %s",
                      communicator->rank, rank, (int)row->pid, alive ? strerror(saved) : "it has ended");
  }
  return communicator->peers[rank] = peer;
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
  struct notice *notice = &communicator->world->ranks[communicator->rank].fault;
  if (atomic_load_explicit(&notice->state, memory_order_acquire) != NOTICE_WRITTEN) return false;
  communicator_fail(communicator, notice->code, "%s", notice->text);
  return true;
}

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

void communicators_check_peers(uint64_t now) {
  static uint64_t last;
  if (now - last < CHECK_PEERS_EVERY) return;
  last = now;
  for (struct communicator *communicator = communicators; communicator != NULL; communicator = communicator->next) {
    bool joining = communicator->state == COMMUNICATOR_JOINING;
    if (communicator->fault != ncclSuccess || (!joining && communicator->split == NULL && communicator->launches == NULL)) continue;
    communicator_awaits(communicator, communicator->awaited);
    for (int rank = 0; rank < communicator->nranks && communicator->fault == ncclSuccess; rank++) {
      const struct world_rank *row = &communicator->world->ranks[rank];
      /* While joining those are awaited of whom nothing is known yet; what can be known is whether one who came is gone again. */
      if (joining ? communicator->awaited[rank] != 0 : communicator->awaited[rank] == 0) continue;
      if (row->pid == process_self()->pid || alive_this_round(row->pid, row->start_time, now)) continue;
      communicator->lost_peer = rank;
      communicator_fail(communicator, ncclRemoteError, "rank %d of %d is gone: its process %d has ended, and rank %d waits for it", rank,
                        communicator->nranks, (int)row->pid, communicator->rank);
    }
    memset(communicator->awaited, 0, (size_t)communicator->nranks);
  }
}

/* ---- the end */

void communicator_leave(struct communicator *communicator) {
  unlink_from(&communicators, communicator);
  set_negotiating(communicator, false);
  split_drop(communicator);
  while (communicator->launches != NULL) launch_drop(communicator->launches);
  for (int rank = 0; rank < communicator->nranks; rank++) {
    if (communicator->peers[rank] != NULL) peer_close(communicator->peers[rank]);
    communicator->peers[rank] = NULL;
  }
  world_leave(communicator->world, communicator->rank);
  communicator->world = NULL;
  account_subtract(ACCOUNT_LIVE_COMMUNICATORS, 1);
  self_ring();
}

static void forget_aborted(struct communicator *communicator) {
  unlink_from(&aborted, communicator);
  aborted_tail = &aborted;
  while (*aborted_tail != NULL) aborted_tail = &(*aborted_tail)->next;
  aborted_count--;
  free_record(communicator);
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
  struct communicator *communicator = find(handle);
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
  struct communicator *communicator = find(*(ncclComm_t *)argument);
  return communicator == NULL || communicator->state == COMMUNICATOR_ABORTED || communicator->launches == NULL ||
         communicator_is_faulty(communicator);
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  ENTER(ncclCommFinalize);
  if (group_is_open()) {
    return nccl_violation("ncclCommFinalize was called between ncclGroupStart and ncclGroupEnd: the group was left open");
  }
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *communicator = communicator_usable(handle, "ncclCommFinalize", &result);
  if (communicator != NULL) {
    communicator->state = COMMUNICATOR_FINALIZING;
    if (!communicator->blocking) {
      result = ncclInProgress;
    } else {
      if (!quiet(&handle)) engine_wait(quiet, &handle);
      communicator = find(handle);
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
  struct communicator *communicator = find(handle);
  if (communicator != NULL && communicator->state != COMMUNICATOR_ABORTED && communicator->state != COMMUNICATOR_JOINING) {
    /* No further group can be issued; those that are outstanding end first. */
    if (communicator->state == COMMUNICATOR_READY) communicator->state = COMMUNICATOR_FINALIZING;
    if (!quiet(&handle)) engine_wait(quiet, &handle);
    communicator = find(handle);
  }
  if (communicator == NULL) {
    result = no_communicator("ncclCommDestroy", handle);
  } else if (communicator->state == COMMUNICATOR_ABORTED) {
    forget_aborted(communicator);
  } else {
    communicator_leave(communicator);
    free_record(communicator);
    engine_progress(NULL, CHUNK_BUDGET);
  }
  engine_unlock();
  return result;
}

/* ---- asking */

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *state) {
  ENTER(ncclCommGetAsyncError);
  if (state == NULL) return nccl_fail(ncclInvalidArgument, "ncclCommGetAsyncError was given no place for its answer");
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct communicator *communicator = find(handle);
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
  const struct communicator *communicator = find(handle);
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
  const struct communicator *communicator = find(handle);
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
  const struct communicator *communicator = find(handle);
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
  const struct communicator *communicator = find(handle);
  int lost = communicator == NULL ? -1 : communicator->lost_peer;
  engine_unlock();
  return lost;
}
