/*
 * Another process's heap, as this process reads it. The system counts shared pages as memory of every process that has them in its page
 * tables, so only so many of all peers' pages get there. What lies in others is read from the file, which takes a third longer with huge pages.
 * All functions but heap_place_copy are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_PEER_HEAP_H
#define SEQFERRY_CPU_PEER_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_heap {
  int fd;         /* ours, opened from the peer's */
  char *mapping;  /* reserved addresses; the first `mapped` bytes are the heap */
  size_t mapped, reserved;
  bool *is_read;  /* by huge page of the reserved addresses: it may be in this process's page tables */
  size_t pages_read;
};

/* Bytes of a heap. */
struct heap_place {
  const char *address; /* where they can be read; NULL where they are to be read from the file */
  int fd;
  uint64_t offset;
};

/* Opens the heap that a process has as its descriptor `fd`; false, with errno, when that cannot be. */
bool peer_heap_open(struct peer_heap *heap, int pid, int fd);
void peer_heap_close(struct peer_heap *heap);
/* Maps it as far as some bytes of it, without a page of theirs; as peer_heap_locate, which does so too. */
bool peer_heap_map(struct peer_heap *heap, uint64_t offset, uint64_t bytes, uint64_t size);
/*
 * Where bytes of it can be read; `size` is how much of it there is. False where they are not there or cannot be mapped. Valid until the next
 * call for this heap, or the lock is dropped; for the helper until it has finished.
 */
bool peer_heap_locate(struct peer_heap *heap, uint64_t offset, uint64_t bytes, uint64_t size, struct heap_place *place);
/* Copies from there, as part of a copy that has `whole` bytes in all; false where the file cannot be read. */
bool heap_place_copy(void *to, const struct heap_place *place, size_t bytes, size_t whole);

#endif
