#include "imports.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "process.h"
#include "shared_file.h"

struct import {
  struct import *next; /* by address, the highest first */
  struct export_place place;
  uintptr_t address;
  size_t start, end; /* the pages, as distances from the start of the reserved addresses */
  unsigned references;
};

static struct import *imports;

static void set_limit(void) {
  size_t limit = heap_range().reserved;
  for (const struct import *import = imports; import != NULL; import = import->next) limit = import->start;
  heap_limit(limit);
}

/* The highest free stretch of addresses, and where in the list it belongs; false where there is none beyond the heap. */
static bool find_room(size_t bytes, size_t *start, struct import ***link) {
  const struct heap_range range = heap_range();
  size_t top = range.reserved;
  for (*link = &imports; **link != NULL && top - (**link)->end < bytes; *link = &(**link)->next) top = (**link)->start;
  if (top < bytes || top - bytes < range.bytes) return false;
  *start = top - bytes;
  return true;
}

/* The import whose pages an address is in. */
static struct import *find(uintptr_t address) {
  uintptr_t distance = address - heap_range().base;
  for (struct import *import = imports; import != NULL; import = import->next) {
    if (distance >= import->start && distance < import->end) return import;
  }
  return NULL;
}

static bool is_same(const struct export_place *a, const struct export_place *b) {
  return a->pid == b->pid && a->start_time == b->start_time && a->offset == b->offset && a->bytes == b->bytes;
}

/* Maps pages of the file of a process at a distance from the start of the reserved addresses. */
static enum import_result map(const struct export_place *place, uint64_t first, size_t bytes, size_t start) {
  if (!process_alive(place->pid, place->start_time)) return NO_SUCH_PROCESS;
  int fd = open_descriptor_of(place->pid, place->heap_fd, true);
  if (fd < 0) return NO_SUCH_PROCESS;
  struct stat file;
  void *mapped = MAP_FAILED;
  if (fstat(fd, &file) == 0 && (uint64_t)file.st_size >= place->offset + place->bytes) {
    mapped = mmap(heap_range().alias + start, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)first);
  }
  close(fd);
  return mapped == MAP_FAILED ? NO_SUCH_MEMORY : IMPORTED;
}

enum import_result import_open(const struct export_place *place, uintptr_t *address) {
  for (struct import *import = imports; import != NULL; import = import->next) {
    if (!is_same(&import->place, place)) continue;
    import->references++;
    *address = import->address;
    return IMPORTED;
  }
  if (heap_descriptor() < 0) return NO_ADDRESSES;
  uint64_t first = place->offset / HUGE_PAGE * HUGE_PAGE;
  size_t bytes = (place->offset + place->bytes - first + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  struct import *import = calloc(1, sizeof *import);
  size_t start;
  struct import **link;
  if (import == NULL || !find_room(bytes, &start, &link)) {
    free(import);
    return NO_ADDRESSES;
  }
  enum import_result result = map(place, first, bytes, start);
  if (result != IMPORTED) {
    free(import);
    return result;
  }
  *import = (struct import){.next = *link,
                            .place = *place,
                            .address = heap_range().base + start + (uintptr_t)(place->offset - first),
                            .start = start,
                            .end = start + bytes,
                            .references = 1};
  *link = import;
  set_limit();
  *address = import->address;
  return IMPORTED;
}

bool import_close(uintptr_t address) {
  struct import *import = find(address);
  if (import == NULL || import->address != address) return false;
  if (--import->references > 0) return true;
  /* The addresses stay reserved. */
  mmap(heap_range().alias + import->start, import->end - import->start, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  struct import **link = &imports;
  while (*link != import) link = &(*link)->next;
  *link = import->next;
  free(import);
  set_limit();
  return true;
}

bool import_owns(const void *address) { return find((uintptr_t)address) != NULL; }

bool import_check(const void *address, size_t bytes, char *why, size_t why_bytes) {
  const struct import *import = find((uintptr_t)address);
  if (import == NULL) {
    snprintf(why, why_bytes, "%p is not in device memory that is open here (it was closed, or never opened)", address);
    return false;
  }
  size_t offset = (uintptr_t)address - import->address;
  if (offset <= import->place.bytes && bytes <= import->place.bytes - offset) return true;
  snprintf(why, why_bytes, "%zu bytes at %p go beyond the %llu bytes at %p that process %d exported", bytes, address,
           (unsigned long long)import->place.bytes, (void *)import->address, import->place.pid);
  return false;
}
