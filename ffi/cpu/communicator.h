/* Communicators: one rank's part in a world. All functions are called with the engine's lock held. */
#ifndef SEQFERRY_CPU_COMMUNICATOR_H
#define SEQFERRY_CPU_COMMUNICATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "errors.h"
#include "world.h"

struct device;
struct launch;
struct peer;
struct split;

enum communicator_state {
  COMMUNICATOR_JOINING,
  COMMUNICATOR_READY,
  COMMUNICATOR_FINALIZING,
  COMMUNICATOR_FINALIZED,
  COMMUNICATOR_ABORTED, /* only what is asked of an aborted one is left */
};

struct communicator {
  struct communicator *next; /* in the list of all, or of the aborted */
  ncclComm_t handle;
  enum communicator_state state;
  int rank, nranks;
  bool blocking;
  bool negotiating; /* counted as such by the engine: it joins or splits */
  bool unsettled;   /* a group was issued, and the caller has not yet been told that it is enqueued */
  struct device *device;
  struct world *world;
  struct peer **peers; /* by rank; opened when first needed */
  struct split *split; /* the split under way */
  uint64_t splits;     /* so far */
  bool revoked;        /* only splitting, shrinking and the end are left; what peers then find wrong with its operations is no matter */
  struct launch *launches, **launches_tail; /* groups enqueued and not complete */

  uint64_t *sent, *received;             /* by peer: operations enqueued so far */
  uint64_t *sent_bytes, *received_bytes; /* by peer */
  uint64_t collectives;                  /* enqueued so far */
  uint64_t finished_by_all;              /* collectives that all ranks have finished, when last looked */

  ncclResult_t fault; /* ncclSuccess, or what ended it */
  char fault_text[SENTENCE_BYTES];
  int lost_peer;       /* rank whose process is gone, or -1 */
  uint8_t *awaited;    /* by rank, at the abort */
};

/* All that are in a world. */
extern struct communicator *communicators;

/* The communicator of a handle, aborted ones included; NULL where there is none. */
struct communicator *communicator_find(ncclComm_t handle);
/* A communicator that can be split or shrunk: also one that was revoked and, where `despite_fault`, one that failed or has a group pending. */
struct communicator *communicator_divisible(ncclComm_t handle, const char *call, bool despite_fault, ncclResult_t *result);
/* The answer where there is none. */
ncclResult_t no_communicator(const char *call, const void *handle);
/* A communicator that takes calls: ready, sound and settled. NULL after setting the result. */
struct communicator *communicator_usable(ncclComm_t handle, const char *call, ncclResult_t *result);
/* Whether the caller has yet to be told that its last group is enqueued. */
bool communicator_is_unsettled(ncclComm_t handle);

/* Joins a world and answers at once; the communicator becomes ready later. */
ncclResult_t communicator_join(const struct world_place *place, int nranks, int rank, struct device *device, bool blocking,
                               struct communicator **out);
/* Waits until a communicator has joined, split, or failed; answers its fault. */
ncclResult_t communicator_settle(ncclComm_t handle);
/* Reads `blocking` from a config; answers what is wrong with it. NULL leaves `blocking` as it is. */
ncclResult_t communicator_config(const ncclConfig_t *config, bool *blocking);

/* The process of a rank; NULL where it has left and ended, and where it cannot be reached, which is then the communicator's fault. */
struct peer *communicator_peer(struct communicator *communicator, int rank);
/*
 * Copies bytes of a rank's heap, as part of a copy that has `whole` bytes in all. False where the rank has left and ended, and where they cannot be
 * read, which is then the communicator's fault.
 */
bool communicator_read(struct communicator *communicator, int rank, uint64_t offset, void *to, size_t bytes, size_t whole);
/* Looks whether a rank's memory can be mapped; where it cannot, that is the communicator's fault. */
void communicator_try(struct communicator *communicator, int rank, uint64_t offset, size_t bytes);
/* A rank's memory cannot be read: the communicator's fault. */
void communicator_cannot_read(struct communicator *communicator, int rank);
/* Rings a rank, if it can be reached. */
void communicator_ring(struct communicator *communicator, int rank);
void communicator_ring_all(struct communicator *communicator);
/* Ends what a communicator has under way, and what was wrong with that; its streams go on. */
void communicator_revoke(struct communicator *communicator);
/* Ends the use of a communicator; the first fault stays. */
void communicator_fail(struct communicator *communicator, ncclResult_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for both ends: tells the peer's communicator too. */
void communicator_fail_both(struct communicator *communicator, int peer, ncclResult_t code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Takes up what a peer has found wrong. Whether there is a fault. */
bool communicator_is_faulty(struct communicator *communicator);
/* It joins or splits, or no longer does. */
void communicator_negotiates(struct communicator *communicator, bool negotiating);
/* Frees all that a communicator has but the record that an abort leaves, and then that. */
void communicator_leave(struct communicator *communicator);
void communicator_free(struct communicator *communicator);

/* Says by rank whether something unfinished waits for it. */
void communicator_awaits(const struct communicator *communicator, uint8_t *awaited);

/* Brings joins and splits forward; whether anything moved. */
bool communicators_negotiate(void);
/* Now and then looks whether the processes waited for are still there: more seldom as long as anything moves. */
void communicators_check_peers(uint64_t now, uint64_t last_moved);
/* Whether this process is one rank: all its communicators are of one device. */
bool communicators_of_one_device(void);

/* A split under way: how far it is. */
bool split_advance(struct communicator *parent);
void split_awaits(const struct communicator *parent, uint8_t *awaited);
void split_drop(struct communicator *parent);

#endif
