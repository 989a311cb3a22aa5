/*
 * Device memory that other processes exported, mapped for reading and writing. It takes the last of the reserved device addresses, so that
 * every call that takes a device address takes these too. All functions are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_IMPORTS_H
#define SEQFERRY_CPU_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an allocation is found in the heap of its process; what a cudaIpcMemHandle_t says. */
struct export_place {
  uint64_t magic;
  uint64_t start_time;
  uint64_t offset; /* in the heap's file */
  uint64_t bytes;
  int32_t pid;
  int32_t heap_fd;
};

enum import_result { IMPORTED, NO_SUCH_PROCESS, NO_SUCH_MEMORY, NO_ADDRESSES };

/* The address of an exported allocation; counts when it is imported already. */
enum import_result import_open(const struct export_place *place, uintptr_t *address);
/* Counts down, and unmaps with the last; false for an address that is no import's start. */
bool import_close(uintptr_t address);
/* Whether an address is in imported memory. */
bool import_owns(const void *address);
/* As heap_check, for addresses beyond the heap. */
bool import_check(const void *address, size_t bytes, char *why, size_t why_bytes);

#endif
