/*
 * Faults of messages, where they are received: held back, slowed down, cut short, and processes that end or stop in the middle of a copy.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "communicator.h"
#include "fault_rules.h"
#include "faults.h"
#include "group.h"
#include "process.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
/* A slow link carries a hundredth of a second's bytes in one go, and catches up with what it missed in this time. */
#define RATE_PORTIONS 100
#define RATE_CATCHES_UP (50 * MILLISECOND)

static struct held *held_of(struct communicator *communicator, struct operation *operation, int sender) {
  if (operation->held == NULL) operation->held = calloc((size_t)communicator->nranks, sizeof *operation->held);
  if (operation->held != NULL) return &operation->held[sender];
  communicator_fail(communicator, ncclSystemError, "the host's memory is used up");
  return NULL;
}

/* ---- all that follows has the rules taken */

static bool is_about(const struct fault_rule *rule, const struct communicator *communicator, int sender) {
  return rule->target == FAULT_MESSAGE && fault_is_rank(rule->sender, sender) && fault_is_rank(rule->rank, communicator->rank);
}

/* Does what a rule says of a message; a signal is only made ready. */
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
      held->signal = fault_signal(rule->action);
      held->to_sender = rule->action == FAULT_KILL_SENDER || rule->action == FAULT_STOP_SENDER;
  }
}

/* Counts a message that begins, for all rules but those on rates, and decides what becomes of it. */
static void decide(struct communicator *communicator, int sender, struct fault_rule *rules, int count, struct held *held, uint64_t now) {
  held->until = 1;
  for (int i = 0; i < count; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender) || rule->action == FAULT_RATE || rule->moment == FAULT_AFTER_BYTES) continue;
    if (fault_holds_now(rule)) act(communicator, sender, rule, held, now);
  }
}

/* Sends the signal that was made ready. */
static void send_signal(const struct communicator *communicator, int sender, struct held *held) {
  int number = held->signal;
  if (number == 0) return;
  held->signal = 0;
  /* What comes from a process that dies does not come whole. */
  if (number == SIGKILL) held->until = UINT64_MAX;
  /* A signal to oneself goes to this very thread: it takes effect before the next byte. */
  if (held->to_sender) kill(communicator->world->ranks[sender].pid, number);
  else raise(number);
}

/* Whether a rule on rates holds for the message under way: it counts messages when they begin. */
static bool slows(struct fault_rule *rule, bool begins) {
  if (begins) rule->spent = !fault_holds_now(rule);
  return !rule->spent;
}

static uint64_t time_for(const struct fault_rule *rule, size_t bytes) {
  return (uint64_t)((double)bytes * (double)SECOND / (double)rule->amount);
}

/* Makes `bytes` as few as a slow link carries now. */
static void slow_down(const struct fault_rule *rule, uint64_t now, size_t *bytes) {
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
  rule->busy_until += time_for(rule, bytes);
}

/* Does what all rules say of a message that is under way; makes `bytes` as few as may be copied now. Whether it is held back. */
static bool pass(struct communicator *communicator, const struct operation *operation, int sender, struct held *held, size_t *bytes) {
  int count;
  struct fault_rule *rules = fault_rules_take(&count);
  uint64_t now = now_nanoseconds();
  bool begins = held->until == 0;
  if (begins) decide(communicator, sender, rules, count, held, now);
  /* What the helper was given before faults were armed goes past them. */
  size_t middle = (operation->bytes - operation->shared) / 2;
  if (held->signal != 0 && operation->done < middle) {
    if (*bytes > middle - operation->done) *bytes = middle - operation->done;
  } else if (held->until <= now) {
    send_signal(communicator, sender, held);
  }
  for (int i = 0; i < count; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender)) continue;
    if (rule->action == FAULT_RATE && slows(rule, begins)) slow_down(rule, now, bytes);
    if (rule->moment != FAULT_AFTER_BYTES || rule->spent) continue;
    if (rule->received < rule->bytes) {
      if (*bytes > rule->bytes - rule->received) *bytes = rule->bytes - rule->received;
      continue;
    }
    rule->spent = true;
    act(communicator, sender, rule, held, now);
    send_signal(communicator, sender, held);
  }
  bool is_held = held->until > now || communicator->fault != ncclSuccess;
  for (int i = 0; i < count && !is_held; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender)) continue;
    if (rule->action == FAULT_RATE && !rule->spent) occupy(rule, now, *bytes);
    rule->received += *bytes;
  }
  fault_rules_release();
  return is_held;
}

/* The same for a message that is read whole, or not yet: what would come in its middle comes before it. */
static bool pass_whole(struct communicator *communicator, const struct operation *operation, int sender, struct held *held) {
  int count;
  struct fault_rule *rules = fault_rules_take(&count);
  uint64_t now = now_nanoseconds();
  bool begins = held->until == 0;
  if (begins) decide(communicator, sender, rules, count, held, now);
  for (int i = 0; i < count && begins; i++) {
    struct fault_rule *rule = &rules[i];
    if (!is_about(rule, communicator, sender)) continue;
    rule->received += operation->bytes;
    if (rule->action == FAULT_RATE && slows(rule, true) && held->until < UINT64_MAX) {
      held->until = (held->until > now ? held->until : now) + time_for(rule, operation->bytes);
    }
    if (rule->moment != FAULT_AFTER_BYTES || rule->spent || rule->received <= rule->bytes) continue;
    rule->spent = true;
    act(communicator, sender, rule, held, now);
  }
  if (held->until <= now) send_signal(communicator, sender, held);
  fault_rules_release();
  return held->until > now || communicator->fault != ncclSuccess;
}

/* ---- where messages are received */

bool fault_holds_message(struct communicator *communicator, struct operation *operation, int sender, size_t *bytes) {
  struct held *held = held_of(communicator, operation, sender);
  return held == NULL || pass(communicator, operation, sender, held, bytes);
}

bool fault_holds_parts(struct communicator *communicator, struct operation *operation) {
  for (int sender = 0; sender < communicator->nranks; sender++) {
    if (sender == communicator->rank) continue;
    struct held *held = held_of(communicator, operation, sender);
    if (held == NULL || pass_whole(communicator, operation, sender, held)) return true;
  }
  return false;
}
