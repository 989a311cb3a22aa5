#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "shared_file.h"

#define CONTROL_BYTES 4096

struct peer {
  struct peer *next;
  int references;
  bool own;
  int pid;
  uint64_t start_time;
  struct control *control;
  struct peer_heap heap; /* of another process */
};

static struct self self = {.control_fd = -1};
static struct peer *peers;

uint64_t now_nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void nap(uint64_t nanoseconds) {
  struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
  nanosleep(&time, NULL);
}

bool thread_start(void *(*run)(void *)) {
  /* Signals are the caller's business. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  bool started = pthread_create(&thread, &attributes, run, NULL) == 0;
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

/* State and start time of a process, from the fields after its name, which may hold blanks and parentheses itself. */
static bool read_stat(int pid, char *state, uint64_t *start_time) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return false;
  text[length] = '\0';
  char *field = strrchr(text, ')');
  if (field == NULL || field[1] == '\0') return false;
  *state = field[2];
  field += 2;
  /* The state is field 3, the start time field 22. */
  for (int i = 3; i < 22 && field != NULL; i++) field = strchr(field + 1, ' ');
  if (field == NULL) return false;
  *start_time = strtoull(field, NULL, 10);
  return true;
}

bool process_alive(int pid, uint64_t start_time) {
  char state;
  uint64_t started;
  if (!read_stat(pid, &state, &started)) return kill(pid, 0) == 0 || errno == EPERM;
  return state != 'Z' && state != 'X' && started == start_time;
}

struct self *process_self(void) {
  if (self.control != NULL) return &self;
  char state;
  self.pid = (int)getpid();
  if (!read_stat(self.pid, &state, &self.start_time)) self.start_time = 0;
  int fd = shared_file("seqferry-control");
  if (fd < 0) return NULL;
  void *page = MAP_FAILED;
  if (ftruncate(fd, CONTROL_BYTES) == 0) page = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) {
    int saved = errno;
    close(fd);
    errno = saved;
    return NULL;
  }
  self.control_fd = fd;
  struct control *control = page;
  control->start_time = self.start_time;
  self.control = control;
  return &self;
}

struct peer *peer_open(int pid, uint64_t start_time, int control_fd, int heap_fd) {
  for (struct peer *peer = peers; peer != NULL; peer = peer->next) {
    if (peer->pid != pid || peer->start_time != start_time) continue;
    peer->references++;
    return peer;
  }
  struct peer *peer = calloc(1, sizeof *peer);
  if (peer == NULL) return NULL;
  peer->references = 1;
  peer->pid = pid;
  peer->start_time = start_time;
  if (pid == self.pid && start_time == self.start_time) {
    peer->own = true;
    peer->control = self.control;
  } else {
    int fd = open_descriptor_of(pid, control_fd, true);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (page == MAP_FAILED) {
      free(peer);
      return NULL;
    }
    peer->control = page;
    /* The pid may have gone to another process since it was written down. */
    if (peer->control->start_time != start_time || !peer_heap_open(&peer->heap, pid, heap_fd)) {
      munmap(page, CONTROL_BYTES);
      free(peer);
      return NULL;
    }
  }
  peer->next = peers;
  peers = peer;
  return peer;
}

void peer_close(struct peer *peer) {
  if (--peer->references > 0) return;
  struct peer **link = &peers;
  while (*link != peer) link = &(*link)->next;
  *link = peer->next;
  if (!peer->own) {
    peer_heap_close(&peer->heap);
    munmap(peer->control, CONTROL_BYTES);
  }
  free(peer);
}

static uint64_t heap_size(const struct peer *peer) { return atomic_load_explicit(&peer->control->heap_bytes, memory_order_acquire); }

bool peer_map(struct peer *peer, uint64_t offset, uint64_t bytes) {
  return peer->own || peer_heap_map(&peer->heap, offset, bytes, heap_size(peer));
}

bool peer_locate(struct peer *peer, uint64_t offset, uint64_t bytes, struct heap_place *place) {
  if (!peer->own) return peer_heap_locate(&peer->heap, offset, bytes, heap_size(peer), place);
  *place = (struct heap_place){.address = heap_bytes(offset)};
  return true;
}

/*
 * Whether anybody may sleep, looked at after all that was stored before; a sleeper first arms the doorbell and then looks at what is
 * stored, so one of the two sees the other. ThreadSanitizer knows no fences: for it the flag is written with the value it has.
 */
static bool is_armed(struct control *control) {
#if defined(__SANITIZE_THREAD__)
  return atomic_fetch_or(&control->armed, 0) != 0;
#else
  atomic_thread_fence(memory_order_seq_cst);
  return atomic_load_explicit(&control->armed, memory_order_seq_cst) != 0;
#endif
}

static void ring(struct control *control) {
  /* Of many who ring at once, and of many rings before the sleeper gets to run, one costs a system call. */
  if (!is_armed(control) || atomic_exchange(&control->armed, 0) == 0) return;
  atomic_fetch_add(&control->doorbell, 1);
  syscall(SYS_futex, (uint32_t *)&control->doorbell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void peer_ring(struct peer *peer) { ring(peer->control); }

void self_ring(void) {
  if (self.control != NULL) ring(self.control);
}

uint32_t doorbell_arm(void) {
  /* The count first: a ring that disarms what is armed here then also changes the count that was read. */
  uint32_t count = atomic_load(&self.control->doorbell);
  atomic_exchange(&self.control->armed, 1);
#if !defined(__SANITIZE_THREAD__)
  atomic_thread_fence(memory_order_seq_cst);
#endif
  return count;
}

void doorbell_wait(uint32_t seen, uint64_t nanoseconds) {
  struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
  syscall(SYS_futex, (uint32_t *)&self.control->doorbell, FUTEX_WAIT, seen, &time, NULL, 0);
}
