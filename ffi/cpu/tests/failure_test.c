/* Aborts, deaths, leaks. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../accounts.h"
#include "harness.h"

TEST(an_abort_lets_the_stream_go_on_and_remembers_whom_it_waited_for) {
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  use_rank(0);
  void *a = device_bytes(100, 1);
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, 2));
  ncclRecv(a, 100, ncclUint8, 2, ranks.comm[0], ranks.stream[0]);
  OK(settle(ranks.comm[0]));
  OK(cudaEventRecord(event, ranks.stream[0]));
  CHECK(!idle_within(ranks.stream[0], 10));
  uint8_t awaited[3];
  OK(seqferryCpuOutstanding(ranks.comm[0], awaited, 3));
  CHECK(awaited[0] == 0 && awaited[1] == 0 && awaited[2] == 1);
  double start = seconds();
  OK(ncclCommAbort(ranks.comm[0]));
  CHECK(seconds() - start < 1);
  OK(cudaEventQuery(event));
  OK(cudaStreamQuery(ranks.stream[0]));
  memset(awaited, 9, 3);
  OK(seqferryCpuOutstanding(ranks.comm[0], awaited, 3));
  CHECK(awaited[0] == 0 && awaited[1] == 0 && awaited[2] == 1);
  CHECK_EQUAL(seqferryCpuOutstanding(ranks.comm[0], awaited, 2), 1);
  ncclResult_t state;
  CHECK_EQUAL(ncclCommGetAsyncError(ranks.comm[0], &state), ncclInvalidUsage);
  CHECK_EQUAL(ncclCommAbort(ranks.comm[0]), ncclInvalidUsage);
  CHECK_EQUAL(ncclRecv(a, 100, ncclUint8, 2, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
  OK(cudaFree(a));
  OK(ncclCommDestroy(ranks.comm[0]));
  CHECK_EQUAL(seqferryCpuOutstanding(ranks.comm[0], awaited, 3), 1);
  OK(cudaEventDestroy(event));
}

TEST(nothing_is_taken_from_a_rank_that_has_aborted_and_nothing_is_told) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(100, 1);
  use_rank(1);
  void *b = device_bytes(100, 2);
  ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
  OK(settle(ranks.comm[0]));
  OK(ncclCommAbort(ranks.comm[0]));
  use_rank(0);
  OK(cudaFree(a));
  ncclRecv(b, 100, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
  OK(settle(ranks.comm[1]));
  CHECK(!idle_within(ranks.stream[1], 100));
  OK(settle(ranks.comm[1]));
  CHECK_EQUAL(seqferryCpuLostPeer(ranks.comm[1]), -1);
  OK(ncclCommAbort(ranks.comm[1]));
  ranks_drain(&ranks);
  use_rank(1);
  CHECK(holds(b, 100, 2));
}

static void *abort_soon(void *comm) {
  sleep_ms(50);
  return (void *)(intptr_t)ncclCommAbort(comm);
}

TEST(an_abort_from_another_thread_ends_a_wait) {
  struct ranks ranks;
  ranks_open(&ranks, 2, true);
  use_rank(0);
  void *a = device_bytes(100, 1);
  OK(ncclRecv(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  pthread_t thread;
  void *answer;
  pthread_create(&thread, NULL, abort_soon, ranks.comm[0]);
  OK(cudaStreamSynchronize(ranks.stream[0]));
  pthread_join(thread, &answer);
  CHECK_EQUAL((intptr_t)answer, ncclSuccess);
  OK(ncclCommDestroy(ranks.comm[1]));
}

TEST(an_abort_from_another_thread_ends_a_join) {
  ncclUniqueId id;
  ncclComm_t comm;
  OK(ncclGetUniqueId(&id));
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 2, id, 0, nonblocking()), ncclInProgress);
  pthread_t thread;
  pthread_create(&thread, NULL, abort_soon, comm);
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(comm, &state) == ncclSuccess) CHECK_EQUAL(state, ncclInProgress);
  pthread_join(thread, NULL);
  CHECK_EQUAL(account(ACCOUNT_LIVE_COMMUNICATORS), 0);
}

static void *destroy(void *comm) { return (void *)(intptr_t)ncclCommDestroy(comm); }

TEST(destroying_waits_for_what_is_outstanding) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(100, 1);
  use_rank(1);
  void *b = device_bytes(100, 2);
  ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
  OK(settle(ranks.comm[0]));
  pthread_t thread;
  void *answer;
  pthread_create(&thread, NULL, destroy, ranks.comm[0]);
  sleep_ms(30);
  CHECK_EQUAL(account(ACCOUNT_LIVE_COMMUNICATORS), 2);
  ncclRecv(b, 100, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
  OK(settle(ranks.comm[1]));
  drain(ranks.stream[1]);
  pthread_join(thread, &answer);
  CHECK_EQUAL((intptr_t)answer, ncclSuccess);
  CHECK(holds(b, 100, 1));
  OK(ncclCommDestroy(ranks.comm[1]));
}

static void one_dies(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a;
  OK(cudaMalloc(&a, 100));
  if (rank == 2) {
    shared->flags[2] = 1;
    sleep_ms(100);
    kill(getpid(), SIGKILL);
  }
  ncclRecv(a, 100, ncclUint8, 2, one.comm, one.stream);
  ncclResult_t state = settle(one.comm);
  while (shared->flags[2] == 0) sleep_ms(1);
  double start = seconds();
  while (state == ncclSuccess && seconds() - start < 20) {
    CHECK_EQUAL(cudaStreamQuery(one.stream), cudaErrorNotReady);
    OK(ncclCommGetAsyncError(one.comm, &state));
  }
  CHECK_EQUAL(state, ncclRemoteError);
  CHECK_SENTENCE("rank 2 of 3 is gone");
  if (seconds() - start > 1.1) FAIL("the death was seen after %.2f s", seconds() - start);
  CHECK_EQUAL(seqferryCpuLostPeer(one.comm), 2);
  OK(ncclCommAbort(one.comm));
  CHECK_EQUAL(seqferryCpuLostPeer(one.comm), 2);
  OK(cudaFree(a));
  OK(cudaStreamDestroy(one.stream));
}

TEST(the_death_of_a_process_is_seen_within_a_second) { in_processes(3, one_dies, 2); }

static void dies_while_joining(int rank, int count, struct shared *shared) {
  (void)count;
  if (rank == 0) {
    OK(ncclGetUniqueId(&shared->id));
    shared->flags[0] = 1;
  }
  while (shared->flags[0] == 0) sleep_ms(1);
  ncclComm_t comm;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 3, shared->id, rank, nonblocking()), ncclInProgress);
  if (rank == 1) {
    sleep_ms(50);
    kill(getpid(), SIGKILL);
  }
  double start = seconds();
  CHECK_EQUAL(settle(comm), ncclRemoteError);
  CHECK_SENTENCE("rank 1 of 3 is gone");
  CHECK(seconds() - start < 2);
  OK(ncclCommAbort(comm));
}

TEST(a_death_while_joining_is_seen) { in_processes(2, dies_while_joining, 1); }

static void creator_is_gone(int rank, int count, struct shared *shared) {
  (void)count;
  if (rank == 0) {
    OK(ncclGetUniqueId(&shared->id));
    shared->words[0] = (uint64_t)getpid();
    shared->flags[0] = 1;
    return;
  }
  while (shared->flags[0] == 0) sleep_ms(1);
  sleep_ms(300);
  ncclComm_t comm;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 2, shared->id, 1, nonblocking()), ncclRemoteError);
  CHECK_SENTENCE("which made the unique id, has ended");
}

TEST(a_unique_id_whose_process_has_ended_is_told) { in_processes(2, creator_is_gone, -1); }

/* The exit code of a process that runs `run`. */
static int exit_code(void (*run)(void)) {
  pid_t pid = fork_child();
  if (pid == 0) {
    run();
    exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void leak_nothing(void) {
  void *a;
  OK(cudaMalloc(&a, 10));
  OK(cudaFree(a));
}

static void leak_memory(void) {
  void *a;
  OK(cudaMalloc(&a, 10));
}

static void leak_a_stream(void) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
}

static int open_files(void) {
  DIR *folder = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

/* Rank 1 joins and dies; rank 0, which made the unique id and has not joined, closes its file. */
static void dies_before_it_is_complete(int rank, int count, struct shared *shared) {
  ncclUniqueId next;
  if (rank == 1) {
    while (shared->flags[0] == 0) sleep_ms(1);
    ncclComm_t comm;
    CHECK_EQUAL(ncclCommInitRankConfig(&comm, count, shared->id, 1, nonblocking()), ncclInProgress);
    kill(getpid(), SIGKILL);
  }
  OK(ncclGetUniqueId(&shared->id));
  int files = open_files();
  shared->flags[0] = 1;
  double end = seconds() + 10;
  int more = 0;
  do {
    sleep_ms(20);
    CHECK(seconds() < end);
    /* One that nobody has joined stays open: whoever was given it may yet come. */
    OK(ncclGetUniqueId(&next));
    more++;
  } while (open_files() != files - 1 + more);
}

TEST(the_meeting_of_ranks_that_died_before_it_was_complete_is_closed_by_the_next) {
  in_processes(2, dies_before_it_is_complete, 1);
}

/* The exit handler is for the process that loaded the library, which a forked child did not: it starts itself anew. */
static void run_again(const char *test, const char *strict) {
  setenv("SEQFERRY_CPU_STRICT", strict, 1);
  execl("/proc/self/exe", "self", test, (char *)NULL);
  _exit(127);
}

TEST(helper_leaks_memory) { leak_memory(); }
TEST(helper_leaks_a_stream) { leak_a_stream(); }
TEST(helper_leaks_nothing) { leak_nothing(); }

static void strict_memory(void) { run_again("helper_leaks_memory", "1"); }
static void strict_stream(void) { run_again("helper_leaks_a_stream", "1"); }
static void strict_nothing(void) { run_again("helper_leaks_nothing", "1"); }
static void lax_memory(void) { run_again("helper_leaks_memory", "0"); }

TEST(leaks_change_the_exit_code_in_strict_mode) {
  CHECK_EQUAL(exit_code(strict_memory), 86);
  CHECK_EQUAL(exit_code(strict_stream), 86);
  CHECK_EQUAL(exit_code(strict_nothing), 0);
  CHECK_EQUAL(exit_code(lax_memory), 0);
}
