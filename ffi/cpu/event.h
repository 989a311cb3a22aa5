/* Events: marks in streams. All functions are called with the engine's lock held. */
#ifndef SEQFERRY_CPU_EVENT_H
#define SEQFERRY_CPU_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"

struct event;

/* NULL after setting the error. */
struct event *event_find(cudaEvent_t handle, const char *call, cudaError_t *error);
/* Whether the last recording was reached; an event never recorded is done. */
bool event_is_done(const struct event *event);
/* Keeps the event while a queue refers to it; answers the number of its last recording. */
uint64_t event_retain(struct event *event);
void event_release(struct event *event);
/* A stream got to a recording. */
void event_reached(struct event *event, uint64_t count);
bool event_has_reached(const struct event *event, uint64_t count);

#endif
