/* For pread. */
#define _GNU_SOURCE
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "process.h"
#include "shared_file.h"

#define MAGIC UINT64_C(0x3130797272656671) /* "qferry01" */
#define PAGE ((size_t)4096)

_Static_assert(sizeof(struct world_header) <= PAGE, "the header fits its page");

/* The worlds that this process's communicators are in, and the files of those that it made. */
static struct world *worlds;
static struct made {
  struct made *next;
  int fd;
  struct world_header *header;
} *made;

static size_t round_up(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static size_t ranks_bytes(int nranks) { return round_up((size_t)nranks * sizeof(struct world_rank)); }

static size_t world_bytes(int nranks) {
  return PAGE + ranks_bytes(nranks) + round_up((size_t)nranks * (size_t)nranks * sizeof(struct pair));
}

void notice_write(struct notice *notice, ncclResult_t code, const char *text) {
  uint32_t none = NOTICE_NONE;
  if (!atomic_compare_exchange_strong(&notice->state, &none, NOTICE_BEING_WRITTEN)) return;
  notice->code = code;
  snprintf(notice->text, sizeof notice->text, "%s", text);
  atomic_store_explicit(&notice->state, NOTICE_WRITTEN, memory_order_release);
}

/* Whether all who joined have left again, or have died. Asked of the file: this process may not have joined itself. */
static bool is_given_up(const struct made *one, uint32_t joined) {
  if (joined == 0) return false;
  if (joined == atomic_load(&one->header->left)) return true;
  int nranks = (int)(uint32_t)atomic_load(&one->header->first);
  for (int rank = 0; rank < nranks; rank++) {
    struct world_rank row;
    if (pread(one->fd, &row, sizeof row, (off_t)(PAGE + (size_t)rank * sizeof row)) != (ssize_t)sizeof row) return false;
    uint32_t state = atomic_load(&row.state);
    if (state == RANK_FREE || (state == RANK_JOINED && atomic_load(&row.left) == 1)) continue;
    if (state != RANK_JOINED || process_alive(row.pid, row.start_time)) return false;
  }
  return true;
}

void worlds_sweep(void) {
  for (struct made **link = &made; *link != NULL;) {
    struct made *one = *link;
    uint32_t joined = atomic_load(&one->header->joined);
    bool complete = joined > 0 && joined == (uint32_t)atomic_load(&one->header->first);
    if (!complete && !is_given_up(one, joined)) {
      link = &one->next;
      continue;
    }
    *link = one->next;
    munmap(one->header, PAGE);
    close(one->fd);
    free(one);
  }
}

ncclResult_t world_create(struct world_place *place) {
  worlds_sweep();
  struct self *self = process_self();
  if (self == NULL) return nccl_fail(ncclSystemError, "shared memory cannot be had: %s", strerror(errno));
  struct made *one = calloc(1, sizeof *one);
  int fd = one == NULL ? -1 : shared_file("seqferry-world");
  void *page = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, (off_t)PAGE) == 0) page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint64_t nonce = 0;
  if (page == MAP_FAILED || getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) {
    int saved = errno;
    if (page != MAP_FAILED) munmap(page, PAGE);
    if (fd >= 0) close(fd);
    free(one);
    return nccl_fail(ncclSystemError, "shared memory for a communicator cannot be had: %s", strerror(saved));
  }
  one->fd = fd;
  one->header = page;
  one->header->magic = MAGIC;
  one->header->nonce = nonce;
  one->next = made;
  made = one;
  *place = (struct world_place){.magic = MAGIC, .nonce = nonce, .start_time = self->start_time, .pid = self->pid, .fd = fd};
  return ncclSuccess;
}

/* Maps the header of a world's file; MAP_FAILED where it is not there any more. */
static struct world_header *open_header(const struct world_place *place, int *fd) {
  *fd = open_descriptor_of(place->pid, place->fd, true);
  if (*fd < 0) return MAP_FAILED;
  struct stat status;
  /* What the descriptor is now may be anything: a mapping beyond the end of a file would be fatal. */
  if (fstat(*fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < (off_t)PAGE) return MAP_FAILED;
  struct world_header *header = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  if (header == MAP_FAILED) return header;
  if (header->magic == MAGIC && header->nonce == place->nonce) return header;
  munmap(header, PAGE);
  return MAP_FAILED;
}

/* Settles how many ranks there are; whoever is first decides. */
static ncclResult_t agree_on_size(struct world_header *header, int nranks, int rank) {
  uint64_t first = 0;
  uint64_t mine = (uint64_t)nranks | (uint64_t)rank << 32;
  if (atomic_compare_exchange_strong(&header->first, &first, mine) || (int)(uint32_t)first == nranks) return ncclSuccess;
  char text[SENTENCE_BYTES];
  snprintf(text, sizeof text, "rank %d joins a communicator of %d ranks, and rank %d joined it as one of %d", rank, nranks,
           (int)(first >> 32), (int)(uint32_t)first);
  notice_write(&header->refusal, ncclInvalidArgument, text);
  return nccl_fail(ncclInvalidArgument, "%s", text);
}

static struct world *find_world(uint64_t nonce) {
  struct world *world = worlds;
  while (world != NULL && world->header->nonce != nonce) world = world->next;
  return world;
}

/* The world at a place, mapped; NULL after setting the result. */
static struct world *open_world(const struct world_place *place, int nranks, int rank, ncclResult_t *result) {
  struct world *world = find_world(place->nonce);
  if (world != NULL) {
    *result = agree_on_size(world->header, nranks, rank);
    return *result == ncclSuccess ? world : NULL;
  }
  int fd;
  struct world_header *header = open_header(place, &fd);
  if (header == MAP_FAILED) {
    if (fd >= 0) close(fd);
    *result = process_alive(place->pid, place->start_time)
                  ? nccl_fail(ncclInvalidUsage,
                              "rank %d cannot join: the meeting for this unique id is over (all ranks have joined, or all who had left again)",
                              rank)
                  : nccl_fail(ncclRemoteError, "rank %d cannot join: process %d, which made the unique id, has ended", rank,
                              (int)place->pid);
    return NULL;
  }
  *result = agree_on_size(header, nranks, rank);
  size_t bytes = world_bytes(nranks);
  void *mapped = MAP_FAILED;
  world = *result == ncclSuccess ? calloc(1, sizeof *world) : NULL;
  /* Whoever joins sets the same size. */
  if (world != NULL && ftruncate(fd, (off_t)bytes) == 0) {
    mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (*result == ncclSuccess && mapped == MAP_FAILED) {
    *result = nccl_fail(ncclSystemError, "%zu bytes of shared memory for a communicator of %d ranks cannot be had: %s", bytes, nranks,
                        strerror(errno));
  }
  munmap(header, PAGE);
  close(fd);
  if (mapped == MAP_FAILED) {
    free(world);
    return NULL;
  }
  world->nranks = nranks;
  world->bytes = bytes;
  world->header = mapped;
  world->ranks = (struct world_rank *)((char *)mapped + PAGE);
  world->pairs = (struct pair *)((char *)mapped + PAGE + ranks_bytes(nranks));
  world->next = worlds;
  worlds = world;
  return world;
}

static void close_world(struct world *world) {
  struct world **link = &worlds;
  while (*link != world) link = &(*link)->next;
  *link = world->next;
  munmap(world->header, world->bytes);
  free(world);
}

ncclResult_t world_join(const struct world_place *place, int nranks, int rank, int device, struct world **out) {
  ncclResult_t result = ncclSuccess;
  if (place->magic != MAGIC) return nccl_fail(ncclInvalidArgument, "the unique id is not one that ncclGetUniqueId made");
  struct self *self = process_self();
  int heap_fd = heap_descriptor();
  if (self == NULL || heap_fd < 0) return nccl_fail(ncclSystemError, "shared memory cannot be had: %s", strerror(errno));
  struct world *world = open_world(place, nranks, rank, &result);
  if (world == NULL) return result;
  struct world_rank *row = &world->ranks[rank];
  uint32_t expected = RANK_FREE;
  if (!atomic_compare_exchange_strong(&row->state, &expected, RANK_TAKEN)) {
    char text[SENTENCE_BYTES];
    snprintf(text, sizeof text, "two communicators join as rank %d of %d: one in process %d, one in process %d", rank, nranks,
             (int)row->pid, self->pid);
    /* A communicator that is complete is not disturbed by one more who has its unique id. */
    if (atomic_load(&world->header->joined) < (uint32_t)nranks) notice_write(&world->header->refusal, ncclInvalidArgument, text);
    if (world->references == 0) close_world(world);
    return nccl_fail(ncclInvalidArgument, "%s", text);
  }
  row->pid = self->pid;
  row->start_time = self->start_time;
  row->control_fd = self->control_fd;
  row->heap_fd = heap_fd;
  row->device = device;
  atomic_store_explicit(&row->state, RANK_JOINED, memory_order_release);
  atomic_fetch_add(&world->header->joined, 1);
  world->references++;
  *out = world;
  return ncclSuccess;
}

void world_leave(struct world *world, int rank) {
  /* Before anything of this rank's memory is used for something else. */
  atomic_store(&world->ranks[rank].left, 1);
  atomic_fetch_add(&world->header->left, 1);
  if (--world->references == 0) close_world(world);
  worlds_sweep();
}
