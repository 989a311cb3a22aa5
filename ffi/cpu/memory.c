#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accounts.h"
#include "device.h"
#include "helper.h"
#include "imports.h"
#include "process.h"
#include "settings.h"
#include "shared_file.h"

#define ALIGNMENT ((size_t)512)
/* The heap grows by at least this much: each growth costs two system calls, and a remapping in every peer. */
#define GROWTH ((size_t)64 << 20)
/* A freed byte; 0xDBDB... is no plausible number of any dtype. */
#define POISON 0xDB
/* Freed blocks up to this size are poisoned whole, larger ones at both ends, unless strict. */
#define POISON_WHOLE ((size_t)1 << 20)
#define POISON_END ((size_t)64 << 10)

static struct {
  int fd;
  uintptr_t base;  /* of the reserved range of addresses, the ones callers get; nothing is ever mapped there */
  char *alias;     /* of a second range of the same size, where the library itself reads and writes */
  size_t reserved; /* bytes of each range */
  size_t limit;    /* how far the file may grow; what is imported lies beyond */
  size_t bytes;    /* of the file, mapped at the start of the second range */
  struct block **by_address; /* all blocks, one behind the other */
  size_t blocks, block_capacity;
  struct block **by_size; /* the free ones, by size, then address */
  size_t free_blocks, free_capacity;
  size_t live[64]; /* bytes, by physical device */
} heap = {.fd = -1};

/* ---- the two sorted arrays */

static bool make_room(struct block ***array, size_t *capacity, size_t needed) {
  if (needed <= *capacity) return true;
  size_t larger = *capacity == 0 ? 64 : *capacity * 2;
  struct block **moved = realloc(*array, larger * sizeof *moved);
  if (moved == NULL) return false;
  *array = moved;
  *capacity = larger;
  return true;
}

/* Index of the first block that begins beyond an address. */
static size_t after_address(uintptr_t address) {
  size_t low = 0, high = heap.blocks;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (heap.by_address[middle]->address <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static void insert_by_address(struct block *block) {
  size_t at = after_address(block->address);
  memmove(&heap.by_address[at + 1], &heap.by_address[at], (heap.blocks - at) * sizeof block);
  heap.by_address[at] = block;
  heap.blocks++;
}

static void remove_by_address(size_t at) {
  heap.blocks--;
  memmove(&heap.by_address[at], &heap.by_address[at + 1], (heap.blocks - at) * sizeof heap.by_address[0]);
}

/* Index of the first free block that is not smaller than (bytes, address). */
static size_t free_at_least(size_t bytes, uintptr_t address) {
  size_t low = 0, high = heap.free_blocks;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const struct block *block = heap.by_size[middle];
    if (block->bytes < bytes || (block->bytes == bytes && block->address < address)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static void insert_free(struct block *block) {
  size_t at = free_at_least(block->bytes, block->address);
  memmove(&heap.by_size[at + 1], &heap.by_size[at], (heap.free_blocks - at) * sizeof block);
  heap.by_size[at] = block;
  heap.free_blocks++;
}

static void remove_free(struct block *block) {
  size_t at = free_at_least(block->bytes, block->address);
  heap.free_blocks--;
  memmove(&heap.by_size[at], &heap.by_size[at + 1], (heap.free_blocks - at) * sizeof block);
}

/* ---- the file behind the heap */

int heap_descriptor(void) {
  if (heap.fd >= 0) return heap.fd;
  if (process_self() == NULL) return -1;
  int fd = shared_file_of_huge_pages("seqferry-heap");
  if (fd < 0) return -1;
  const struct settings *settings = settings_get();
  /*
   * Twice what can be live, since free stretches lie between; only addresses, no memory. Callers' addresses are in a range of their own, so
   * that a program that reads or writes device memory from the host dies at once instead of working here and failing on a GPU.
   */
  size_t wanted = 2 * settings->memory * (size_t)settings->devices;
  if (wanted < GROWTH * 4) wanted = GROWTH * 4;
  if (wanted > (size_t)1 << 40) wanted = (size_t)1 << 40;
  wanted = (wanted + 2 * HUGE_PAGE - 1) / (2 * HUGE_PAGE) * (2 * HUGE_PAGE);
  void *range;
  while ((range = reserve_addresses(2 * wanted)) == NULL) {
    if (wanted < GROWTH * 2) {
      close(fd);
      return -1;
    }
    wanted = wanted / (4 * HUGE_PAGE) * (2 * HUGE_PAGE);
  }
  heap.base = (uintptr_t)range;
  heap.alias = (char *)range + wanted;
  heap.reserved = heap.limit = wanted;
  return heap.fd = fd;
}

/* Adds a free stretch of at least `bytes` to the end of the heap. */
static bool grow(size_t bytes) {
  size_t more = (bytes + GROWTH - 1) / GROWTH * GROWTH;
  if (more > heap.limit - heap.bytes) more = (bytes + ALIGNMENT * 8 - 1) / (ALIGNMENT * 8) * (ALIGNMENT * 8);
  if (more > heap.limit - heap.bytes) return false;
  if (!make_room(&heap.by_address, &heap.block_capacity, heap.blocks + 1)) return false;
  struct block *last = heap.blocks == 0 ? NULL : heap.by_address[heap.blocks - 1];
  struct block *block = last != NULL && !last->live ? NULL : calloc(1, sizeof *block);
  if (block == NULL && (last == NULL || last->live)) return false;
  if (!make_room(&heap.by_size, &heap.free_capacity, heap.free_blocks + 1) || ftruncate(heap.fd, (off_t)(heap.bytes + more)) != 0) {
    free(block);
    return false;
  }
  void *mapped = mmap(heap.alias + heap.bytes, more, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, heap.fd, (off_t)heap.bytes);
  if (mapped == MAP_FAILED) {
    free(block);
    return false;
  }
  if (block == NULL) {
    remove_free(last);
    last->bytes += more;
    insert_free(last);
  } else {
    block->address = heap.base + heap.bytes;
    block->bytes = more;
    insert_by_address(block);
    insert_free(block);
  }
  heap.bytes += more;
  atomic_store_explicit(&process_self()->control->heap_bytes, heap.bytes, memory_order_release);
  return true;
}

/* ---- allocating and freeing */

enum allocation heap_allocate(size_t bytes, int device, uintptr_t *address) {
  const struct settings *settings = settings_get();
  int physical = device_physical(device);
  size_t asked = bytes;
  if (bytes > settings->memory) return NO_DEVICE_MEMORY;
  bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (bytes > settings->memory || heap.live[physical] > settings->memory - bytes) return NO_DEVICE_MEMORY;
  if (heap_descriptor() < 0) return NO_HOST_MEMORY;
  size_t at = free_at_least(bytes, 0);
  if (at == heap.free_blocks) {
    /* A free stretch at the end is extended, so only what it lacks is needed. */
    struct block *last = heap.blocks == 0 ? NULL : heap.by_address[heap.blocks - 1];
    if (!grow(last != NULL && !last->live ? bytes - last->bytes : bytes)) return NO_HOST_MEMORY;
    at = free_at_least(bytes, 0);
  }
  struct block *block = heap.by_size[at];
  if (block->bytes > bytes) {
    struct block *rest = malloc(sizeof *rest);
    if (rest == NULL || !make_room(&heap.by_address, &heap.block_capacity, heap.blocks + 1)) {
      free(rest);
      return NO_HOST_MEMORY;
    }
    *rest = (struct block){.address = block->address + bytes, .bytes = block->bytes - bytes};
    remove_free(block);
    block->bytes = bytes;
    insert_by_address(rest);
    insert_free(rest);
  } else {
    remove_free(block);
  }
  block->asked = asked;
  block->device = device;
  block->live = true;
  block->freeing = false;
  heap.live[physical] += bytes;
  account_add(ACCOUNT_LIVE_ALLOCATIONS, 1);
  account_add(ACCOUNT_LIVE_BYTES, bytes);
  uint64_t live = account_of(ACCOUNT_LIVE_BYTES);
  if (live > account_of(ACCOUNT_PEAK_BYTES)) atomic_store(&accounts[ACCOUNT_PEAK_BYTES], live);
  *address = block->address;
  return ALLOCATED;
}

static void poison(const struct block *block) {
  char *bytes = heap_pointer((void *)block->address);
  if (block->bytes <= POISON_WHOLE || settings_get()->strict) {
    memset(bytes, POISON, block->bytes);
  } else {
    memset(bytes, POISON, POISON_END);
    memset(bytes + block->bytes - POISON_END, POISON, POISON_END);
  }
}

void heap_free(struct block *block) {
  /* It may read there for a rank of this process, of which a revoked sender knows nothing. */
  helper_finish();
  poison(block);
  heap.live[device_physical(block->device)] -= block->bytes;
  account_subtract(ACCOUNT_LIVE_ALLOCATIONS, 1);
  account_subtract(ACCOUNT_LIVE_BYTES, block->bytes);
  block->live = false;
  size_t at = after_address(block->address) - 1;
  if (at + 1 < heap.blocks && !heap.by_address[at + 1]->live) {
    struct block *next = heap.by_address[at + 1];
    remove_free(next);
    block->bytes += next->bytes;
    remove_by_address(at + 1);
    free(next);
  }
  if (at > 0 && !heap.by_address[at - 1]->live) {
    struct block *previous = heap.by_address[at - 1];
    remove_free(previous);
    previous->bytes += block->bytes;
    remove_by_address(at);
    free(block);
    block = previous;
  }
  /* There is room: every free block was in the array when it was made, and merging makes fewer. */
  if (make_room(&heap.by_size, &heap.free_capacity, heap.free_blocks + 1)) insert_free(block);
}

/* ---- asking about addresses */

static struct block *containing(uintptr_t address) {
  size_t at = after_address(address);
  if (at == 0) return NULL;
  struct block *block = heap.by_address[at - 1];
  return address - block->address < block->bytes ? block : NULL;
}

struct block *heap_block(uintptr_t address) {
  struct block *block = containing(address);
  return block != NULL && block->live && block->address == address ? block : NULL;
}

bool heap_owns(const void *address) { return heap.fd >= 0 && (uintptr_t)address - heap.base < heap.reserved; }

bool heap_check(const void *address, size_t bytes, char *why, size_t why_bytes) {
  uintptr_t at = (uintptr_t)address;
  if (!heap_owns(address)) {
    snprintf(why, why_bytes, "%p is no device address", address);
    return false;
  }
  if (at - heap.base >= heap.limit) return import_check(address, bytes, why, why_bytes);
  const struct block *block = containing(at);
  if (block == NULL || !block->live) {
    snprintf(why, why_bytes, "%p is not in a live device allocation (it was freed, or never allocated)", address);
    return false;
  }
  size_t offset = at - block->address;
  if (offset > block->asked || bytes > block->asked - offset) {
    snprintf(why, why_bytes, "%zu bytes at %p go beyond the allocation of %zu bytes at %p", bytes, address, block->asked,
             (void *)block->address);
    return false;
  }
  return true;
}

struct heap_range heap_range(void) {
  return (struct heap_range){.base = heap.base, .alias = heap.alias, .bytes = heap.bytes, .reserved = heap.reserved};
}

void heap_limit(size_t limit) { heap.limit = limit; }

void *heap_pointer(const void *address) { return heap.alias + heap_offset(address); }

uint64_t heap_offset(const void *address) { return (uintptr_t)address - heap.base; }

void *heap_bytes(uint64_t offset) { return heap.alias + offset; }

size_t heap_live_bytes(int physical) { return heap.live[physical]; }
