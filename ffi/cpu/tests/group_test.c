/* Groups, states of communicators, and what is refused. */
#include <pthread.h>

#include "../accounts.h"
#include "harness.h"

TEST(a_group_without_a_start_is_refused) {
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidUsage);
  CHECK_SENTENCE("without an ncclGroupStart");
  OK(ncclGroupStart());
  OK(ncclGroupStart());
  OK(ncclGroupEnd());
  OK(ncclGroupEnd());
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidUsage);
}

static void *in_another_thread(void *stream) { return (void *)(intptr_t)cudaStreamQuery(stream); }

TEST(a_group_left_open_is_told_at_the_next_wait_of_its_thread) {
  struct ranks ranks;
  ranks_open(&ranks, 1, false);
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, 2));
  OK(ncclGroupStart());
  CHECK_EQUAL(cudaStreamQuery(ranks.stream[0]), cudaErrorNotPermitted);
  CHECK_SENTENCE("left open");
  CHECK_EQUAL(cudaStreamSynchronize(ranks.stream[0]), cudaErrorNotPermitted);
  CHECK_EQUAL(cudaEventQuery(event), cudaErrorNotPermitted);
  CHECK_EQUAL(ncclCommFinalize(ranks.comm[0]), ncclInvalidUsage);
  pthread_t thread;
  void *answer;
  pthread_create(&thread, NULL, in_another_thread, ranks.stream[0]);
  pthread_join(thread, &answer);
  CHECK_EQUAL((intptr_t)answer, cudaSuccess);
  OK(ncclGroupEnd());
  OK(cudaStreamQuery(ranks.stream[0]));
  CHECK_EQUAL(account(ACCOUNT_VIOLATIONS), 4);
  OK(cudaEventDestroy(event));
  ranks_close(&ranks);
}

TEST(an_error_within_a_group_drops_the_group) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(100, 1);
  OK(ncclGroupStart());
  OK(ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  CHECK_EQUAL(ncclSend(a, 100, ncclUint8, 2, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_SENTENCE("ranks are 0 to 1");
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidArgument);
  CHECK_EQUAL(account(ACCOUNT_OUTSTANDING_GROUPS), 0);
  CHECK_EQUAL(ncclSend(a, 101, ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_SENTENCE("beyond the allocation");
  CHECK_EQUAL(ncclSend(a, 1, 12, 1, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_EQUAL(ncclSend(a, SIZE_MAX / 2, ncclInt64, 1, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_EQUAL(ncclSend(a, 1, ncclUint8, 1, ranks.comm[0], ranks.stream[1]), ncclInvalidArgument);
  CHECK_EQUAL(ncclSend(a, 1, ncclUint8, 1, (ncclComm_t)(uintptr_t)77, ranks.stream[0]), ncclInvalidArgument);
  OK(cudaFree(a));
  ranks_close(&ranks);
}

TEST(blocking_and_nonblocking_communicators_do_not_share_a_group) {
  struct ranks one, other;
  ranks_open(&one, 2, false);
  ranks_open(&other, 2, true);
  use_rank(0);
  void *a = device_bytes(10, 1);
  OK(ncclGroupStart());
  OK(ncclSend(a, 10, ncclUint8, 1, one.comm[0], one.stream[0]));
  OK(ncclSend(a, 10, ncclUint8, 1, other.comm[0], other.stream[0]));
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidArgument);
  CHECK_SENTENCE("blocking and on nonblocking");
  OK(cudaFree(a));
  ranks_close(&one);
  ranks_close(&other);
}

TEST(a_nonblocking_group_is_settled_before_anything_else_is_asked) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(10, 1);
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, 2));
  CHECK_EQUAL(ncclSend(a, 10, ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclInProgress);
  CHECK_EQUAL(ncclSend(a, 10, ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
  CHECK_SENTENCE("still being enqueued");
  CHECK_EQUAL(cudaEventRecord(event, ranks.stream[0]), cudaErrorNotPermitted);
  OK(settle(ranks.comm[0]));
  OK(cudaEventRecord(event, ranks.stream[0]));
  CHECK_EQUAL(cudaEventQuery(event), cudaErrorNotReady);
  use_rank(1);
  void *b = device_bytes(10, 2);
  CHECK_EQUAL(ncclRecv(b, 10, ncclUint8, 0, ranks.comm[1], ranks.stream[1]), ncclInProgress);
  OK(settle(ranks.comm[1]));
  ranks_drain(&ranks);
  OK(cudaEventQuery(event));
  OK(cudaEventDestroy(event));
  OK(cudaFree(a));
  OK(cudaFree(b));
  ranks_close(&ranks);
}

TEST(calls_that_synchronize_the_device_are_refused_under_an_outstanding_group) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(10, 1), *x;
  char own[10];
  ncclSend(a, 10, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
  OK(settle(ranks.comm[0]));
  CHECK_EQUAL(cudaMalloc(&x, 10), cudaErrorNotPermitted);
  CHECK_SENTENCE("cudaMalloc synchronizes device 0 implicitly while 1 group of NCCL calls is outstanding");
  CHECK_EQUAL(cudaFree(a), cudaErrorNotPermitted);
  CHECK_EQUAL(cudaHostAlloc(&x, 10, 0), cudaErrorNotPermitted);
  CHECK_EQUAL(cudaFreeHost(own), cudaErrorNotPermitted);
  CHECK_EQUAL(cudaStreamSynchronize(ranks.stream[0]), cudaErrorNotPermitted);
  CHECK_EQUAL(cudaDeviceSynchronize(), cudaErrorNotPermitted);
  CHECK_EQUAL(account(ACCOUNT_VIOLATIONS), 6);
  OK(cudaHostRegister(own, 10, 0));
  OK(cudaHostUnregister(own));
  cudaStream_t other;
  OK(cudaStreamCreateWithFlags(&other, 1));
  OK(cudaMallocAsync(&x, 10, other));
  OK(cudaFreeAsync(x, other));
  /* Another instance of the device is another rank's affair. */
  use_rank(1);
  void *b = device_bytes(10, 1);
  OK(cudaDeviceSynchronize());
  ncclRecv(b, 10, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
  OK(settle(ranks.comm[1]));
  ranks_drain(&ranks);
  use_rank(0);
  OK(cudaMalloc(&x, 10));
  OK(cudaFree(x));
  OK(cudaFree(a));
  OK(cudaFree(b));
  OK(cudaStreamDestroy(other));
  ranks_close(&ranks);
}

TEST(a_blocking_communicator_may_be_waited_for) {
  struct ranks ranks;
  ranks_open(&ranks, 2, true);
  use_rank(0);
  void *a = device_bytes(10, 1), *x;
  use_rank(1);
  void *b = device_bytes(10, 2);
  OK(ncclGroupStart());
  OK(ncclSend(a, 10, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  OK(ncclRecv(b, 10, ncclUint8, 0, ranks.comm[1], ranks.stream[1]));
  OK(ncclGroupEnd());
  OK(cudaStreamSynchronize(ranks.stream[1]));
  CHECK(holds(b, 10, 1));
  OK(cudaStreamSynchronize(ranks.stream[0]));
  OK(ncclRecv(b, 10, ncclUint8, 0, ranks.comm[1], ranks.stream[1]));
  CHECK_EQUAL(cudaMalloc(&x, 10), cudaErrorNotPermitted);
  use_rank(0);
  OK(ncclSend(a, 10, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  OK(cudaStreamSynchronize(ranks.stream[1]));
  OK(cudaStreamSynchronize(ranks.stream[0]));
  OK(cudaFree(a));
  OK(cudaFree(b));
  ranks_close(&ranks);
}

TEST(counts_that_differ_fail_both_ends_with_a_sentence) {
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  use_rank(1);
  void *a = device_bytes(100, 1);
  use_rank(2);
  void *b = device_bytes(100, 2);
  ncclSend(a, 8, ncclInt32, 2, ranks.comm[1], ranks.stream[1]);
  ncclRecv(b, 4, ncclInt32, 1, ranks.comm[2], ranks.stream[2]);
  CHECK_EQUAL(settle(ranks.comm[2]), ncclInvalidUsage);
  CHECK_SENTENCE("rank 1 sends 32 bytes (8 of int32) to rank 2, which receives 16 bytes (4 of int32)");
  CHECK_EQUAL(settle(ranks.comm[1]), ncclInvalidUsage);
  CHECK_SENTENCE("rank 1 sends 32 bytes");
  CHECK_EQUAL(settle(ranks.comm[0]), ncclSuccess);
  CHECK(!idle_within(ranks.stream[2], 10));
  CHECK_EQUAL(ncclSend(a, 8, ncclInt32, 2, ranks.comm[1], ranks.stream[1]), ncclInvalidUsage);
  for (int rank = 0; rank < 3; rank++) OK(ncclCommAbort(ranks.comm[rank]));
  ranks_drain(&ranks);
  CHECK(holds(b, 100, 2));
  OK(cudaFree(a));
  OK(cudaFree(b));
  for (int rank = 0; rank < 3; rank++) OK(cudaStreamDestroy(ranks.stream[rank]));
  CHECK_EQUAL(account(ACCOUNT_LIVE_COMMUNICATORS), 0);
}

TEST(a_communicator_is_in_progress_first_and_takes_no_calls_then) {
  ncclUniqueId id;
  ncclComm_t a, b;
  ncclResult_t state;
  int value;
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  OK(ncclGetUniqueId(&id));
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, nonblocking()), ncclInProgress);
  CHECK(a != NULL);
  OK(ncclCommGetAsyncError(a, &state));
  CHECK_EQUAL(state, ncclInProgress);
  CHECK_EQUAL(ncclCommCount(a, &value), ncclInvalidUsage);
  CHECK_EQUAL(ncclSend(NULL, 0, ncclUint8, 1, a, stream), ncclInvalidUsage);
  CHECK_SENTENCE("still being initialized");
  uint8_t awaited[2];
  OK(seqferryCpuOutstanding(a, awaited, 2));
  CHECK(awaited[0] == 0 && awaited[1] == 1);
  CHECK_EQUAL(ncclCommInitRankScalable(&b, 2, 1, 1, &id, nonblocking()), ncclInProgress);
  OK(settle(a));
  OK(settle(b));
  OK(ncclCommCount(a, &value));
  CHECK_EQUAL(value, 2);
  OK(ncclCommUserRank(b, &value));
  CHECK_EQUAL(value, 1);
  OK(ncclCommCuDevice(b, &value));
  CHECK_EQUAL(value, 0);
  CHECK_EQUAL(ncclCommFinalize(a), ncclInProgress);
  OK(settle(a));
  CHECK_EQUAL(ncclSend(NULL, 0, ncclUint8, 1, a, stream), ncclInvalidUsage);
  CHECK_SENTENCE("was finalized");
  OK(ncclCommDestroy(a));
  OK(ncclCommDestroy(b));
  CHECK_EQUAL(ncclCommDestroy(b), ncclInvalidArgument);
  CHECK_EQUAL(ncclCommGetAsyncError(a, &state), ncclInvalidArgument);
  OK(cudaStreamDestroy(stream));
}

TEST(a_join_that_cannot_be_is_refused_on_all_who_came) {
  ncclUniqueId id, junk;
  ncclComm_t a, b;
  OK(ncclGetUniqueId(&id));
  CHECK_EQUAL(ncclCommInitRank(&a, 0, id, 0), ncclInvalidArgument);
  CHECK_EQUAL(ncclCommInitRank(&a, 2, id, 2), ncclInvalidArgument);
  CHECK_SENTENCE("rank 2");
  memset(&junk, 1, sizeof junk);
  CHECK_EQUAL(ncclCommInitRank(&a, 2, junk, 1), ncclInvalidArgument);
  ncclConfig_t config = *nonblocking();
  config.size = sizeof config;
  config.magic = 1;
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, &config), ncclInvalidArgument);
  config = *nonblocking();
  config.size = 4;
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, &config), ncclInvalidArgument);
  config = *nonblocking();
  config.size = sizeof config;
  config.blocking = 7;
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, &config), ncclInvalidArgument);
  /* Another number of ranks. */
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, nonblocking()), ncclInProgress);
  CHECK_EQUAL(ncclCommInitRankConfig(&b, 3, id, 1, nonblocking()), ncclInvalidArgument);
  CHECK_SENTENCE("rank 1 joins a communicator of 3 ranks, and rank 0 joined it as one of 2");
  CHECK(b == NULL);
  CHECK_EQUAL(settle(a), ncclInvalidArgument);
  CHECK_SENTENCE("rank 1 joins a communicator of 3 ranks");
  OK(ncclCommAbort(a));
  /* The same rank twice. */
  OK(ncclGetUniqueId(&id));
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, nonblocking()), ncclInProgress);
  CHECK_EQUAL(ncclCommInitRankConfig(&b, 2, id, 0, nonblocking()), ncclInvalidArgument);
  CHECK_SENTENCE("join as rank 0 of 2");
  CHECK_EQUAL(settle(a), ncclInvalidArgument);
  OK(ncclCommAbort(a));
  /* A meeting that all have left. */
  CHECK_EQUAL(ncclCommInitRankConfig(&b, 2, id, 1, nonblocking()), ncclInvalidUsage);
  CHECK_SENTENCE("meeting for this unique id is over");
  CHECK_EQUAL(account(ACCOUNT_LIVE_COMMUNICATORS), 0);
}

TEST(two_ranks_on_one_device_are_refused_where_the_setting_says_so) {
  setting("SEQFERRY_CPU_SHARED_DEVICE", "0");
  ncclUniqueId id;
  ncclComm_t a, b;
  OK(ncclGetUniqueId(&id));
  OK(cudaSetDevice(1));
  CHECK_EQUAL(ncclCommInitRankConfig(&a, 2, id, 0, nonblocking()), ncclInProgress);
  OK(cudaSetDevice(1 | 1 << 16));
  CHECK_EQUAL(ncclCommInitRankConfig(&b, 2, id, 1, nonblocking()), ncclInProgress);
  CHECK_EQUAL(settle(a), ncclInvalidUsage);
  CHECK_SENTENCE("Duplicate GPU detected");
  CHECK_EQUAL(settle(b), ncclInvalidUsage);
  OK(ncclCommAbort(a));
  OK(ncclCommAbort(b));
}

TEST(a_group_on_several_streams_starts_and_ends_on_all_of_them_together) {
  struct ranks ranks, gate;
  ranks_open(&ranks, 2, true);
  ranks_open(&gate, 2, true);
  cudaStream_t second;
  cudaEvent_t opened;
  use_rank(0);
  OK(cudaStreamCreateWithFlags(&second, 1));
  OK(cudaEventCreateWithFlags(&opened, 2));
  void *a = device_bytes(100, 1), *b = device_bytes(100, 2);
  use_rank(1);
  void *c = device_bytes(100, 3), *d = device_bytes(100, 4);
  /* The second stream stands still until the gate's send comes. */
  OK(ncclRecv(NULL, 0, ncclUint8, 1, gate.comm[0], gate.stream[0]));
  OK(cudaEventRecord(opened, gate.stream[0]));
  OK(cudaStreamWaitEvent(second, opened, 0));
  OK(ncclGroupStart());
  OK(ncclSend(a, 100, ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  OK(ncclSend(b, 100, ncclUint8, 1, ranks.comm[0], second));
  OK(ncclGroupEnd());
  OK(ncclRecv(c, 100, ncclUint8, 0, ranks.comm[1], ranks.stream[1]));
  CHECK(!idle_within(ranks.stream[1], 10));
  OK(ncclSend(NULL, 0, ncclUint8, 0, gate.comm[1], gate.stream[1]));
  drain(ranks.stream[1]);
  CHECK(holds(c, 100, 1));
  CHECK(!idle_within(ranks.stream[0], 5));
  CHECK(!idle_within(second, 5));
  OK(ncclRecv(d, 100, ncclUint8, 0, ranks.comm[1], ranks.stream[1]));
  ranks_drain(&ranks);
  ranks_drain(&gate);
  drain(second);
  CHECK(holds(d, 100, 2));
  OK(cudaStreamDestroy(second));
  OK(cudaEventDestroy(opened));
  ranks_close(&ranks);
  ranks_close(&gate);
}

TEST(errors_belong_to_the_thread_that_made_them) {
  CHECK_EQUAL(cudaSetDevice(99), cudaErrorInvalidDevice);
  CHECK_SENTENCE("there is no device 99");
  CHECK(strstr(ncclGetLastError(NULL), "there is no device 99") != NULL);
  CHECK(strcmp(ncclGetErrorString(ncclInvalidUsage), "") != 0);
  char small[8];
  CHECK(seqferryCpuLastError(small, sizeof small) > sizeof small);
  CHECK(strcmp(small, "there i") == 0);
}

TEST(ranks_may_call_on_several_communicators_of_a_group_in_any_order) {
  struct ranks ranks;
  ncclComm_t child[2];
  ranks_open(&ranks, 2, false);
  for (int rank = 0; rank < 2; rank++) CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], 0, 0, &child[rank], NULL), ncclInProgress);
  for (int rank = 0; rank < 2; rank++) OK(settle(ranks.comm[rank]));
  for (int rank = 0; rank < 2; rank++) OK(settle(child[rank]));
  char *buffer[2];
  for (int rank = 0; rank < 2; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(200, rank);
    ncclComm_t first = rank == 0 ? ranks.comm[rank] : child[rank], second = rank == 0 ? child[rank] : ranks.comm[rank];
    char *at_first = buffer[rank] + (rank == 0 ? 0 : 100), *at_second = buffer[rank] + (rank == 0 ? 100 : 0);
    OK(ncclGroupStart());
    OK(ncclBroadcast(at_first, at_first, 100, ncclUint8, 0, first, ranks.stream[rank]));
    OK(ncclBroadcast(at_second, at_second, 100, ncclUint8, 0, second, ranks.stream[rank]));
    CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  }
  for (int rank = 0; rank < 2; rank++) {
    OK(settle(ranks.comm[rank]));
    OK(settle(child[rank]));
  }
  ranks_drain(&ranks);
  CHECK(holds(buffer[1], 200, 0));
  for (int rank = 0; rank < 2; rank++) OK(ncclCommDestroy(child[rank]));
  ranks_close(&ranks);
}
