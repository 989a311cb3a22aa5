/*
 * Handles: what callers hold of streams, events and communicators. A number with a generation instead of a pointer, so that a handle used
 * after its end is seen for what it is. All functions are called with the engine's lock held.
 */
#ifndef SEQFERRY_CPU_HANDLES_H
#define SEQFERRY_CPU_HANDLES_H

enum handle_kind { HANDLE_STREAM = 1, HANDLE_EVENT, HANDLE_COMMUNICATOR, HANDLE_REGISTRATION, HANDLE_KINDS };

/* A new handle for an object; NULL when memory is short. */
void *handle_open(enum handle_kind kind, void *object);
/* The object; NULL for a value that is no handle of this kind, or no longer one. */
void *handle_find(enum handle_kind kind, const void *handle);
/* Ends a handle. */
void handle_close(enum handle_kind kind, const void *handle);

#endif
