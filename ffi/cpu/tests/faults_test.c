/* Faults on demand: what each rule does, where and when. */
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../accounts.h"
#include "harness.h"

static void arm(const char *rules) {
  if (seqferryCpuFaults(rules) != 0) FAIL("\"%s\" was refused: %s", rules, sentence());
}

static void refuses(const char *rules, const char *words) {
  if (seqferryCpuFaults(rules) != 1) FAIL("\"%s\" was taken", rules);
  CHECK_SENTENCE(words);
}

/* ---- reading */

TEST(rules_that_cannot_be_read_are_refused_with_a_sentence_and_change_nothing) {
  void *a;
  arm("cudaMalloc:2=2");
  refuses("cudaMaloc:1=2", "begins with none of");
  refuses("cudaMalloc=2", "WHAT:WHEN=ACTION");
  refuses("cudaMalloc:1", "WHAT:WHEN=ACTION");
  refuses("cudaMalloc:0=2", "counted from 1");
  refuses("cudaMalloc:3-2=2", "counted from 1");
  refuses("cudaMalloc:x=2", "counted from 1");
  refuses("cudaMalloc:10B=2", "only messages and memory");
  refuses("cudaMalloc:1=0", "from 1 to 9999");
  refuses("cudaMalloc:1=ncclSystemError", "none of");
  refuses("ncclSend:1=cudaErrorUnknown", "none of");
  refuses("cudaMalloc:1=hang", "not for what the rule is about");
  refuses("cudaMalloc:1=rate 5", "not for what the rule is about");
  refuses("cudaMalloc:101%=2", "from 0% to 100%");
  refuses("cudaMalloc@x:1=2", "is a rank");
  refuses("0>x:1=hang", "messages go");
  refuses("0>1:*=rate 0", "not 0");
  refuses("group:1=delay", "none of");
  refuses("group:1=delay x", "whole number");
  refuses("group:1=ncclInProgress", "no error");
  refuses("memory:5=2", "counted in bytes");
  refuses("seed=x", "seed");
  refuses("cudaGetErrorName:1=2", "answers a text");
  OK(cudaMalloc(&a, 10));
  OK(cudaFree(a));
  CHECK_EQUAL(cudaMalloc(&a, 10), 2);
  arm("");
  OK(cudaMalloc(&a, 10));
  OK(cudaFree(a));
}

/* A process of its own: the environment is read once. */
TEST(rules_of_the_environment_are_armed_at_the_first_call) {
  setting("SEQFERRY_CPU_FAULTS", " ncclGetVersion:2=ncclSystemError ; cudaMalloc:1=2;");
  int version;
  void *a;
  OK(ncclGetVersion(&version));
  CHECK_EQUAL(ncclGetVersion(&version), ncclSystemError);
  CHECK_SENTENCE("ncclGetVersion: call 2 of it was told to answer 2");
  OK(ncclGetVersion(&version));
  CHECK_EQUAL(cudaMalloc(&a, 10), cudaErrorMemoryAllocation);
  CHECK_EQUAL(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST(every_call_fails_while_rules_of_the_environment_cannot_be_read) {
  setting("SEQFERRY_CPU_FAULTS", "cudaMaloc:1=2");
  int version;
  CHECK_EQUAL(cudaRuntimeGetVersion(&version), cudaErrorInitializationError);
  CHECK_EQUAL(ncclGetVersion(&version), ncclInternalError);
  CHECK_SENTENCE("begins with none of");
  arm("");
  OK(ncclGetVersion(&version));
}

/* ---- calls */

TEST(calls_fail_by_number_range_and_for_good) {
  int version;
  arm("ncclGetVersion:2-3=5;cudaRuntimeGetVersion:2+=cudaErrorUnknown;cudaDriverGetVersion:*=7");
  OK(ncclGetVersion(&version));
  CHECK_EQUAL(ncclGetVersion(&version), ncclInvalidUsage);
  CHECK_EQUAL(ncclGetVersion(&version), ncclInvalidUsage);
  OK(ncclGetVersion(&version));
  OK(cudaRuntimeGetVersion(&version));
  for (int i = 0; i < 5; i++) CHECK_EQUAL(cudaRuntimeGetVersion(&version), cudaErrorUnknown);
  for (int i = 0; i < 5; i++) CHECK_EQUAL(cudaDriverGetVersion(&version), 7);
}

TEST(calls_fail_by_chance_in_the_same_way_for_the_same_seed) {
  int version;
  uint64_t runs[3][4] = {{0}};
  const char *rules[] = {"seed=7;ncclGetVersion:25%=5", "ncclGetVersion:25%=5;seed=7", "seed=8;ncclGetVersion:25%=5"};
  int failed = 0;
  for (int run = 0; run < 3; run++) {
    arm(rules[run]);
    for (int i = 0; i < 256; i++) {
      if (ncclGetVersion(&version) == ncclSuccess) continue;
      runs[run][i / 64] |= UINT64_C(1) << i % 64;
      failed += run == 0;
    }
  }
  CHECK(memcmp(runs[0], runs[1], sizeof runs[0]) == 0);
  CHECK(memcmp(runs[0], runs[2], sizeof runs[0]) != 0);
  if (failed < 35 || failed > 95) FAIL("of 256 calls %d failed", failed);
}

TEST(a_call_takes_longer_when_told_to) {
  int version;
  arm("ncclGetVersion:2=delay 60");
  OK(ncclGetVersion(&version));
  double start = seconds();
  OK(ncclGetVersion(&version));
  CHECK(seconds() - start >= 0.06);
}

TEST(a_process_can_be_told_to_die_in_a_call) {
  pid_t pid = fork_child();
  if (pid == 0) {
    int version;
    arm("ncclGetVersion:2=kill");
    ncclGetVersion(&version);
    if (version > 0) ncclGetVersion(&version);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(calls_of_one_rank_fail_where_a_rule_names_it) {
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  arm("cudaMalloc@1:1=2");
  void *a[3];
  for (int rank = 0; rank < 3; rank++) {
    use_rank(rank);
    CHECK_EQUAL(cudaMalloc(&a[rank], 10), rank == 1 ? cudaErrorMemoryAllocation : cudaSuccess);
    if (rank != 1) OK(cudaFree(a[rank]));
  }
  ranks_close(&ranks);
}

TEST(before_a_device_is_a_rank_the_environment_says_which) {
  setting("RANK", "4");
  int version;
  arm("ncclGetVersion@3:*=5;cudaDriverGetVersion@4:*=5");
  OK(ncclGetVersion(&version));
  CHECK_EQUAL(cudaDriverGetVersion(&version), 5);
}

TEST(a_group_fails_with_a_call_within_it_and_is_closed_by_a_failing_end) {
  struct ranks ranks;
  ranks_open(&ranks, 2, true);
  use_rank(0);
  void *a = device_bytes(100, 1);
  arm("ncclSend:1=ncclSystemError;ncclGroupEnd:2=ncclInternalError");
  OK(ncclGroupStart());
  CHECK_EQUAL(ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclSystemError);
  OK(ncclRecv(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  CHECK_EQUAL(ncclGroupEnd(), ncclSystemError);
  OK(ncclGroupStart());
  OK(ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  CHECK_EQUAL(ncclGroupEnd(), ncclInternalError);
  CHECK_SENTENCE("ncclGroupEnd: call 2");
  CHECK_EQUAL(account(ACCOUNT_OUTSTANDING_GROUPS), 0);
  OK(cudaStreamSynchronize(ranks.stream[0]));
  OK(cudaFree(a));
  ranks_close(&ranks);
}

/* ---- memory */

TEST(memory_runs_out_after_some_bytes_and_comes_back_when_freed) {
  void *first, *a, *b;
  OK(cudaMalloc(&first, 4096));
  arm("memory:8192B=2");
  OK(cudaMalloc(&a, 8192));
  CHECK_EQUAL(cudaMalloc(&b, 1), cudaErrorMemoryAllocation);
  CHECK_SENTENCE("told to be refused");
  CHECK_EQUAL(cudaMallocAsync(&b, 1, NULL), cudaErrorMemoryAllocation);
  OK(cudaFree(a));
  OK(cudaMalloc(&b, 8000));
  OK(cudaFree(b));
  OK(cudaFree(first));
}

/* ---- groups and messages between ranks of one thread */

struct transfer {
  struct ranks ranks;
  void *from, *to;
};

/* Rank 0 has what rank 1 is to get. */
static void transfer_open(struct transfer *transfer, size_t bytes) {
  ranks_open(&transfer->ranks, 2, false);
  use_rank(0);
  transfer->from = device_bytes(bytes, 1);
  use_rank(1);
  transfer->to = device_bytes(bytes, 2);
}

static void transfer_issue(struct transfer *transfer, size_t bytes) {
  use_rank(0);
  ncclSend(transfer->from, bytes, ncclUint8, 1, transfer->ranks.comm[0], transfer->ranks.stream[0]);
  use_rank(1);
  ncclRecv(transfer->to, bytes, ncclUint8, 0, transfer->ranks.comm[1], transfer->ranks.stream[1]);
  for (int rank = 0; rank < 2; rank++) {
    ncclResult_t state;
    do {
      OK(ncclCommGetAsyncError(transfer->ranks.comm[rank], &state));
    } while (state == ncclInProgress);
  }
}

/* Aborts what is left and frees all. */
static void transfer_abort(struct transfer *transfer) {
  for (int rank = 0; rank < 2; rank++) OK(ncclCommAbort(transfer->ranks.comm[rank]));
  ranks_drain(&transfer->ranks);
  use_rank(0);
  OK(cudaFree(transfer->from));
  use_rank(1);
  OK(cudaFree(transfer->to));
  for (int rank = 0; rank < 2; rank++) OK(cudaStreamDestroy(transfer->ranks.stream[rank]));
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
}

TEST(a_group_starts_later_when_told_to) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("group@1:2=delay 80");
  transfer_issue(&transfer, 1000);
  ranks_drain(&transfer.ranks);
  double start = seconds();
  transfer_issue(&transfer, 1000);
  ranks_drain(&transfer.ranks);
  CHECK(seconds() - start >= 0.08);
  use_rank(1);
  CHECK(holds(transfer.to, 1000, 1));
  transfer_abort(&transfer);
}

TEST(a_group_that_hangs_ends_with_the_abort) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("group@0:1=hang");
  transfer_issue(&transfer, 1000);
  CHECK(!idle_within(transfer.ranks.stream[0], 60));
  CHECK(!idle_within(transfer.ranks.stream[1], 10));
  transfer_abort(&transfer);
}

TEST(what_is_held_goes_on_when_faults_are_disarmed) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("group@0:1=hang;0>1:1=hang");
  transfer_issue(&transfer, 1000);
  CHECK(!idle_within(transfer.ranks.stream[0], 30));
  arm("");
  ranks_drain(&transfer.ranks);
  use_rank(1);
  CHECK(holds(transfer.to, 1000, 1));
  transfer_abort(&transfer);
}

TEST(a_group_can_be_told_to_fail_its_communicator) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("group@1:1=ncclSystemError");
  transfer_issue(&transfer, 1000);
  ncclResult_t state;
  CHECK(!idle_within(transfer.ranks.stream[1], 20));
  OK(ncclCommGetAsyncError(transfer.ranks.comm[1], &state));
  CHECK_EQUAL(state, ncclSystemError);
  OK(ncclCommGetAsyncError(transfer.ranks.comm[0], &state));
  CHECK_EQUAL(state, ncclSuccess);
  transfer_abort(&transfer);
}

TEST(a_link_drops_what_comes_after_some_messages) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("0>1:3+=hang");
  for (int i = 0; i < 2; i++) {
    transfer_issue(&transfer, 1000);
    ranks_drain(&transfer.ranks);
  }
  CHECK_EQUAL(account(ACCOUNT_RECEIVES), 2);
  use_rank(1);
  fill(transfer.to, 1000, 2);
  transfer_issue(&transfer, 1000);
  CHECK(!idle_within(transfer.ranks.stream[1], 60));
  CHECK_EQUAL(account(ACCOUNT_RECEIVES), 2);
  OK(ncclCommAbort(transfer.ranks.comm[1]));
  drain(transfer.ranks.stream[1]);
  CHECK(holds(transfer.to, 1000, 2));
  OK(ncclCommAbort(transfer.ranks.comm[0]));
}

TEST(a_link_of_other_ranks_is_not_touched) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("1>0:*=hang;0>2:*=hang;*>0:*=ncclSystemError");
  transfer_issue(&transfer, 1000);
  ranks_drain(&transfer.ranks);
  transfer_abort(&transfer);
}

TEST(a_link_is_as_slow_as_told) {
  struct transfer transfer;
  size_t bytes = 300000;
  transfer_open(&transfer, bytes);
  arm("*>1:*=rate 1000000");
  double start = seconds();
  transfer_issue(&transfer, bytes);
  ranks_drain(&transfer.ranks);
  double took = seconds() - start;
  if (took < 0.2 || took > 2) FAIL("300000 bytes at 1000000 a second took %.3f s", took);
  use_rank(1);
  CHECK(holds(transfer.to, bytes, 1));
  transfer_abort(&transfer);
}

TEST(a_message_comes_later_when_told_to) {
  struct transfer transfer;
  transfer_open(&transfer, 0);
  arm("0>1:1=delay 70");
  double start = seconds();
  transfer_issue(&transfer, 0);
  ranks_drain(&transfer.ranks);
  CHECK(seconds() - start >= 0.07);
  transfer_abort(&transfer);
}

TEST(a_message_stops_after_the_bytes_told) {
  struct transfer transfer;
  transfer_open(&transfer, 1000);
  arm("0>1:1300B=hang");
  transfer_issue(&transfer, 1000);
  ranks_drain(&transfer.ranks);
  use_rank(1);
  fill(transfer.to, 1000, 2);
  transfer_issue(&transfer, 1000);
  CHECK(!idle_within(transfer.ranks.stream[1], 40));
  for (int rank = 0; rank < 2; rank++) OK(ncclCommAbort(transfer.ranks.comm[rank]));
  ranks_drain(&transfer.ranks);
  unsigned char got[1000], all[1000];
  OK(cudaMemcpy(got, transfer.to, 1000, cudaMemcpyDeviceToHost));
  OK(cudaMemcpy(all, transfer.from, 1000, cudaMemcpyDeviceToHost));
  CHECK(memcmp(got, all, 300) == 0);
  fill(transfer.from, 1000, 2);
  OK(cudaMemcpy(all, transfer.from, 1000, cudaMemcpyDeviceToHost));
  CHECK(memcmp(got + 300, all + 300, 700) == 0);
}

/* All kinds of collectives at once: whichever needs bytes of rank 2 does not end on rank 0. */
static void collective(struct ranks *ranks, int which, void **a, void **b) {
  for (int rank = 0; rank < ranks->count; rank++) {
    use_rank(rank);
    ncclComm_t comm = ranks->comm[rank];
    cudaStream_t stream = ranks->stream[rank];
    if (which == 0) ncclBroadcast(a[rank], b[rank], 64, ncclUint8, 2, comm, stream);
    if (which == 1) ncclAllGather(a[rank], b[rank], 64, ncclUint8, comm, stream);
    if (which == 2) ncclAllReduce(a[rank], b[rank], 64, ncclUint8, ncclSum, comm, stream);
  }
}

TEST(links_carry_collectives_too) {
  for (int which = 0; which < 3; which++) {
    struct ranks ranks;
    ranks_open(&ranks, 3, true);
    void *a[3], *b[3];
    for (int rank = 0; rank < 3; rank++) {
      use_rank(rank);
      a[rank] = device_bytes(64, rank);
      b[rank] = device_bytes(192, 9);
    }
    arm("2>0:1=delay 40;2>0:2=hang");
    double start = seconds();
    collective(&ranks, which, a, b);
    ranks_drain(&ranks);
    CHECK(seconds() - start >= 0.04);
    collective(&ranks, which, a, b);
    CHECK(!idle_within(ranks.stream[0], 40));
    for (int rank = 0; rank < 3; rank++) OK(ncclCommAbort(ranks.comm[rank]));
    ranks_drain(&ranks);
    arm("");
  }
}

/* ---- deaths and stops in the middle */

#define PART ((size_t)1 << 20)

static void receiver_dies(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a = device_bytes(PART, rank);
  double start = seconds();
  if (rank == 1) {
    arm("0>1:1=kill");
    ncclRecv(a, PART, ncclUint8, 0, one.comm, one.stream);
    drain(one.stream);
    FAIL("it lives");
  }
  ncclSend(a, PART, ncclUint8, 1, one.comm, one.stream);
  /* The other may be gone by then. */
  ncclResult_t state = settle(one.comm);
  while (state == ncclSuccess && seconds() - start < 20) {
    CHECK_EQUAL(cudaStreamQuery(one.stream), cudaErrorNotReady);
    OK(ncclCommGetAsyncError(one.comm, &state));
  }
  CHECK_EQUAL(state, ncclRemoteError);
  CHECK_EQUAL(seqferryCpuLostPeer(one.comm), 1);
  if (seconds() - start > 1.5) FAIL("the death was seen after %.2f s", seconds() - start);
  OK(ncclCommAbort(one.comm));
  drain(one.stream);
  CHECK(holds(a, PART, 0));
  OK(cudaFree(a));
  OK(cudaStreamDestroy(one.stream));
}

TEST(a_receiver_that_dies_in_the_middle_of_a_copy_is_seen) { in_processes(2, receiver_dies, 1); }

/* The survivor is in one group with the dead and with another, and that one's part goes on for long. */
static void sender_dies(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a = device_bytes(PART, rank), *b = device_bytes(PART, 9);
  if (rank == 0) {
    arm("1>0:1=kill sender;2>0:1=rate 200000");
    double start = seconds();
    OK(ncclGroupStart());
    OK(ncclRecv(a, PART, ncclUint8, 1, one.comm, one.stream));
    OK(ncclRecv(b, PART, ncclUint8, 2, one.comm, one.stream));
    ncclResult_t state = ncclGroupEnd();
    while ((state == ncclSuccess || state == ncclInProgress) && seconds() - start < 20) {
      cudaStreamQuery(one.stream);
      OK(ncclCommGetAsyncError(one.comm, &state));
    }
    CHECK_EQUAL(state, ncclRemoteError);
    CHECK_SENTENCE("rank 1 of 3 is gone");
    if (seconds() - start > 1.2) FAIL("the death was seen after %.2f s", seconds() - start);
  } else {
    ncclSend(a, PART, ncclUint8, 0, one.comm, one.stream);
    if (settle(one.comm) == ncclSuccess) idle_within(one.stream, 1200);
  }
  OK(ncclCommAbort(one.comm));
}

TEST(a_sender_that_dies_in_the_middle_of_a_group_is_seen) { in_processes(3, sender_dies, 1); }

/* A sender that dies while a slow copy of its memory goes on, and a root of a broadcast. */
static void source_dies(int rank, int count, struct shared *shared, bool broadcast) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a = device_bytes(PART, rank);
  arm(rank == 0 ? "1>0:*=rate 200000" : "");
  ncclResult_t state = broadcast ? ncclBroadcast(a, a, PART, ncclUint8, 1, one.comm, one.stream)
                       : rank == 0 ? ncclRecv(a, PART, ncclUint8, 1, one.comm, one.stream)
                                   : ncclSend(a, PART, ncclUint8, 0, one.comm, one.stream);
  CHECK(state == ncclSuccess || state == ncclInProgress || state == ncclRemoteError);
  double start = seconds();
  while (seconds() - start < 0.3) {
    cudaStreamQuery(one.stream);
    OK(ncclCommGetAsyncError(one.comm, &state));
  }
  if (rank == 1) kill(getpid(), SIGKILL);
  while ((state == ncclSuccess || state == ncclInProgress) && seconds() - start < 20) {
    cudaStreamQuery(one.stream);
    OK(ncclCommGetAsyncError(one.comm, &state));
  }
  CHECK_EQUAL(state, ncclRemoteError);
  if (seconds() - start > 1.5) FAIL("the death was seen after %.2f s", seconds() - start - 0.3);
  OK(ncclCommAbort(one.comm));
}

static void sender_of_a_slow_copy(int rank, int count, struct shared *shared) { source_dies(rank, count, shared, false); }
static void root_of_a_slow_copy(int rank, int count, struct shared *shared) { source_dies(rank, count, shared, true); }

TEST(the_death_of_a_sender_is_seen_while_its_memory_is_copied) { in_processes(2, sender_of_a_slow_copy, 1); }
TEST(the_death_of_a_root_is_seen_while_its_memory_is_copied) { in_processes(2, root_of_a_slow_copy, 1); }

/* Rank 1 stops in the middle of a copy from rank 0; the others abort, come together anew, use the memory again, and then wake it. */
static void wakes_late(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a = device_bytes(PART, rank);
  if (rank == 1) {
    void *b = device_bytes(PART, 9);
    shared->words[1] = (uint64_t)getpid();
    arm("0>1:1=stop");
    OK(ncclGroupStart());
    OK(ncclRecv(b, PART, ncclUint8, 0, one.comm, one.stream));
    OK(ncclSend(a, PART, ncclUint8, 2, one.comm, one.stream));
    ncclGroupEnd();
    /* It wakes here, or in a thread of the library. Its peers have left: nothing of theirs is taken for good. */
    CHECK(!idle_within(one.stream, 300));
    OK(ncclCommAbort(one.comm));
    drain(one.stream);
    CHECK(holds(a, PART, 1));
    shared->flags[1] = 1;
    return;
  }
  if (rank == 0) {
    ncclSend(a, PART, ncclUint8, 1, one.comm, one.stream);
  } else {
    /* Nothing of rank 1 comes before it is stopped, or all: either is fine. */
    ncclRecv(a, PART, ncclUint8, 1, one.comm, one.stream);
  }
  OK(settle(one.comm));
  idle_within(one.stream, 300);
  if (rank == 0) CHECK_EQUAL(cudaStreamQuery(one.stream), cudaErrorNotReady);
  ncclResult_t state;
  OK(ncclCommGetAsyncError(one.comm, &state));
  CHECK_EQUAL(state, ncclSuccess);
  OK(ncclCommAbort(one.comm));
  OK(cudaStreamDestroy(one.stream));
  OK(cudaFree(a));
  /* Anew, the two of them. */
  int fresh = rank / 2;
  if (rank == 0) {
    OK(ncclGetUniqueId(&shared->id));
    shared->flags[0] = 1;
  }
  while (shared->flags[0] == 0) sleep_ms(1);
  OK(cudaStreamCreateWithFlags(&one.stream, 1));
  CHECK_EQUAL(ncclCommInitRankConfig(&one.comm, 2, shared->id, fresh, nonblocking()), ncclInProgress);
  OK(settle(one.comm));
  a = device_bytes(PART, 20 + fresh);
  void *b = device_bytes(PART, 9);
  for (int round = 0; round < 40; round++) {
    if (rank == 0 && round == 5) kill((pid_t)shared->words[1], SIGCONT);
    OK(ncclGroupStart());
    OK(ncclSend(a, PART, ncclUint8, 1 - fresh, one.comm, one.stream));
    OK(ncclRecv(b, PART, ncclUint8, 1 - fresh, one.comm, one.stream));
    state = ncclGroupEnd();
    CHECK(state == ncclInProgress || state == ncclSuccess);
    OK(settle(one.comm));
    drain(one.stream);
    CHECK(holds(b, PART, 20 + 1 - fresh));
    CHECK(holds(a, PART, 20 + fresh));
    sleep_ms(10);
  }
  for (int i = 0; i < 5000 && shared->flags[1] == 0; i++) sleep_ms(1);
  CHECK_EQUAL(shared->flags[1], 1);
  CHECK(holds(a, PART, 20 + fresh));
  CHECK(holds(b, PART, 20 + 1 - fresh));
  OK(cudaFree(a));
  OK(cudaFree(b));
  one_close(&one);
}

TEST(a_stopped_peer_that_wakes_after_others_came_together_anew_harms_nothing) { in_processes(3, wakes_late, -1); }

/* ---- what is left */

static int open_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

static int shared_mappings(void) {
  int count = 0;
  char line[1024];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps) != NULL) count += strstr(line, "seqferry") != NULL;
  fclose(maps);
  return count;
}

static int named_leftovers(void) {
  int count = 0;
  DIR *folder = opendir("/dev/shm");
  if (folder == NULL) return 0;
  for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) count += strstr(entry->d_name, "seqferry") != NULL;
  closedir(folder);
  return count;
}

/* Rank 0 keeps the unique id's file open, which rank 1 never lets go of in order. */
static void dies_in_a_copy(int rank, int count, struct shared *shared) {
  OK(cudaSetDevice(rank));
  void *a = device_bytes(PART, rank);
  int descriptors = open_descriptors(), mappings = shared_mappings();
  struct one one;
  one_open(&one, rank, count, shared, false);
  if (rank == 0) {
    ncclSend(a, PART, ncclUint8, 1, one.comm, one.stream);
  } else {
    arm("0>1:1=kill");
    ncclRecv(a, PART, ncclUint8, 0, one.comm, one.stream);
  }
  ncclResult_t state = settle(one.comm);
  for (double start = seconds(); state == ncclSuccess && seconds() - start < 20;) {
    cudaStreamQuery(one.stream);
    OK(ncclCommGetAsyncError(one.comm, &state));
  }
  CHECK_EQUAL(state, ncclRemoteError);
  OK(ncclCommAbort(one.comm));
  drain(one.stream);
  OK(ncclCommDestroy(one.comm));
  OK(cudaStreamDestroy(one.stream));
  OK(cudaFree(a));
  CHECK_EQUAL(open_descriptors(), descriptors);
  CHECK_EQUAL(shared_mappings(), mappings);
  CHECK_EQUAL(named_leftovers(), 0);
}

TEST(a_process_that_dies_leaves_no_files_and_its_peer_no_descriptors_or_mappings) { in_processes(2, dies_in_a_copy, 1); }

static void dies_before_joining(int rank, int count, struct shared *shared) {
  (void)count;
  OK(cudaSetDevice(rank));
  void *a = device_bytes(100, rank);
  int descriptors = open_descriptors();
  if (rank == 0) {
    OK(ncclGetUniqueId(&shared->id));
    shared->flags[0] = 1;
  }
  while (shared->flags[0] == 0) sleep_ms(1);
  if (rank == 1) {
    ncclComm_t none;
    arm("ncclCommInitRankConfig:1=kill");
    ncclCommInitRankConfig(&none, 2, shared->id, rank, nonblocking());
  }
  ncclComm_t comm;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 2, shared->id, rank, nonblocking()), ncclInProgress);
  sleep_ms(100);
  ncclResult_t state;
  OK(ncclCommGetAsyncError(comm, &state));
  CHECK_EQUAL(state, ncclInProgress);
  OK(ncclCommAbort(comm));
  OK(ncclCommDestroy(comm));
  OK(cudaFree(a));
  CHECK_EQUAL(open_descriptors(), descriptors);
}

TEST(a_join_that_never_comes_about_leaves_nothing) { in_processes(2, dies_before_joining, 1); }
