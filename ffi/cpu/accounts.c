/* The counters, and what is told of them at exit. */
#include "accounts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "settings.h"

/* The exit code of a process that leaks in strict mode. */
#define LEAK_EXIT_CODE 86

_Atomic uint64_t accounts[ACCOUNT_COUNT];
_Atomic uint64_t call_counts[CALL_COUNT];

static const char *const call_names[CALL_COUNT] = {
#define X(name) #name,
    SEQFERRY_CALLS(X)
#undef X
};

int seqferryCpuAbi(void) { return 1; }

void seqferryCpuAccounts(uint64_t *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = i < ACCOUNT_COUNT ? account_of((enum account)i) : 0;
}

const char *call_name(int call) { return call_names[call]; }

int call_find(const char *name) {
  for (int i = 0; i < CALL_COUNT; i++) {
    if (strcmp(call_names[i], name) == 0) return i;
  }
  return -1;
}

bool call_is_nccl(int call) { return call_names[call][0] == 'n'; }

bool call_answers_code(int call) {
  return call != CALL_cudaGetErrorName && call != CALL_cudaGetErrorString && call != CALL_ncclGetErrorString && call != CALL_ncclGetLastError;
}

int seqferryCpuCallCount(const char *function, uint64_t *out) {
  int call = call_find(function);
  if (call < 0) return 1;
  *out = atomic_load_explicit(&call_counts[call], memory_order_relaxed);
  return 0;
}

static pid_t loaded_in;

/* Runs among the last things of a process. A forked child that never used the library has its parent's counts, and says nothing. */
static void tell_leaks(void) {
  if (getpid() != loaded_in) return;
  static const struct {
    enum account account;
    const char *what;
  } kinds[] = {
      {ACCOUNT_LIVE_BYTES, "bytes of device memory"},
      {ACCOUNT_LIVE_STREAMS, "streams"},
      {ACCOUNT_LIVE_EVENTS, "events"},
      {ACCOUNT_LIVE_COMMUNICATORS, "communicators"},
  };
  const struct settings *settings = settings_get();
  if (!settings->strict && !settings->verbose) return;
  int leaks = 0;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    uint64_t left = account_of(kinds[i].account);
    if (left == 0) continue;
    leaks++;
    fprintf(stderr, "seqferry cpu: process %d ends with %" PRIu64 " %s still in use\n", (int)getpid(), left, kinds[i].what);
  }
  if (leaks > 0 && settings->strict) {
    fflush(NULL);
    _exit(LEAK_EXIT_CODE);
  }
}

__attribute__((constructor)) static void watch_exit(void) {
  loaded_in = getpid();
  atexit(tell_leaks);
}
