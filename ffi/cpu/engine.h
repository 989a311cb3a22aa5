/*
 * The engine: what makes queued work go on. One lock guards all state of the process. Whoever queries or synchronizes drives the queues a
 * bounded way; a worker thread takes over when work is pending and nobody has driven it for a while, so that work also goes on while the
 * caller computes.
 */
#ifndef SEQFERRY_CPU_ENGINE_H
#define SEQFERRY_CPU_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

struct stream;

/* Bytes that one query copies at most before it answers "not ready": some 15 microseconds, and a millisecond on fresh pages. */
#define QUERY_BUDGET ((size_t)256 << 10)
/* Bytes that a call which enqueues copies at once, and the worker in one go: some 15 microseconds. */
#define CHUNK_BUDGET ((size_t)256 << 10)

void engine_lock(void);
void engine_unlock(void);

/* Drives `first` (may be NULL), then others, as far as `budget` bytes go; whether anything moved. Lock held. */
bool engine_progress(struct stream *first, size_t budget);

/*
 * For a query that has nothing to tell yet: makes way for other processes, since with more ranks than cores the one that is waited for may
 * need this core. It yields and looks again for 50 microseconds; where nothing has moved for half a millisecond it naps, for half a
 * millisecond at most, which a peer's ring ends: a core that only yields looks busy to the system, which then leaves two ranks that have
 * work on one other core, and many who look often leave little of the core to one who works. In a process of several ranks it yields once,
 * since its thread has work for the others. Drops the lock.
 */
void engine_make_way(void);

/*
 * Drives the queues until a condition holds, dropping the lock again and again; the condition is asked with the lock held. What it looks
 * at must be found anew each time, since other threads may end it meanwhile. Lock held.
 */
void engine_wait(bool (*condition)(void *argument), void *argument);

/* Tells the worker that something is pending, and wakes those who wait. Lock held. */
void engine_pending(void);

/* Counts what the worker looks after beside the streams: communicators that are joining or splitting. Lock held. */
void engine_negotiating(int change);

#endif
