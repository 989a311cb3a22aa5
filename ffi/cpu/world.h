/*
 * A world: what the ranks of one communicator share. It is a shared-memory file without a name, made by the process that made the unique
 * id and opened by the others through that process's descriptor, so nothing is left behind when processes die. It holds a table of ranks,
 * for each rank a board on which it posts its part of collectives, and for each ordered pair of ranks a ring of descriptors of sends.
 * The pages of rings that nobody uses take no memory.
 *
 * Every field has one writer, unless it says otherwise. Counters only grow. All functions are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_WORLD_H
#define SEQFERRY_CPU_WORLD_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "errors.h"

#define WORLD_MOST_RANKS 4096
/* Sends of a pair that can be posted and not yet received; collectives of a rank that can be posted and not yet finished by all. */
#define WORLD_RING_SLOTS 32
#define WORLD_BOARD_SLOTS 32
/* A part of an all-gather up to this size stands on the board itself. */
#define WORLD_BOARD_BYTES 1024

/* Where a world is found; what a unique id says. */
struct world_place {
  uint64_t magic;
  uint64_t nonce; /* random: tells the world from any other that a descriptor may have become */
  uint64_t start_time;
  int32_t pid;
  int32_t fd;
};

/* A sentence that one party writes once and others read. */
struct notice {
  _Atomic uint32_t state; /* NOTICE_... */
  int32_t code;           /* an ncclResult_t */
  char text[SENTENCE_BYTES];
};
enum { NOTICE_NONE, NOTICE_BEING_WRITTEN, NOTICE_WRITTEN };

struct world_header {
  uint64_t magic, nonce;
  _Atomic uint64_t first; /* ranks | rank << 32, as the first to join said; 0 before. Written by whoever is first */
  _Atomic uint32_t joined, left; /* how many ranks did; written by all */
  struct notice refusal; /* why the ranks cannot come together; written by whoever finds out */
};

/* One rank's part of one collective. */
struct posting {
  uint64_t sequence;
  uint64_t count;  /* elements */
  uint64_t offset; /* of its data in the rank's heap */
  int32_t kind, type, reduction, root;
  alignas(16) char bytes[WORLD_BOARD_BYTES]; /* its data, where that is short */
};

struct world_rank {
  _Atomic uint32_t state; /* RANK_... */
  int32_t pid;
  uint64_t start_time;
  int32_t control_fd, heap_fd;
  int32_t device;
  _Atomic uint32_t left; /* 1 once it is destroyed or aborted: its memory is not to be read any more */
  struct notice fault;   /* what is wrong with its operations; written by whichever rank finds out */

  /* Splits of the communicator, counted from 0. */
  _Atomic uint64_t split_posted, split_published, split_finished;
  int32_t split_color, split_key;
  struct world_place split_place; /* of the new world, where this rank leads it */

  /* Collectives, counted from 0. */
  alignas(64) _Atomic uint64_t posted;
  _Atomic uint64_t finished; /* how many it has read all it needs of */
  struct posting postings[WORLD_BOARD_SLOTS];
};
enum { RANK_FREE, RANK_TAKEN, RANK_JOINED };

/* A send that its receiver may copy. */
struct descriptor {
  uint64_t offset; /* in the sender's heap */
  uint64_t bytes;
  uint64_t count; /* elements */
  int32_t type;
};

/* Sends from one rank to another. The sender writes `posted` and the slots, the receiver `consumed`. */
struct pair {
  alignas(64) _Atomic uint64_t posted;
  alignas(64) _Atomic uint64_t consumed;
  struct descriptor slots[WORLD_RING_SLOTS];
};

struct world {
  struct world *next;
  int references; /* communicators of this process */
  int nranks;
  size_t bytes;
  struct world_header *header;
  struct world_rank *ranks;
  struct pair *pairs; /* by source, then destination */
};

/* Makes the file of a new world; this process keeps it open until all ranks have joined. */
ncclResult_t world_create(struct world_place *place);
/*
 * Joins a world as a rank. Answers what is wrong, with a sentence, where sizes differ or the rank is taken; then the other ranks that
 * have joined are told too.
 */
ncclResult_t world_join(const struct world_place *place, int nranks, int rank, int device, struct world **world);
/* Leaves a world: from here on no peer takes what it reads of this rank for good. */
void world_leave(struct world *world, int rank);
/* Closes descriptors of worlds that this process made and that are complete or given up. */
void worlds_sweep(void);

static inline struct pair *world_pair(const struct world *world, int from, int to) {
  return &world->pairs[(size_t)from * (size_t)world->nranks + (size_t)to];
}

/*
 * Whether a rank's memory may be read: not after it left, for then it may hold something else. Asked after reading, it tells whether what
 * was read is what the rank gave.
 */
static inline bool world_has(const struct world *world, int rank) {
#if !defined(__SANITIZE_THREAD__)
  /* What was read before must have been read before this is asked. ThreadSanitizer knows no fences. */
  atomic_thread_fence(memory_order_acquire);
#endif
  return atomic_load_explicit(&world->ranks[rank].left, memory_order_acquire) == 0;
}

/* Writes a notice, unless there is one already. */
void notice_write(struct notice *notice, ncclResult_t code, const char *text);

#endif
