/* A small harness: every test runs in a process of its own, which the runner starts with the test's name. */
#ifndef SEQFERRY_CPU_TESTS_HARNESS_H
#define SEQFERRY_CPU_TESTS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../api.h"

void harness_add(const char *name, void (*run)(void));
_Noreturn void harness_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Defines a test. Its name says what holds. */
#define TEST(name)                                                                 \
  static void name(void);                                                          \
  __attribute__((constructor)) static void add_##name(void) { harness_add(#name, name); } \
  static void name(void)

#define FAIL(...) harness_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition)                                 \
  do {                                                   \
    if (!(condition)) FAIL("%s does not hold", #condition); \
  } while (0)
#define CHECK_EQUAL(actual, expected)                                                            \
  do {                                                                                           \
    long long actual_ = (long long)(actual), expected_ = (long long)(expected);                  \
    if (actual_ != expected_) FAIL("%s is %lld, not %lld; last error: %s", #actual, actual_, expected_, sentence()); \
  } while (0)
/* A call that answers success. */
#define OK(call) CHECK_EQUAL(call, 0)
/* The last error's sentence holds these words. */
#define CHECK_SENTENCE(words)                                                                   \
  do {                                                                                          \
    if (strstr(sentence(), words) == NULL) FAIL("\"%s\" does not say \"%s\"", sentence(), words); \
  } while (0)

const char *sentence(void);
uint64_t account(int which);
double seconds(void);
void sleep_ms(int milliseconds);

/* Forks a process that dies with this one, also when it is stopped. */
pid_t fork_child(void);

/* Sets an environment variable; before the first call into the library. */
void setting(const char *name, const char *value);

/* A config of a nonblocking communicator. */
ncclConfig_t *nonblocking(void);
/* Seconds. Long, for two cores with many ranks under a sanitizer; a test that hangs fails all the same. */
#define LONGEST_WAIT 60
/* Polls until a communicator's state is no longer ncclInProgress; answers it. Fails after LONGEST_WAIT. */
ncclResult_t settle(ncclComm_t comm);
/* Polls until a stream is idle. Fails after LONGEST_WAIT. */
void drain(cudaStream_t stream);
/* Whether a stream is idle after being polled for some milliseconds. */
bool idle_within(cudaStream_t stream, int milliseconds);

/* Device memory filled with a pattern that depends on `seed`, and the check that it holds that pattern. */
void *device_bytes(size_t bytes, int seed);
void fill(void *device, size_t bytes, int seed);
bool holds(const void *device, size_t bytes, int seed);

/* Ranks that live in this thread, each on an instance of device 0 of its own. */
#define MOST_RANKS 64
struct ranks {
  int count;
  ncclComm_t comm[MOST_RANKS];
  cudaStream_t stream[MOST_RANKS];
};
void use_rank(int rank);
void ranks_open(struct ranks *ranks, int count, bool blocking);
void ranks_drain(const struct ranks *ranks);
void ranks_close(struct ranks *ranks);

/* Runs `run(rank, count, id)` in as many processes and waits for them; fails unless each exits with 0 (or was to be killed). */
struct shared {
  ncclUniqueId id;
  _Atomic int flags[MOST_RANKS];
  uint64_t words[MOST_RANKS];
};
void in_processes(int count, void (*run)(int rank, int count, struct shared *shared), int killed_rank);
/* One rank in a process of its own. */
struct one {
  ncclComm_t comm;
  cudaStream_t stream;
};
void one_open(struct one *one, int rank, int count, struct shared *shared, bool blocking);
void one_close(struct one *one);

#endif
