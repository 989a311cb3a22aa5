#include "faults.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accounts.h"
#include "communicator.h"
#include "device.h"
#include "engine.h"
#include "errors.h"
#include "fault_rules.h"
#include "group.h"
#include "memory.h"
#include "process.h"

#define MILLISECOND UINT64_C(1000000)
/* What every call answers when the environment's rules cannot be read: cudaErrorInitializationError and ncclInternalError. */
#define UNREADABLE 3

_Atomic int faults_state = FAULTS_NOT_READ;

/* Guards what follows. Taken last: no other lock is taken while it is held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault_rule rules[FAULT_MOST_RULES];
static int rule_count;
static char unreadable[SENTENCE_BYTES];
static int environment_rank = FAULT_ANY_RANK;

/* Which rank a device is. */
static struct seat {
  int device, rank;
} *seats;
static size_t seat_count, seat_capacity;

/* ---- arming */

static void read_environment(void) {
  const char *text = getenv("SEQFERRY_CPU_FAULTS");
  const char *rank = getenv("RANK");
  pthread_mutex_lock(&lock);
  if (rank != NULL && *rank >= '0' && *rank <= '9') environment_rank = atoi(rank);
  int count = text == NULL ? 0 : fault_rules_read(text, rules, unreadable, sizeof unreadable);
  if (count < 0) fprintf(stderr, "seqferry cpu: SEQFERRY_CPU_FAULTS: %s\n", unreadable);
  rule_count = count < 0 ? 0 : count;
  atomic_store(&faults_state, count == 0 ? FAULTS_NONE : FAULTS_ARMED);
  pthread_mutex_unlock(&lock);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

int seqferryCpuFaults(const char *text) {
  struct fault_rule *fresh = malloc(sizeof rules);
  char why[SENTENCE_BYTES];
  if (fresh == NULL) {
    nccl_fail(ncclSystemError, "the host's memory is used up");
    return 1;
  }
  int count = fault_rules_read(text == NULL ? "" : text, fresh, why, sizeof why);
  if (count < 0) {
    free(fresh);
    nccl_fail(ncclInvalidArgument, "%s", why);
    return 1;
  }
  pthread_once(&once, read_environment);
  engine_lock();
  for (int i = 0; i < count; i++) {
    for (int device = 0; device < 64; device++) fresh[i].live[device] = heap_live_bytes(device);
  }
  pthread_mutex_lock(&lock);
  memcpy(rules, fresh, (size_t)count * sizeof *fresh);
  rule_count = count;
  unreadable[0] = '\0';
  atomic_store(&faults_state, count == 0 ? FAULTS_NONE : FAULTS_ARMED);
  pthread_mutex_unlock(&lock);
  /* What was held can go on. */
  self_ring();
  engine_unlock();
  free(fresh);
  return 0;
}

struct fault_rule *fault_rules_take(int *count) {
  pthread_mutex_lock(&lock);
  *count = rule_count;
  return rules;
}

void fault_rules_release(void) { pthread_mutex_unlock(&lock); }

/* ---- ranks */

void fault_joined(int device, int rank) {
  pthread_mutex_lock(&lock);
  size_t at = 0;
  while (at < seat_count && seats[at].device != device) at++;
  if (at == seat_capacity) {
    size_t larger = seat_capacity == 0 ? 8 : 2 * seat_capacity;
    struct seat *moved = realloc(seats, larger * sizeof *moved);
    if (moved != NULL) {
      seats = moved;
      seat_capacity = larger;
    }
  }
  if (at < seat_capacity) {
    seats[at] = (struct seat){.device = device, .rank = rank};
    if (at == seat_count) seat_count++;
  }
  pthread_mutex_unlock(&lock);
}

/* A thread that never chose a device is on device 0; where the process is one rank, it is that one's all the same. */
static int rank_of_device(int device) {
  bool one_rank = seat_count > 0;
  for (size_t i = 0; i < seat_count; i++) {
    if (seats[i].device == device) return seats[i].rank;
    if (seats[i].rank != seats[0].rank) one_rank = false;
  }
  return one_rank ? seats[0].rank : environment_rank;
}

bool fault_is_rank(int wanted, int rank) { return wanted == FAULT_ANY_RANK || wanted == rank; }

/* ---- moments and actions */

/* splitmix64: from 0 to 1, 1 not among them. */
static double draw(struct fault_rule *rule) {
  uint64_t z = rule->random += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

bool fault_holds_now(struct fault_rule *rule) {
  rule->counted++;
  if (rule->moment == FAULT_BY_CHANCE) return draw(rule) < rule->chance;
  return rule->moment == FAULT_COUNTED && rule->counted >= rule->first && rule->counted <= rule->last;
}

int fault_signal(enum fault_action action) {
  return action == FAULT_KILL || action == FAULT_KILL_SENDER ? SIGKILL : action == FAULT_STOP || action == FAULT_STOP_SENDER ? SIGSTOP : 0;
}

int fault_of_call(int call) {
  pthread_once(&once, read_environment);
  if (!faults_armed()) return 0;
  int device = device_current();
  int code = 0, signal = 0;
  uint64_t milliseconds = 0, number = 0;
  char text[SENTENCE_BYTES] = "";
  pthread_mutex_lock(&lock);
  if (unreadable[0] != '\0') {
    code = UNREADABLE;
    memcpy(text, unreadable, sizeof text);
  }
  for (int i = 0; i < rule_count; i++) {
    struct fault_rule *rule = &rules[i];
    if (rule->target != FAULT_CALL || rule->call != call || !fault_is_rank(rule->rank, rank_of_device(device)) || !fault_holds_now(rule)) continue;
    if (rule->action == FAULT_DELAY) milliseconds += rule->amount;
    if (signal == 0) signal = fault_signal(rule->action);
    if (rule->action != FAULT_CODE || code != 0) continue;
    code = rule->code;
    number = rule->counted;
  }
  pthread_mutex_unlock(&lock);
  if (signal != 0) raise(signal);
  if (milliseconds > 0) nap(milliseconds * MILLISECOND);
  if (code == 0) return 0;
  if (number > 0) snprintf(text, sizeof text, "%s: call %llu of it was told to answer %d", call_name(call), (unsigned long long)number, code);
  if (!call_is_nccl(call)) return cuda_fail(code, "%s", text);
  nccl_fail(code, "%s", text);
  if (!group_is_open()) return code;
  /* The group fails with its calls; where its end is to fail, that closes it. */
  group_fail(code);
  return call == CALL_ncclGroupEnd ? 0 : code;
}

int fault_of_memory(int device, size_t bytes) {
  int code = 0;
  int physical = device_physical(device);
  pthread_mutex_lock(&lock);
  for (int i = 0; i < rule_count && code == 0; i++) {
    const struct fault_rule *rule = &rules[i];
    if (rule->target != FAULT_MEMORY || !fault_is_rank(rule->rank, rank_of_device(device))) continue;
    size_t live = heap_live_bytes(physical);
    size_t more = live > rule->live[physical] ? live - rule->live[physical] : 0;
    if (more > rule->bytes || bytes > rule->bytes - more) code = rule->code;
  }
  pthread_mutex_unlock(&lock);
  return code;
}

/* ---- groups */

bool fault_holds_group(struct launch *launch) {
  struct communicator *communicator = launch->communicator;
  uint64_t now = now_nanoseconds();
  if (launch->held_until != 0) return launch->held_until > now;
  launch->held_until = 1;
  int code = 0, signal = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < rule_count; i++) {
    struct fault_rule *rule = &rules[i];
    if (rule->target != FAULT_GROUP || !fault_is_rank(rule->rank, communicator->rank) || !fault_holds_now(rule)) continue;
    if (rule->action == FAULT_HANG) launch->held_until = UINT64_MAX;
    if (rule->action == FAULT_DELAY && launch->held_until < UINT64_MAX) launch->held_until = now + rule->amount * MILLISECOND;
    if (signal == 0) signal = fault_signal(rule->action);
    if (rule->action == FAULT_CODE && code == 0) code = rule->code;
  }
  pthread_mutex_unlock(&lock);
  if (signal != 0) raise(signal);
  if (code != 0) communicator_fail(communicator, code, "a group of rank %d was told to fail with %d", communicator->rank, code);
  return code != 0 || launch->held_until > now;
}
