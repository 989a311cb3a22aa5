/*
 * The rules of faults, read from text. Rules are separated by `;`, each is WHAT:WHEN=ACTION.
 *
 *   WHAT    ncclSend, cudaMalloc ...   calls of that function; with @RANK those of a rank
 *           group                      groups that have got to the head of all their streams; with @RANK those of a rank
 *           0>1, *>1, 0>*              messages from a rank to a rank that can be received: sends, parts of collectives
 *           memory                     device memory; with @RANK that of a rank's device
 *   WHEN    3  3+  3-5  *              which of them, counted from 1 since the rules were armed
 *           2%                         each with that chance
 *           100B                       messages: once 100 bytes were received; memory: beyond 100 bytes more than at arming
 *   ACTION  ncclSystemError, cudaErrorUnknown, 5 ...   a code: a call's answer, or the asynchronous error of a communicator
 *           delay MS                   milliseconds
 *           hang                       groups and messages: until an abort
 *           rate N                     messages: N bytes a second
 *           kill, stop                 SIGKILL or SIGSTOP to this process
 *           kill sender, stop sender   messages: to the sender's
 *
 * `seed=N` is a rule of its own: where the chances start from.
 */
#ifndef SEQFERRY_CPU_FAULT_RULES_H
#define SEQFERRY_CPU_FAULT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAULT_MOST_RULES 64
/* In place of a rank. */
#define FAULT_ANY_RANK (-1)

enum fault_target { FAULT_CALL, FAULT_GROUP, FAULT_MESSAGE, FAULT_MEMORY };
enum fault_moment { FAULT_COUNTED, FAULT_BY_CHANCE, FAULT_AFTER_BYTES };
enum fault_action {
  FAULT_CODE,
  FAULT_DELAY,
  FAULT_HANG,
  FAULT_RATE,
  FAULT_KILL,
  FAULT_STOP,
  FAULT_KILL_SENDER,
  FAULT_STOP_SENDER,
};

struct fault_rule {
  enum fault_target target;
  int call;           /* enum call */
  int rank;           /* of a call, a group, memory; or the receiver */
  int sender;         /* of messages */
  enum fault_moment moment;
  uint64_t first, last; /* FAULT_COUNTED */
  double chance;        /* FAULT_BY_CHANCE: 0 to 1 */
  uint64_t bytes;       /* FAULT_AFTER_BYTES */
  enum fault_action action;
  int code;
  uint64_t amount; /* milliseconds, or bytes a second */

  /* Since it was armed. */
  uint64_t counted;    /* how many of WHAT there were */
  uint64_t received;   /* bytes of messages */
  bool spent;          /* FAULT_AFTER_BYTES: it has acted; FAULT_RATE: it is not about the message under way */
  uint64_t busy_until; /* FAULT_RATE: when the link is free again */
  uint64_t random;     /* state of the generator */
  size_t live[64];     /* memory: bytes in use at arming, by physical device */
};

/* The armed rules, which are locked until they are released. Taken last: no other lock is taken meanwhile. */
struct fault_rule *fault_rules_take(int *count);
void fault_rules_release(void);
/* Whether a rank is the one that a rule names. */
bool fault_is_rank(int wanted, int rank);
/* Counts one more of what a rule is about; whether it holds for it. */
bool fault_holds_now(struct fault_rule *rule);
/* The signal that an action sends, or 0. */
int fault_signal(enum fault_action action);

/* Reads rules into an array of FAULT_MOST_RULES; how many there are, or -1 with a sentence. */
int fault_rules_read(const char *text, struct fault_rule *rules, char *why, size_t why_bytes);

#endif
