/*
 * Interprocess events: their counts are in a table that other processes map. All functions are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_SHARED_EVENT_H
#define SEQFERRY_CPU_SHARED_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One event's counts, written by every process that records it. */
struct shared_event {
  _Atomic uint64_t nonce; /* tells the event from a later one in its place; 0 once it is destroyed */
  _Atomic uint64_t recorded, completed;
  uint64_t unused;
};

/* Where an event is found; what a cudaIpcEventHandle_t says. */
struct event_place {
  uint64_t magic;
  uint64_t start_time;
  uint64_t nonce;
  int32_t pid;
  int32_t fd;
  int32_t index;
  int32_t device; /* physical */
};

/* An event of this process or another, as this one sees it. */
struct event_counts {
  struct shared_event *shared;
  struct event_place place;
  void *mapping; /* of another process's table; NULL for one of this process */
};

/* A new event; false where there is no room. */
bool event_counts_new(struct event_counts *counts, int device);
/* Another process's; false where it is gone. */
bool event_counts_open(struct event_counts *counts, const struct event_place *place);
void event_counts_close(struct event_counts *counts);
/* An event that its process destroyed counts as completed. */
uint64_t event_counts_completed(const struct event_counts *counts);
void event_counts_complete(const struct event_counts *counts, uint64_t count);

#endif
