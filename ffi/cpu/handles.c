#include "handles.h"

#include <stdint.h>
#include <stdlib.h>

/* A handle's bits: 24 of index, 24 of generation, then the kind. No such value is an address of the host. */
#define INDEX_BITS 24
#define GENERATION_BITS 24
#define MASK(bits) (((uint64_t)1 << (bits)) - 1)

struct slot {
  void *object;
  uint32_t generation;
  uint32_t next_free;
};

static struct table {
  struct slot *slots;
  uint32_t count;
  uint32_t capacity;
  uint32_t first_free; /* index + 1; 0 when none is free */
} tables[HANDLE_KINDS];

void *handle_open(enum handle_kind kind, void *object) {
  struct table *table = &tables[kind];
  uint32_t index;
  if (table->first_free != 0) {
    index = table->first_free - 1;
    table->first_free = table->slots[index].next_free;
  } else {
    if (table->count == table->capacity) {
      uint32_t capacity = table->capacity == 0 ? 64 : table->capacity * 2;
      struct slot *slots = realloc(table->slots, capacity * sizeof *slots);
      if (slots == NULL || capacity > MASK(INDEX_BITS)) return NULL;
      table->slots = slots;
      table->capacity = capacity;
    }
    index = table->count++;
    table->slots[index].generation = 0;
  }
  struct slot *slot = &table->slots[index];
  slot->generation = (uint32_t)((slot->generation + 1) & MASK(GENERATION_BITS));
  slot->object = object;
  uint64_t value = (uint64_t)kind << (INDEX_BITS + GENERATION_BITS) | (uint64_t)slot->generation << INDEX_BITS | index;
  return (void *)(uintptr_t)value;
}

static struct slot *find(enum handle_kind kind, const void *handle) {
  uint64_t value = (uintptr_t)handle;
  struct table *table = &tables[kind];
  if (value >> (INDEX_BITS + GENERATION_BITS) != (uint64_t)kind) return NULL;
  uint64_t index = value & MASK(INDEX_BITS);
  if (index >= table->count) return NULL;
  struct slot *slot = &table->slots[index];
  return slot->object != NULL && slot->generation == (value >> INDEX_BITS & MASK(GENERATION_BITS)) ? slot : NULL;
}

void *handle_find(enum handle_kind kind, const void *handle) {
  struct slot *slot = find(kind, handle);
  return slot == NULL ? NULL : slot->object;
}

void handle_close(enum handle_kind kind, const void *handle) {
  struct slot *slot = find(kind, handle);
  if (slot == NULL) return;
  slot->object = NULL;
  slot->next_free = tables[kind].first_free;
  tables[kind].first_free = (uint32_t)(slot - tables[kind].slots) + 1;
}
