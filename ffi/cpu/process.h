/*
 * Processes on this machine that exchange device memory. Each has two descriptors that others open through /proc/PID/fd: its heap, which
 * they map read-only, and its control page, which they map writable to ring it.
 */
#ifndef SEQFERRY_CPU_PROCESS_H
#define SEQFERRY_CPU_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peer_heap.h"

/* Shared with every process that a communicator joins to this one. */
struct control {
  uint64_t start_time;         /* of the process: tells it from a later one with the same pid */
  _Atomic uint64_t heap_bytes; /* how much of the heap can be mapped; grows */
  _Atomic uint32_t doorbell;   /* a futex: counts the rings */
  _Atomic uint32_t armed;      /* 1 while threads may be waiting for a ring; the one who rings sets it to 0 */
};

/* This process. */
struct self {
  int pid;
  uint64_t start_time; /* clock ticks since the machine started, from /proc/PID/stat */
  int control_fd;
  struct control *control;
};

/* A process, this one or another, whose memory can be read. */
struct peer;

/* Starts on first use; NULL, with errno, when the operating system refuses. Lock held. */
struct self *process_self(void);

/* Whether a process is still running. */
bool process_alive(int pid, uint64_t start_time);

/* The process, shared by all who ask for the same; NULL when it cannot be reached. Lock held. */
struct peer *peer_open(int pid, uint64_t start_time, int control_fd, int heap_fd);
void peer_close(struct peer *peer);
/* Whether bytes of the peer's heap can be mapped; and where they can be read, as peer_heap_locate says it. */
bool peer_map(struct peer *peer, uint64_t offset, uint64_t bytes);
bool peer_locate(struct peer *peer, uint64_t offset, uint64_t bytes, struct heap_place *place);
/* Wakes the threads of a peer that sleep. What they are to see must have been stored before. */
void peer_ring(struct peer *peer);
/* The same for the threads of this process. */
void self_ring(void);

/*
 * Whoever is about to sleep arms the doorbell, then looks for work once more, then sleeps: the answer is the count of rings until then.
 * Only while there is a struct self.
 */
uint32_t doorbell_arm(void);
/* Sleeps until the count differs from `seen`, or some nanoseconds have passed. Lock not held. */
void doorbell_wait(uint32_t seen, uint64_t nanoseconds);

/* Starts a thread that ends with the process, and leaves signals to the others; whether it could. */
bool thread_start(void *(*run)(void *));

/* Nanoseconds of the monotonic clock. */
uint64_t now_nanoseconds(void);
/* Sleeps, without regard to rings. */
void nap(uint64_t nanoseconds);

#endif
