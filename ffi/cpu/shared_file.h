/* Files without a name that processes share by their descriptors; they end with the last process that has them open or mapped. */
#ifndef SEQFERRY_CPU_SHARED_FILE_H
#define SEQFERRY_CPU_SHARED_FILE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes of a huge page of x86-64, and of arm64 with pages of 4 KiB. A mapping uses them where its address and its place in the file are the
 * same distance from a multiple of this.
 */
#define HUGE_PAGE ((size_t)2 << 20)

/* A new descriptor of no size, or -1 with errno. */
int shared_file(const char *name);
/* The same, of huge pages where the system lets this process have them. */
int shared_file_of_huge_pages(const char *name);
/* Opens another process's descriptor for reading and writing, or reading only; -1 with errno. */
int open_descriptor_of(int pid, int fd, bool writable);
/* Reserves addresses that begin at a huge page's; nothing can be read or written there. NULL with errno. */
void *reserve_addresses(size_t bytes);

#endif
