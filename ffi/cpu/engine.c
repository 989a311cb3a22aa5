#include "engine.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "communicator.h"
#include "process.h"
#include "stream.h"

#define MICROSECOND ((uint64_t)1000)
#define MILLISECOND (1000 * MICROSECOND)

/* The worker leaves the queues alone for at least this long after somebody else drove them. */
#define TAKE_OVER (3 * MILLISECOND)
/* Naps without anything pending before the worker sleeps until it is called. */
#define IDLE_NAPS 16
/* Longest sleep of one who waits. Rings end it; the limit is for what cannot ring: a death, and peers that join. */
#define LONGEST_SLEEP (20 * MILLISECOND)
#define LONGEST_SLEEP_NEGOTIATING (1 * MILLISECOND)
/* How long one who waits keeps the processor busy, and then how long it only yields it. */
#define SPIN MICROSECOND
#define YIELD (100 * MICROSECOND)
/*
 * For how long after the last move a query that has nothing to tell only yields the processor, and for how long at once; and how long it naps
 * at most then.
 */
#define MAKE_WAY (500 * MICROSECOND)
#define LONGEST_LOOK (50 * MICROSECOND)
#define LONGEST_NAP (500 * MICROSECOND)
/* How many streams beside the one asked for a query looks at. */
#define OTHERS_PER_QUERY 32

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Threads that wait for the lock: the worker makes way for them. */
static _Atomic unsigned waiting;
/* When somebody other than the worker last drove the queues. */
static _Atomic uint64_t last_driven;

/* When something other than the worker last found something moving. */
static uint64_t last_moved;

static struct {
  bool started;
  bool asleep; /* in the condition below */
  pthread_cond_t called;
} worker = {.called = PTHREAD_COND_INITIALIZER};

static int negotiating;

void engine_lock(void) {
  if (pthread_mutex_trylock(&lock) == 0) return;
  atomic_fetch_add_explicit(&waiting, 1, memory_order_relaxed);
  pthread_mutex_lock(&lock);
  atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
}

void engine_unlock(void) { pthread_mutex_unlock(&lock); }

static bool drive(struct stream *first, size_t budget, unsigned others, uint64_t now) {
  bool moved = false;
  if (first != NULL) moved = stream_advance(first, &budget);
  if (negotiating > 0 && communicators_negotiate()) moved = true;
  if (!moved && streams_advance(others, &budget)) moved = true;
  communicators_check_peers(now, last_moved);
  if (moved) self_ring();
  return moved;
}

bool engine_progress(struct stream *first, size_t budget) {
  uint64_t now = now_nanoseconds();
  atomic_store_explicit(&last_driven, now, memory_order_relaxed);
  bool moved = drive(first, budget, first == NULL ? UINT32_MAX : OTHERS_PER_QUERY, now);
  if (moved) last_moved = now;
  return moved;
}

static void yield_once(void) {
  engine_unlock();
  sched_yield();
  engine_lock();
}

void engine_make_way(void) {
  if (process_self() == NULL || !communicators_of_one_device()) {
    yield_once();
    return;
  }
  uint64_t start = now_nanoseconds();
  if (start - last_moved <= MAKE_WAY) {
    /* To look again from here costs a hundredth of what it costs to answer and be asked again. */
    do {
      yield_once();
      if (engine_progress(NULL, QUERY_BUDGET)) return;
    } while (now_nanoseconds() - start < LONGEST_LOOK);
    return;
  }
  uint32_t rings = doorbell_arm();
  if (engine_progress(NULL, QUERY_BUDGET)) return;
  engine_unlock();
  doorbell_wait(rings, LONGEST_NAP);
  engine_lock();
  engine_progress(NULL, QUERY_BUDGET);
}

static bool anything_pending(void) { return negotiating > 0 || streams_active(); }

static uint64_t longest_sleep(void) { return negotiating > 0 ? LONGEST_SLEEP_NEGOTIATING : LONGEST_SLEEP; }

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void engine_wait(bool (*condition)(void *argument), void *argument) {
  uint64_t idle_since = 0;
  bool can_sleep = process_self() != NULL;
  for (;;) {
    uint64_t now = now_nanoseconds();
    bool sleepy = can_sleep && idle_since != 0 && now - idle_since > YIELD;
    uint32_t rings = sleepy ? doorbell_arm() : 0;
    bool moved = engine_progress(NULL, QUERY_BUDGET);
    if (condition(argument)) return;
    uint64_t limit = longest_sleep();
    engine_unlock();
    if (moved) {
      idle_since = 0;
    } else {
      if (idle_since == 0) idle_since = now;
      if (sleepy) {
        doorbell_wait(rings, limit);
      } else if (now - idle_since > SPIN) {
        sched_yield();
      } else {
        for (int i = 0; i < 16; i++) relax();
      }
    }
    engine_lock();
  }
}

/* Sleeps until engine_pending() calls. Lock held. */
static void sleep_until_called(void) {
  worker.asleep = true;
  while (worker.asleep) pthread_cond_wait(&worker.called, &lock);
}

static void *work(void *unused) {
  (void)unused;
  unsigned idle_naps = 0, naps = 0;
  for (;;) {
    uint64_t now = now_nanoseconds();
    uint64_t driven = atomic_load_explicit(&last_driven, memory_order_relaxed);
    if (driven + TAKE_OVER > now || atomic_load_explicit(&waiting, memory_order_relaxed) > 0) {
      /* Somebody is at it. Longer naps while that goes on, to cost them little: each takes the core from a rank twice. */
      nap(naps < 4 ? TAKE_OVER : naps < 16 ? 3 * TAKE_OVER : 10 * TAKE_OVER);
      if (naps < 16) naps++;
      continue;
    }
    naps = 0;
    engine_lock();
    uint32_t rings = doorbell_arm();
    bool moved = drive(NULL, CHUNK_BUDGET, UINT32_MAX, now);
    if (anything_pending()) {
      uint64_t limit = longest_sleep();
      idle_naps = 0;
      engine_unlock();
      if (!moved) doorbell_wait(rings, limit);
    } else if (idle_naps < IDLE_NAPS) {
      idle_naps++;
      engine_unlock();
      nap(MILLISECOND);
    } else {
      sleep_until_called();
      idle_naps = 0;
      engine_unlock();
    }
  }
  return NULL;
}

static void start_worker(void) { worker.started = process_self() != NULL && thread_start(work); }

void engine_pending(void) {
  if (!worker.started) {
    start_worker();
  } else if (worker.asleep) {
    worker.asleep = false;
    pthread_cond_signal(&worker.called);
  }
  self_ring();
}

void engine_negotiating(int change) {
  negotiating += change;
  if (change > 0) engine_pending();
}
