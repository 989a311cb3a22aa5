#include "fault_rules.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "errors.h"

/* The longest rule. */
#define RULE_BYTES 200

/* A whole number, and nothing after it. */
static bool read_number(const char *text, uint64_t *value) {
  if (!isdigit((unsigned char)*text)) return false;
  char *end;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return errno == 0 && *end == '\0';
}

/* A rank, or `*`. */
static bool read_rank(const char *text, int *rank) {
  uint64_t value;
  *rank = FAULT_ANY_RANK;
  if (strcmp(text, "*") == 0) return true;
  if (!read_number(text, &value) || value > INT32_MAX) return false;
  *rank = (int)value;
  return true;
}

/* What follows a mark in a text, which ends at the mark from here on; NULL where there is none. */
static char *cut(char *text, char mark) {
  char *at = strchr(text, mark);
  if (at == NULL) return NULL;
  *at = '\0';
  return at + 1;
}

static char *trim(char *text) {
  while (isspace((unsigned char)*text)) text++;
  size_t length = strlen(text);
  while (length > 0 && isspace((unsigned char)text[length - 1])) text[--length] = '\0';
  return text;
}

static const char *read_target(char *text, struct fault_rule *rule) {
  rule->rank = rule->sender = FAULT_ANY_RANK;
  char *receiver = cut(text, '>');
  if (receiver != NULL) {
    rule->target = FAULT_MESSAGE;
    return read_rank(text, &rule->sender) && read_rank(receiver, &rule->rank) ? NULL : "messages go from a rank or * to a rank or *";
  }
  char *rank = cut(text, '@');
  if (rank != NULL && !read_rank(rank, &rule->rank)) return "what follows @ is a rank";
  if (strcmp(text, "group") == 0) {
    rule->target = FAULT_GROUP;
  } else if (strcmp(text, "memory") == 0) {
    rule->target = FAULT_MEMORY;
  } else {
    rule->target = FAULT_CALL;
    rule->call = call_find(text);
    if (rule->call < 0) return "it begins with none of: a function's name, group, memory, SENDER>RECEIVER";
    if (!call_answers_code(rule->call)) return "that function answers a text and cannot fail";
  }
  return NULL;
}

static const char *read_moment(char *text, struct fault_rule *rule) {
  size_t length = strlen(text);
  char last = length == 0 ? '\0' : text[length - 1];
  rule->moment = FAULT_COUNTED;
  rule->last = UINT64_MAX;
  if (last == 'B') {
    text[length - 1] = '\0';
    rule->moment = FAULT_AFTER_BYTES;
    if (rule->target != FAULT_MESSAGE && rule->target != FAULT_MEMORY) return "only messages and memory are counted in bytes";
    return read_number(text, &rule->bytes) ? NULL : "bytes are a whole number and B";
  }
  if (rule->target == FAULT_MEMORY) return "memory is counted in bytes: a whole number and B";
  if (last == '%') {
    char *end;
    text[length - 1] = '\0';
    rule->moment = FAULT_BY_CHANCE;
    rule->chance = strtod(text, &end) / 100;
    bool is_number = isdigit((unsigned char)*text) && *end == '\0';
    return is_number && rule->chance >= 0 && rule->chance <= 1 ? NULL : "a chance is from 0% to 100%";
  }
  if (strcmp(text, "*") == 0) {
    rule->first = 1;
    return NULL;
  }
  const char *to = NULL;
  if (last == '+') {
    text[length - 1] = '\0';
  } else {
    to = cut(text, '-');
    if (to == NULL) to = text;
  }
  bool fits = read_number(text, &rule->first) && rule->first > 0 && (to == NULL || (read_number(to, &rule->last) && rule->last >= rule->first));
  return fits ? NULL : "when is one of 3, 3+, 3-5, *, 2%, 100B, counted from 1";
}

static const char *read_code(const char *text, struct fault_rule *rule) {
  rule->action = FAULT_CODE;
  bool of_nccl = rule->target == FAULT_GROUP || rule->target == FAULT_MESSAGE || (rule->target == FAULT_CALL && call_is_nccl(rule->call));
  uint64_t number;
  if (read_number(text, &number)) {
    if (number == 0 || number > 9999) return "a code is a number from 1 to 9999";
    rule->code = (int)number;
  } else {
    rule->code = of_nccl ? nccl_code(text) : cuda_code(text);
    if (rule->code <= 0) return "the action is none of: a code of the function's library, delay MS, hang, rate N, kill, stop";
  }
  if (rule->code == ncclInProgress && rule->target != FAULT_CALL && of_nccl) return "ncclInProgress is no error of a communicator";
  return NULL;
}

static const char *read_action(char *text, struct fault_rule *rule) {
  static const struct {
    const char *word;
    enum fault_action action;
    bool of_calls, of_groups, has_amount;
  } words[] = {
      {"delay", FAULT_DELAY, true, true, true},
      {"hang", FAULT_HANG, false, true, false},
      {"rate", FAULT_RATE, false, false, true},
      {"kill", FAULT_KILL, true, true, false},
      {"stop", FAULT_STOP, true, true, false},
      {"kill sender", FAULT_KILL_SENDER, false, false, false},
      {"stop sender", FAULT_STOP_SENDER, false, false, false},
  };
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    size_t length = strlen(words[i].word);
    if (strncmp(text, words[i].word, length) != 0) continue;
    const char *rest = text + length;
    if (words[i].has_amount ? *rest != ' ' : *rest != '\0') continue;
    rule->action = words[i].action;
    bool fits = rule->target == FAULT_MESSAGE || (rule->target == FAULT_CALL && words[i].of_calls) ||
                (rule->target == FAULT_GROUP && words[i].of_groups);
    if (!fits) return "that action is not for what the rule is about";
    if (!words[i].has_amount) return NULL;
    bool is_number = read_number(trim(text + length), &rule->amount) && rule->amount > 0 && rule->amount < UINT64_C(1) << 40;
    return is_number ? NULL : "delay takes milliseconds, rate takes bytes a second: a whole number, not 0";
  }
  return read_code(text, rule);
}

static const char *read_rule(char *text, struct fault_rule *rule) {
  char *action = cut(text, '=');
  char *moment = cut(text, ':');
  if (action == NULL || moment == NULL) return "a rule is WHAT:WHEN=ACTION";
  const char *wrong = read_target(trim(text), rule);
  if (wrong == NULL) wrong = read_moment(trim(moment), rule);
  if (wrong == NULL) wrong = read_action(trim(action), rule);
  if (wrong == NULL && rule->action == FAULT_RATE && rule->moment == FAULT_AFTER_BYTES) return "a rate is for whole messages";
  return wrong;
}

int fault_rules_read(const char *text, struct fault_rule *rules, char *why, size_t why_bytes) {
  int count = 0;
  uint64_t seed = 1;
  while (*text != '\0') {
    size_t length = strcspn(text, ";");
    char one[RULE_BYTES];
    snprintf(one, sizeof one, "%.*s", (int)(length < RULE_BYTES ? length : RULE_BYTES), text);
    const char *wrong = length >= RULE_BYTES ? "a rule is shorter than 200 characters" : NULL;
    char *rule = trim(one);
    if (wrong == NULL && *rule != '\0') {
      if (strncmp(rule, "seed=", 5) == 0) {
        if (!read_number(rule + 5, &seed)) wrong = "seed is a whole number";
      } else if (count == FAULT_MOST_RULES) {
        wrong = "there are more than 64 rules";
      } else {
        rules[count] = (struct fault_rule){0};
        wrong = read_rule(rule, &rules[count++]);
      }
    }
    if (wrong != NULL) {
      snprintf(why, why_bytes, "the fault \"%.*s\" cannot be read: %s", (int)(length < 80 ? length : 80), text, wrong);
      return -1;
    }
    text += length;
    if (*text == ';') text++;
  }
  /* Each rule has a generator of its own, so that what one draws does not change what another does. */
  for (int i = 0; i < count; i++) rules[i].random = seed * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)i * UINT64_C(0xd1342543de82ef95);
  return count;
}
