/* Pinned host memory: allocated here, or the caller's own and registered. */
#ifndef SEQFERRY_CPU_PINNED_H
#define SEQFERRY_CPU_PINNED_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all of the bytes are pinned, so that a copy may read or write them later. Lock held. */
bool pinned_covers(const void *host, size_t bytes);

#endif
