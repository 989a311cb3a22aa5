/*
 * Device memory: one heap per process in a shared-memory file that peers map read-only, for all of the process's devices together.
 * All functions are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_MEMORY_H
#define SEQFERRY_CPU_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One device allocation, or one free stretch between them. */
struct block {
  uintptr_t address; /* as callers see it */
  size_t bytes;      /* rounded up to 512 */
  size_t asked;      /* as asked for; copies beyond it are refused */
  int device;        /* ordinal of the device instance; memory is counted for its physical device */
  bool live;
  bool freeing; /* a stream will free it */
};

enum allocation { ALLOCATED, NO_DEVICE_MEMORY, NO_HOST_MEMORY };

/* The heap's descriptor, made on first use; -1 with errno. */
int heap_descriptor(void);
/* Allocates; at least one byte. */
enum allocation heap_allocate(size_t bytes, int device, uintptr_t *address);
/* The live block that begins at an address, or NULL. */
struct block *heap_block(uintptr_t address);
/* Poisons a block and takes it back. */
void heap_free(struct block *block);
/* Whether an address belongs to the heap, live or not: then it is a device address. */
bool heap_owns(const void *address);
/* Whether `bytes` at an address lie in one live block; otherwise writes a sentence about why not. */
bool heap_check(const void *address, size_t bytes, char *why, size_t why_bytes);
/* Where the library itself reads and writes a device address. */
void *heap_pointer(const void *address);
/* A device address as a distance from the start of the heap, and where that is. */
uint64_t heap_offset(const void *address);
void *heap_bytes(uint64_t offset);
/* The reserved addresses: callers' begin at `base`, the library's at `alias`; the first `bytes` of both are the heap. */
struct heap_range {
  uintptr_t base;
  char *alias;
  size_t bytes, reserved;
};
struct heap_range heap_range(void);
/* The heap may grow so far; the addresses beyond are for what is imported. */
void heap_limit(size_t limit);
/* Live bytes of a physical device. */
size_t heap_live_bytes(int physical);

#endif
