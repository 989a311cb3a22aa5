#include "shared_event.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process.h"
#include "shared_file.h"

#define EVENT_MAGIC UINT64_C(0x5346495043455654)
#define MOST_EVENTS 4096
#define TABLE_BYTES (MOST_EVENTS * sizeof(struct shared_event))

static struct {
  int fd;
  struct shared_event *events;
  int next; /* where the search for a free place begins */
} table = {.fd = -1};

static bool open_table(void) {
  if (table.fd >= 0) return true;
  if (process_self() == NULL) return false;
  int fd = shared_file("seqferry-events");
  if (fd < 0) return false;
  void *mapped = MAP_FAILED;
  if (ftruncate(fd, TABLE_BYTES) == 0) mapped = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) {
    close(fd);
    return false;
  }
  table.events = mapped;
  table.fd = fd;
  return true;
}

bool event_counts_new(struct event_counts *counts, int device) {
  if (!open_table()) return false;
  for (int tries = 0; tries < MOST_EVENTS; tries++) {
    int index = (table.next + tries) % MOST_EVENTS;
    struct shared_event *event = &table.events[index];
    if (atomic_load(&event->nonce) != 0) continue;
    uint64_t nonce = 0;
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce || nonce == 0) return false;
    atomic_store(&event->recorded, 0);
    atomic_store(&event->completed, 0);
    atomic_store(&event->nonce, nonce);
    table.next = index + 1;
    const struct self *self = process_self();
    *counts = (struct event_counts){.shared = event,
                                    .place = {.magic = EVENT_MAGIC,
                                              .start_time = self->start_time,
                                              .nonce = nonce,
                                              .pid = self->pid,
                                              .fd = table.fd,
                                              .index = index,
                                              .device = device}};
    return true;
  }
  return false;
}

bool event_counts_open(struct event_counts *counts, const struct event_place *place) {
  if (place->magic != EVENT_MAGIC || place->index < 0 || place->index >= MOST_EVENTS) return false;
  if (!process_alive(place->pid, place->start_time)) return false;
  int fd = open_descriptor_of(place->pid, place->fd, true);
  if (fd < 0) return false;
  struct stat file;
  void *mapped = MAP_FAILED;
  if (fstat(fd, &file) == 0 && file.st_size == TABLE_BYTES) {
    mapped = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  close(fd);
  if (mapped == MAP_FAILED) return false;
  struct shared_event *event = (struct shared_event *)mapped + place->index;
  if (atomic_load(&event->nonce) != place->nonce) {
    munmap(mapped, TABLE_BYTES);
    return false;
  }
  *counts = (struct event_counts){.shared = event, .place = *place, .mapping = mapped};
  return true;
}

void event_counts_close(struct event_counts *counts) {
  if (counts->mapping != NULL) {
    munmap(counts->mapping, TABLE_BYTES);
  } else if (counts->shared != NULL) {
    atomic_store(&counts->shared->nonce, 0);
  }
  counts->shared = NULL;
}

uint64_t event_counts_completed(const struct event_counts *counts) {
  uint64_t completed = atomic_load(&counts->shared->completed);
  return atomic_load(&counts->shared->nonce) == counts->place.nonce ? completed : UINT64_MAX;
}

void event_counts_complete(const struct event_counts *counts, uint64_t count) {
  if (atomic_load(&counts->shared->nonce) != counts->place.nonce) return;
  uint64_t before = atomic_load(&counts->shared->completed);
  while (before < count && !atomic_compare_exchange_weak(&counts->shared->completed, &before, count)) {
  }
}
