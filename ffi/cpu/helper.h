/*
 * The helper: a thread that copies parts of long messages, beside whoever drives the queues. A rank that receives while the others wait for
 * it, as the root of a gather does, would else move all bytes on one core. All functions are called with the engine's lock held; the helper
 * itself never takes it.
 */
#ifndef SEQFERRY_CPU_HELPER_H
#define SEQFERRY_CPU_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct operation;
struct peer;

/*
 * Gives the helper parts from the end of what is left of a message, as many as it takes now; `offset` is where the whole message begins in
 * the sender's heap. Nothing where little is left, where this process has just one core, and while faults are armed. Answers how many of the
 * next `bytes` are still the caller's to copy.
 */
size_t helper_share(struct operation *operation, struct peer *sender, uint64_t offset, size_t bytes);
/* Whether all parts of an operation that it was given are copied. */
bool helper_has_done(const struct operation *operation);
/*
 * Waits until it has nothing under way: for two parts at most, which need a core to go on. What it reads and writes must not go, or be
 * written to, before.
 */
void helper_finish(void);

#endif
