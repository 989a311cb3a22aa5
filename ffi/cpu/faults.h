/*
 * Faults on demand: what armed rules do to calls, groups, messages and memory. Their text is told in fault_rules.h. Without rules each
 * place costs one look at a variable that never changes.
 */
#ifndef SEQFERRY_CPU_FAULTS_H
#define SEQFERRY_CPU_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct communicator;
struct launch;
struct operation;

enum { FAULTS_NONE, FAULTS_NOT_READ, FAULTS_ARMED };
extern _Atomic int faults_state;

static inline bool faults_armed(void) {
  return __builtin_expect(atomic_load_explicit(&faults_state, memory_order_relaxed) != FAULTS_NONE, 0);
}

/* What a call (enum call) is to answer; 0 where it is to go on. Reads the environment's rules at the first call. Lock not held. */
int fault_of_call(int call);
/* A device (an ordinal) has joined a communicator as a rank: calls of threads that have it current are that rank's. */
void fault_joined(int device, int rank);
/* The code that an allocation is to answer, or 0. Lock held. */
int fault_of_memory(int device, size_t bytes);

/* What is done with the messages of an operation, by sender; made when first asked. */
struct held {
  uint64_t until; /* 0 before anything was decided, UINT64_MAX for ever */
  int signal;     /* still to be sent in the middle of the message, or 0 */
  bool to_sender; /* to whom */
};

/* Whether a group whose streams have all got to it is kept from starting. Lock held. */
bool fault_holds_group(struct launch *launch);
/*
 * Whether a message from a rank to this one is kept back; else how many of `bytes` may be copied now, which the caller does then.
 * operation->done says how much of the message was copied, beside what the helper was given before. Lock held.
 */
bool fault_holds_message(struct communicator *communicator, struct operation *operation, int sender, size_t *bytes);
/* The same for what all other ranks give to a reduction, which is read all at once. */
bool fault_holds_parts(struct communicator *communicator, struct operation *operation);

#endif
