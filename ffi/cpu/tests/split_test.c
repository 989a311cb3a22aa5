/* Splits. */
#include "../accounts.h"
#include "harness.h"

TEST(a_split_groups_by_color_and_orders_by_key) {
  enum { COUNT = 6 };
  struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  ncclComm_t child[COUNT];
  /* Ranks 0, 2, 4 in reverse order; 1, 3 in order; 5 in none. */
  for (int rank = 0; rank < COUNT; rank++) {
    int color = rank == 5 ? NCCL_SPLIT_NOCOLOR : rank % 2;
    CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], color, color == 0 ? -rank : 0, &child[rank], NULL), ncclInProgress);
    if (rank > 0) continue;
    CHECK_EQUAL(ncclSend(NULL, 0, ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
    CHECK_SENTENCE("still being split");
  }
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
  CHECK(child[5] == NULL);
  const int expected[5] = {2, 0, 1, 1, 0};
  for (int rank = 0; rank < 5; rank++) {
    int value;
    OK(settle(child[rank]));
    OK(ncclCommUserRank(child[rank], &value));
    CHECK_EQUAL(value, expected[rank]);
    OK(ncclCommCount(child[rank], &value));
    CHECK_EQUAL(value, rank % 2 == 0 ? 3 : 2);
  }
  /* The child works, beside its parent. */
  void *buffer[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(5000, rank);
  }
  for (int rank = 0; rank < 5; rank += 2) {
    ncclBroadcast(buffer[rank], buffer[rank], 5000, ncclUint8, 0, child[rank], ranks.stream[rank]);
    OK(settle(child[rank]));
  }
  ranks_drain(&ranks);
  CHECK(holds(buffer[0], 5000, 4) && holds(buffer[2], 5000, 4) && holds(buffer[1], 5000, 1));
  for (int rank = 0; rank < 5; rank++) OK(ncclCommDestroy(child[rank]));
  /* Again, and again: one after the other. */
  for (int round = 0; round < 3; round++) {
    for (int rank = 0; rank < COUNT; rank++) CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], 0, 0, &child[rank], NULL), ncclInProgress);
    for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
    for (int rank = 0; rank < COUNT; rank++) OK(settle(child[rank]));
    for (int rank = 0; rank < COUNT; rank++) OK(ncclCommDestroy(child[rank]));
  }
  CHECK_EQUAL(ncclCommSplit(ranks.comm[0], -2, 0, &child[0], NULL), ncclInvalidArgument);
  ranks_close(&ranks);
  CHECK_EQUAL(account(ACCOUNT_LIVE_COMMUNICATORS), 0);
}

static void split_in_processes(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, true);
  ncclComm_t child;
  OK(ncclCommSplit(one.comm, rank / 2, 0, &child, NULL));
  char *all;
  OK(cudaMalloc((void **)&all, 2));
  char mine = (char)(10 + rank), host[2];
  OK(cudaMemcpy(all + rank % 2, &mine, 1, cudaMemcpyHostToDevice));
  OK(ncclAllGather(all + rank % 2, all, 1, ncclInt8, child, one.stream));
  OK(cudaStreamSynchronize(one.stream));
  OK(cudaMemcpy(host, all, 2, cudaMemcpyDeviceToHost));
  CHECK_EQUAL(host[0], 10 + rank / 2 * 2);
  CHECK_EQUAL(host[1], 11 + rank / 2 * 2);
  OK(cudaFree(all));
  OK(ncclCommDestroy(child));
  one_close(&one);
}

TEST(processes_split_a_blocking_communicator) { in_processes(4, split_in_processes, -1); }

TEST(a_split_that_a_rank_does_not_join_waits_for_it_and_can_be_aborted) {
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  ncclComm_t child = NULL;
  ncclResult_t state;
  CHECK_EQUAL(ncclCommSplit(ranks.comm[0], 0, 0, &child, NULL), ncclInProgress);
  for (int i = 0; i < 10; i++) {
    OK(ncclCommGetAsyncError(ranks.comm[0], &state));
    CHECK_EQUAL(state, ncclInProgress);
  }
  uint8_t awaited[3];
  OK(seqferryCpuOutstanding(ranks.comm[0], awaited, 3));
  CHECK(awaited[0] == 0 && awaited[1] == 1 && awaited[2] == 1);
  for (int rank = 0; rank < 3; rank++) OK(ncclCommAbort(ranks.comm[rank]));
  CHECK(child == NULL);
  for (int rank = 0; rank < 3; rank++) OK(cudaStreamDestroy(ranks.stream[rank]));
}
