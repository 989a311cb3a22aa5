/*
 * Groups: operations that are enqueued together. Each communicator's part is a launch: it starts when all streams it is on have got to
 * it, its operations go on side by side, and the streams pass it when all of them are complete.
 */
#ifndef SEQFERRY_CPU_GROUP_H
#define SEQFERRY_CPU_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "stream.h"

struct communicator;
struct held;

enum operation_kind {
  OPERATION_SEND,
  OPERATION_RECEIVE,
  OPERATION_BROADCAST,
  OPERATION_ALL_GATHER,
  OPERATION_ALL_REDUCE,
  OPERATION_REDUCE,
  OPERATION_REDUCE_SCATTER,
};

struct operation {
  struct operation *next;
  enum operation_kind kind;
  ncclComm_t communicator;
  cudaStream_t stream_handle;
  struct stream *stream; /* of a default stream, which has no handle; else set when the group ends */
  const char *from;      /* where the library reads what this rank gives */
  uint64_t from_offset;  /* the same as a distance in its heap */
  char *to;              /* where the library writes what this rank gets */
  bool is_import;        /* `from` is another process's memory, which no third one can read */
  uintptr_t stage;       /* the device address of its copy that peers read; 0 before there is one */
  size_t from_bytes;     /* how much this rank gives */
  size_t count, bytes;   /* of one rank's part */
  int type;
  int peer; /* or root; -1 */
  int reduction; /* or -1 */

  uint64_t sequence; /* of this pair and direction, or of the communicator's collectives */
  bool posted;
  size_t done;        /* bytes copied or reduced, of the part under way */
  size_t shared;      /* bytes at the end of a message that were given to the helper */
  uint64_t last_part; /* the number of the last part that it was given of it; 0 before */
  bool is_unread;     /* set by the helper, before its part counts as copied: it could not read it */
  /* Collectives only. */
  bool finished;  /* it has read all it needs */
  int current;    /* the rank whose part is being copied, or -1 */
  uint8_t *seen;  /* by rank: its posting was found to agree, or its part was copied */
  char *scratch;  /* the result, where it would overwrite what others still read */

  struct held *held; /* by sender: what faults do to its message; NULL without */
};

struct launch {
  struct launch *next;
  struct communicator *communicator; /* NULL once it is complete or dropped */
  struct operation *operations, **tail;
  struct stream **streams;
  unsigned stream_count;
  unsigned streams_awaited; /* that have not got to it */
  unsigned references;      /* entries of queues */
  bool blocking;
  uint64_t held_until; /* by a fault; 0 before it was asked for one */
};

/* Whether the calling thread has a group open. */
bool group_is_open(void);
/* A communicator of the calling thread's open group is joining, or is being split into `child`: ncclGroupEnd will wait for both. */
void group_add_pending(ncclComm_t communicator, ncclComm_t *child);

/* The calls of ncclGroupStart and ncclGroupEnd, once it is known that there is a group to end. */
void group_start(void);
ncclResult_t group_end(void);
/* Adds an operation to the calling thread's group, which takes it over. */
void group_add(struct operation *operation);
/* One of the group's calls failed, and left its sentence: the group will be dropped with that. */
void group_fail(ncclResult_t result);

/* Checks a call's operation and adds it to the calling thread's group; outside one it is a group of its own. */
ncclResult_t operation_add(const char *call, struct operation arguments, const void *from, void *to);

/* Bytes that are neither copied nor given to the helper, of the part under way. */
static inline size_t operation_left(const struct operation *operation) { return operation->bytes - operation->done - operation->shared; }
/* Whether all bytes of the part under way are copied. */
bool operation_is_copied(const struct operation *operation);
void operation_free(struct operation *operation);
/* The operation and all after it. */
void operations_free(struct operation *operation);
void launch_free(struct launch *launch);

/* Lock held. */
enum step launch_step(struct launch *launch, bool *arrived, size_t *budget);
void launch_release(struct launch *launch);
/* Ends a launch without completing it: its communicator is gone. */
void launch_drop(struct launch *launch);

/* One look at an operation. */
enum step send_step(struct communicator *communicator, struct operation *operation);
enum step receive_step(struct communicator *communicator, struct operation *operation, size_t *budget);
enum step collective_step(struct communicator *communicator, struct operation *operation, size_t *budget);
/* Says by rank whether a collective waits for it. */
void collective_awaits(const struct communicator *communicator, const struct operation *operation, uint8_t *awaited);

/* Bytes of one element; 0 for a type that is none. */
size_t type_bytes(int type);
const char *type_name(int type);
/* Whether all-reduce knows a reduction of a type. */
bool reduction_is_known(int reduction, int type);
/* into[i] = into[i] (reduction) from[i]; both aligned. */
void reduce(int reduction, int type, void *into, const void *from, size_t count);

#endif
