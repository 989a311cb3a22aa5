/* For the cores that a thread may run on. */
#define _GNU_SOURCE
#include "helper.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "accounts.h"
#include "faults.h"
#include "group.h"
#include "process.h"

/* Bytes of one part: some 40 microseconds, and milliseconds on fresh pages. A message is shared while twice as many are left. */
#define PART_BYTES ((size_t)512 << 10)
/* Parts that it has at most: one under way, and one so that it need not wait for the next. */
#define MOST_PARTS 2
/* For how long it looks for a next part before it sleeps, in nanoseconds. */
#define LONGEST_LOOK ((uint64_t)50000)

struct part {
  struct operation *operation;
  size_t start; /* where in the message it begins */
  struct heap_place from;
};

static struct part parts[MOST_PARTS];
/* Parts so far; both count on for ever, part i is in place i % MOST_PARTS. */
static _Atomic uint64_t given, copied;

static enum { NOT_STARTED, RUNNING, NONE } state;
static _Atomic uint32_t asleep; /* a futex: 1 while it may be waiting, the giver sets it to 0 */

static void sleep_until_woken(uint64_t seen) {
  /* It says that it sleeps and then looks once more; the giver gives and then looks whether it sleeps. One sees the other. */
  atomic_store(&asleep, 1);
  if (atomic_load(&given) == seen) syscall(SYS_futex, (uint32_t *)&asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
  atomic_store(&asleep, 0);
}

static void *help(void *unused) {
  (void)unused;
  uint64_t next = 0, idle_since = now_nanoseconds();
  for (;;) {
    if (atomic_load(&given) > next) {
      struct part part = parts[next % MOST_PARTS];
      struct operation *operation = part.operation;
      if (!heap_place_copy(operation->to + part.start, &part.from, PART_BYTES, operation->bytes)) operation->is_unread = true;
      account_add(ACCOUNT_HELPER_BYTES, PART_BYTES);
      atomic_store_explicit(&copied, ++next, memory_order_release);
      self_ring();
      idle_since = now_nanoseconds();
    } else if (now_nanoseconds() - idle_since < LONGEST_LOOK) {
      sched_yield();
    } else {
      sleep_until_woken(next);
      idle_since = now_nanoseconds();
    }
  }
  return NULL;
}

static void start(void) {
  state = NONE;
  cpu_set_t cores;
  if (process_self() == NULL || sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) < 2) return;
  if (thread_start(help)) state = RUNNING;
}

static uint64_t copied_so_far(void) { return atomic_load_explicit(&copied, memory_order_acquire); }

static bool takes_more(void) {
  if (state == NOT_STARTED) start();
  return state == RUNNING && atomic_load_explicit(&given, memory_order_relaxed) - copied_so_far() < MOST_PARTS;
}

static uint64_t give(struct part part) {
  uint64_t number = atomic_load_explicit(&given, memory_order_relaxed);
  parts[number % MOST_PARTS] = part;
  atomic_store(&given, number + 1);
  if (atomic_exchange(&asleep, 0) != 0) syscall(SYS_futex, (uint32_t *)&asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  return number + 1;
}

size_t helper_share(struct operation *operation, struct peer *sender, uint64_t offset, size_t bytes) {
  while (!faults_armed() && operation_left(operation) >= 2 * PART_BYTES && takes_more()) {
    size_t start = operation->bytes - operation->shared - PART_BYTES;
    struct heap_place from;
    if (!peer_locate(sender, offset + start, PART_BYTES, &from)) break;
    operation->shared += PART_BYTES;
    operation->last_part = give((struct part){.operation = operation, .start = start, .from = from});
  }
  return bytes < operation_left(operation) ? bytes : operation_left(operation);
}

bool helper_has_done(const struct operation *operation) { return copied_so_far() >= operation->last_part; }

void helper_finish(void) {
  while (copied_so_far() < atomic_load_explicit(&given, memory_order_relaxed)) sched_yield();
}
