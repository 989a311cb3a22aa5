#include "peer_heap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "copy_bytes.h"
#include "helper.h"
#include "shared_file.h"

/* Addresses kept for a peer's heap to grow into. */
#define RESERVED_AT_LEAST ((size_t)1 << 30)
/* Peers' pages that may be in this process's page tables: with them, a transfer takes no more than 64 MB beside what it moves and packs. */
#define MOST_PAGES_READ (((size_t)80 << 20) / HUGE_PAGE)

/* Of all peers. */
static size_t pages_read;

bool peer_heap_open(struct peer_heap *heap, int pid, int fd) {
  *heap = (struct peer_heap){.fd = open_descriptor_of(pid, fd, false)};
  return heap->fd >= 0;
}

static void unmap(struct peer_heap *heap) {
  if (heap->mapping == NULL) return;
  munmap(heap->mapping, heap->reserved);
  free(heap->is_read);
  pages_read -= heap->pages_read;
  *heap = (struct peer_heap){.fd = heap->fd};
}

void peer_heap_close(struct peer_heap *heap) {
  /* It may be reading there. */
  helper_finish();
  unmap(heap);
  close(heap->fd);
}

static bool reserve(struct peer_heap *heap, uint64_t size) {
  size_t reserved = RESERVED_AT_LEAST;
  while (reserved < 2 * size) reserved *= 2;
  bool *is_read = calloc(reserved / HUGE_PAGE, sizeof *is_read);
  char *range = is_read == NULL ? NULL : reserve_addresses(reserved);
  if (range == NULL) {
    free(is_read);
    return false;
  }
  helper_finish();
  unmap(heap);
  *heap = (struct peer_heap){.fd = heap->fd, .mapping = range, .reserved = reserved, .is_read = is_read};
  return true;
}

/* Maps what a heap has grown by. What is mapped stays as it is, with its pages, unless the reserved addresses run out. */
static bool map_up_to(struct peer_heap *heap, uint64_t size) {
  if (size > heap->reserved && !reserve(heap, size)) return false;
  void *more = mmap(heap->mapping + heap->mapped, size - heap->mapped, PROT_READ, MAP_SHARED | MAP_FIXED, heap->fd, (off_t)heap->mapped);
  if (more == MAP_FAILED) return false;
  heap->mapped = size;
  return true;
}

/* Whether all pages that some bytes lie in are, or can now be, among those that this process reads at their addresses. */
static bool may_touch(struct peer_heap *heap, uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return true;
  size_t first = offset / HUGE_PAGE, last = (offset + bytes - 1) / HUGE_PAGE, lacking = 0;
  for (size_t page = first; page <= last; page++) lacking += !heap->is_read[page];
  if (lacking > MOST_PAGES_READ - pages_read) return false;
  for (size_t page = first; page <= last; page++) heap->is_read[page] = true;
  heap->pages_read += lacking;
  pages_read += lacking;
  return true;
}

bool peer_heap_map(struct peer_heap *heap, uint64_t offset, uint64_t bytes, uint64_t size) {
  return offset + bytes <= heap->mapped || (offset + bytes <= size && map_up_to(heap, size));
}

bool peer_heap_locate(struct peer_heap *heap, uint64_t offset, uint64_t bytes, uint64_t size, struct heap_place *place) {
  if (!peer_heap_map(heap, offset, bytes, size)) return false;
  *place = (struct heap_place){.address = may_touch(heap, offset, bytes) ? heap->mapping + offset : NULL, .fd = heap->fd, .offset = offset};
  return true;
}

bool heap_place_copy(void *to, const struct heap_place *place, size_t bytes, size_t whole) {
  if (place->address != NULL) {
    copy_bytes(to, place->address, bytes, whole);
    return true;
  }
  for (size_t done = 0; done < bytes;) {
    ssize_t more = pread(place->fd, (char *)to + done, bytes - done, (off_t)(place->offset + done));
    if (more > 0) {
      done += (size_t)more;
    } else if (more == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}
