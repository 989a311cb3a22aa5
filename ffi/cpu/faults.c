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
#define SECOND UINT64_C(1000000000)
/* A slow link carries a hundredth of a second's bytes in one go, and catches up with what it missed in this time. */
#define RATE_PORTIONS 100
#define RATE_CATCHES_UP (50 * MILLISECOND)
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

static bool is_rank(int wanted, int rank) { return wanted == FAULT_ANY_RANK || wanted == rank; }

/* ---- moments and actions */

/* splitmix64: from 0 to 1, 1 not among them. */
static double draw(struct fault_rule *rule) {
  uint64_t z = rule->random += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

/* Counts one more of what a rule is about; whether it holds for it. */
static bool holds_now(struct fault_rule *rule) {
  rule->counted++;
  if (rule->moment == FAULT_BY_CHANCE) return draw(rule) < rule->chance;
  return rule->moment == FAULT_COUNTED && rule->counted >= rule->first && rule->counted <= rule->last;
}

static int signal_of(enum fault_action action) {
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
    if (rule->target != FAULT_CALL || rule->call != call || !is_rank(rule->rank, rank_of_device(device)) || !holds_now(rule)) continue;
    if (rule->action == FAULT_DELAY) milliseconds += rule->amount;
    if (signal == 0) signal = signal_of(rule->action);
    if (rule->action != FAULT_CODE || code != 0) continue;
    code = rule->code;
    number = rule->counted;
  }
  pthread_mutex_unlock(&lock);
  if (signal != 0) kill(getpid(), signal);
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
    if (rule->target != FAULT_MEMORY || !is_rank(rule->rank, rank_of_device(device))) continue;
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
    if (rule->target != FAULT_GROUP || !is_rank(rule->rank, communicator->rank) || !holds_now(rule)) continue;
    if (rule->action == FAULT_HANG) launch->held_until = UINT64_MAX;
    if (rule->action == FAULT_DELAY && launch->held_until < UINT64_MAX) launch->held_until = now + rule->amount * MILLISECOND;
    if (signal == 0) signal = signal_of(rule->action);
    if (rule->action == FAULT_CODE && code == 0) code = rule->code;
  }
  pthread_mutex_unlock(&lock);
  if (signal != 0) kill(getpid(), signal);
  if (code != 0) communicator_fail(communicator, code, "a group of rank %d was told to fail with %d", communicator->rank, code);
  return code != 0 || launch->held_until > now;
}

/* ---- messages */

static struct held *held_of(struct communicator *communicator, struct operation *operation, int sender) {
  if (operation->held == NULL) operation->held = calloc((size_t)communicator->nranks, sizeof *operation->held);
  if (operation->held != NULL) return &operation->held[sender];
  communicator_fail(communicator, ncclSystemError, "the host's memory is used up");
  return NULL;
}

static bool is_about(const struct fault_rule *rule, const struct communicator *communicator, int sender) {
  return rule->target == FAULT_MESSAGE && is_rank(rule->sender, sender) && is_rank(rule->rank, communicator->rank);
}

static void send_signal(struct communicator *communicator, int sender, int signal, bool to_sender, struct held *held) {
  int pid = to_sender ? communicator->world->ranks[sender].pid : (int)getpid();
  kill(pid, signal);
  /* What comes from a process that dies does not come whole. */
  if (signal == SIGKILL) held->until = UINT64_MAX;
}

/* Does what a rule says of a message, at its beginning or in the middle. Lock of the rules held. */
static void act(struct communicator *communicator, int sender, const struct fault_rule *rule, struct held *held, uint64_t now) {
  switch (rule->action) {
    case FAULT_CODE:
      communicator_fail(communicator, rule->code, "a message from rank %d to rank %d was told to fail with %d", sender, communicator->rank,
                        rule->code);
      break;
    case FAULT_HANG:
      held->until = UINT64_MAX;
      break;
    case FAULT_DELAY:
      if (held->until < UINT64_MAX) held->until = now + rule->amount * MILLISECOND;
      break;
    case FAULT_RATE:
      break;
    default:
      held->signal = signal_of(rule->action);
      held->to_sender = rule->action == FAULT_KILL_SENDER || rule->action == FAULT_STOP_SENDER;
  }
}

/* Counts a message, once, and decides what becomes of it. Lock of the rules held. */
static void decide(struct communicator *communicator, int sender, struct held *held, uint64_t now) {
  held->until = 1;
  for (int i = 0; i < rule_count; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender) || rule->action == FAULT_RATE || rule->moment == FAULT_AFTER_BYTES) continue;
    if (holds_now(rule)) act(communicator, sender, rule, held, now);
  }
}

/* Makes `bytes` as few as a slow link carries now. */
static void slow_down(struct fault_rule *rule, uint64_t now, size_t *bytes) {
  uint64_t portion = rule->amount / RATE_PORTIONS;
  if (portion == 0) portion = 1;
  if (rule->busy_until > now) {
    *bytes = 0;
  } else if (*bytes > portion) {
    *bytes = portion;
  }
}

static void occupy(struct fault_rule *rule, uint64_t now, size_t bytes) {
  if (rule->busy_until + RATE_CATCHES_UP < now) rule->busy_until = now - RATE_CATCHES_UP;
  rule->busy_until += (uint64_t)((double)bytes * (double)SECOND / (double)rule->amount);
}

/* Whether a rule on rates holds for the message under way: it counts messages at their beginning, which is when nothing was copied. */
static bool slows(struct fault_rule *rule, bool begins) {
  if (begins) rule->spent = !holds_now(rule);
  return !rule->spent;
}

bool fault_holds_message(struct communicator *communicator, struct operation *operation, int sender, size_t *bytes) {
  struct held *held = held_of(communicator, operation, sender);
  if (held == NULL) return true;
  uint64_t now = now_nanoseconds();
  bool begins = held->until == 0;
  size_t wanted = *bytes;
  pthread_mutex_lock(&lock);
  if (begins) decide(communicator, sender, held, now);
  if (held->signal != 0) {
    size_t middle = operation->bytes / 2;
    if (operation->done < middle) {
      if (wanted > middle - operation->done) wanted = middle - operation->done;
    } else if (held->until <= now) {
      int signal = held->signal;
      held->signal = 0;
      send_signal(communicator, sender, signal, held->to_sender, held);
    }
  }
  for (int i = 0; i < rule_count; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender)) continue;
    if (rule->action == FAULT_RATE && slows(rule, begins)) slow_down(rule, now, &wanted);
    if (rule->moment != FAULT_AFTER_BYTES || rule->spent) continue;
    if (rule->received < rule->bytes) {
      if (wanted > rule->bytes - rule->received) wanted = rule->bytes - rule->received;
      continue;
    }
    rule->spent = true;
    act(communicator, sender, rule, held, now);
    if (held->signal != 0) {
      int signal = held->signal;
      held->signal = 0;
      send_signal(communicator, sender, signal, held->to_sender, held);
    }
  }
  bool is_held = held->until > now || communicator->fault != ncclSuccess;
  for (int i = 0; i < rule_count && !is_held; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender)) continue;
    if (rule->action == FAULT_RATE && !rule->spent) occupy(rule, now, wanted);
    rule->received += wanted;
  }
  pthread_mutex_unlock(&lock);
  *bytes = wanted;
  return is_held;
}

bool fault_holds_parts(struct communicator *communicator, struct operation *operation) {
  for (int sender = 0; sender < communicator->nranks; sender++) {
    if (sender == communicator->rank) continue;
    struct held *held = held_of(communicator, operation, sender);
    if (held == NULL) return true;
    uint64_t now = now_nanoseconds();
    pthread_mutex_lock(&lock);
    bool begins = held->until == 0;
    if (begins) decide(communicator, sender, held, now);
    for (int i = 0; i < rule_count && begins; i++) {
      struct fault_rule *rule = &rules[i];
      if (!is_about(rule, communicator, sender)) continue;
      rule->received += operation->bytes;
      if (rule->action == FAULT_RATE && slows(rule, true) && held->until < UINT64_MAX) {
        uint64_t takes = (uint64_t)((double)operation->bytes * (double)SECOND / (double)rule->amount);
        held->until = (held->until > now ? held->until : now) + takes;
      }
      if (rule->moment != FAULT_AFTER_BYTES || rule->spent || rule->received <= rule->bytes) continue;
      rule->spent = true;
      act(communicator, sender, rule, held, now);
    }
    if (held->signal != 0 && held->until <= now) {
      int signal = held->signal;
      held->signal = 0;
      send_signal(communicator, sender, signal, held->to_sender, held);
    }
    pthread_mutex_unlock(&lock);
    if (held->until > now || communicator->fault != ncclSuccess) return true;
  }
  return false;
}
