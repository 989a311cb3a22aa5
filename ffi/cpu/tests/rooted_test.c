/* Reduce, reduce-scatter, gather, scatter, all-to-all; registered memory; shrinking and revoking. */
#include "../accounts.h"
#include "harness.h"

enum { COUNT = 4, PART = 5000 };

static void open_all(struct ranks *ranks, void **from, void **to, size_t bytes) {
  ranks_open(ranks, COUNT, false);
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    from[rank] = device_bytes(bytes, rank);
    to[rank] = device_bytes(bytes, 90);
  }
}

static void finish(struct ranks *ranks) {
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks->comm[rank]));
  ranks_drain(ranks);
}

static void put(void *device, int value, size_t count) {
  int32_t *host = malloc(count * sizeof *host);
  for (size_t i = 0; i < count; i++) host[i] = value * 1000 + (int32_t)i;
  OK(cudaMemcpy(device, host, count * sizeof *host, cudaMemcpyHostToDevice));
  free(host);
}

static int32_t at(const void *device, size_t index) {
  int32_t value;
  OK(cudaMemcpy(&value, (const char *)device + index * sizeof value, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

TEST(reduce_brings_the_sum_to_the_root_alone) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, PART * sizeof(int32_t));
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    put(from[rank], rank, PART);
    CHECK_EQUAL(ncclReduce(from[rank], to[rank], PART, ncclInt32, ncclSum, 2, ranks.comm[rank], ranks.stream[rank]), ncclInProgress);
  }
  finish(&ranks);
  CHECK_EQUAL(at(to[2], 17), 6000 + 4 * 17);
  CHECK_EQUAL(at(to[2], PART - 1), 6000 + 4 * (PART - 1));
  CHECK(holds(to[0], PART * sizeof(int32_t), 90));
  ranks_close(&ranks);
}

TEST(reduce_scatter_gives_each_rank_its_part_also_in_place) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, COUNT * PART * sizeof(int32_t));
  for (int round = 0; round < 2; round++) {
    for (int rank = 0; rank < COUNT; rank++) {
      use_rank(rank);
      put(from[rank], rank, COUNT * PART);
    }
    for (int rank = 0; rank < COUNT; rank++) {
      if (round == 1) to[rank] = (char *)from[rank] + (size_t)rank * PART * sizeof(int32_t);
      ncclReduceScatter(from[rank], to[rank], PART, ncclInt32, ncclMax, ranks.comm[rank], ranks.stream[rank]);
    }
    finish(&ranks);
    for (int rank = 0; rank < COUNT; rank++) CHECK_EQUAL(at(to[rank], 7), 3000 + rank * PART + 7);
  }
  ranks_close(&ranks);
}

TEST(reductions_that_differ_fail_on_both_ranks) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, PART * sizeof(int32_t));
  for (int rank = 0; rank < COUNT; rank++) {
    ncclReduce(from[rank], to[rank], PART, ncclInt32, rank == 1 ? ncclProd : ncclSum, 0, ranks.comm[rank], ranks.stream[rank]);
  }
  CHECK(!idle_within(ranks.stream[0], 50));
  CHECK(!idle_within(ranks.stream[1], 50));
  CHECK_EQUAL(settle(ranks.comm[0]), ncclInvalidUsage);
  CHECK_EQUAL(settle(ranks.comm[1]), ncclInvalidUsage);
  CHECK_SENTENCE("ncclReduce");
}

TEST(gather_scatter_and_all_to_all_bring_each_part_to_its_place) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, COUNT * PART);
  for (int rank = 0; rank < COUNT; rank++) {
    CHECK_EQUAL(ncclGather(from[rank], to[rank], PART, ncclUint8, 1, ranks.comm[rank], ranks.stream[rank]), ncclInProgress);
  }
  finish(&ranks);
  for (int rank = 0; rank < COUNT; rank++) CHECK(holds((char *)to[1] + rank * PART, PART, rank));
  CHECK(holds(to[0], COUNT * PART, 90));
  for (int rank = 0; rank < COUNT; rank++) ncclScatter(to[rank], from[rank], PART, ncclUint8, 1, ranks.comm[rank], ranks.stream[rank]);
  finish(&ranks);
  for (int rank = 0; rank < COUNT; rank++) CHECK(holds(from[rank], PART, rank));
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    for (int peer = 0; peer < COUNT; peer++) fill((char *)from[rank] + peer * PART, PART, rank * COUNT + peer);
    ncclAlltoAll(from[rank], to[rank], PART, ncclUint8, ranks.comm[rank], ranks.stream[rank]);
  }
  finish(&ranks);
  for (int rank = 0; rank < COUNT; rank++) {
    for (int peer = 0; peer < COUNT; peer++) CHECK(holds((char *)to[rank] + peer * PART, PART, peer * COUNT + rank));
  }
  CHECK_EQUAL(ncclGather(from[0], to[0], PART, ncclUint8, COUNT, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_SENTENCE("root");
  CHECK_EQUAL(ncclAlltoAll(from[0], to[0], PART + 1, ncclUint8, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  /* Nothing of what was refused is left in the group. */
  for (int rank = 0; rank < COUNT; rank++) ncclGather(from[rank], to[rank], 1, ncclUint8, 0, ranks.comm[rank], ranks.stream[rank]);
  finish(&ranks);
  ranks_close(&ranks);
}

TEST(memory_is_registered_once_and_ended_once) {
  struct ranks ranks;
  ranks_open(&ranks, 1, false);
  use_rank(0);
  void *memory, *registration;
  OK(ncclMemAlloc(&memory, 1000));
  OK(ncclCommRegister(ranks.comm[0], memory, 1000, &registration));
  CHECK(registration != NULL);
  OK(ncclCommDeregister(ranks.comm[0], registration));
  CHECK_EQUAL(ncclCommDeregister(ranks.comm[0], registration), ncclInvalidArgument);
  CHECK_EQUAL(ncclCommRegister(ranks.comm[0], memory, 1001, &registration), ncclInvalidArgument);
  OK(ncclMemFree(memory));
  CHECK_EQUAL(ncclMemFree(memory), ncclUnhandledCudaError);
  ranks_close(&ranks);
}

TEST(shrink_makes_a_communicator_of_those_who_stay) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, PART);
  ncclComm_t child[COUNT] = {0};
  int excluded[] = {1};
  CHECK_EQUAL(ncclCommShrink(ranks.comm[1], excluded, 1, &child[1], NULL, NCCL_SHRINK_DEFAULT), ncclInvalidArgument);
  CHECK_EQUAL(ncclCommShrink(ranks.comm[0], excluded, 0, &child[0], NULL, NCCL_SHRINK_DEFAULT), ncclInvalidArgument);
  /* Work that can never end: rank 1 does not send. */
  ncclRecv(to[0], PART, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
  OK(settle(ranks.comm[0]));
  CHECK_EQUAL(ncclCommShrink(ranks.comm[0], excluded, 1, &child[0], NULL, NCCL_SHRINK_DEFAULT), ncclInvalidUsage);
  for (int rank = 0; rank < COUNT; rank++) {
    if (rank == 1) continue;
    CHECK_EQUAL(ncclCommShrink(ranks.comm[rank], excluded, 1, &child[rank], NULL, NCCL_SHRINK_ABORT), ncclInProgress);
  }
  for (int rank = 0; rank < COUNT; rank++) {
    if (rank == 1) continue;
    OK(settle(ranks.comm[rank]));
    OK(settle(child[rank]));
    int answer;
    OK(ncclCommCount(child[rank], &answer));
    CHECK_EQUAL(answer, COUNT - 1);
    OK(ncclCommUserRank(child[rank], &answer));
    CHECK_EQUAL(answer, rank == 0 ? 0 : rank - 1);
    ncclBroadcast(from[rank], to[rank], PART, ncclUint8, 2, child[rank], ranks.stream[rank]);
  }
  for (int rank = 0; rank < COUNT; rank++) {
    if (rank == 1) continue;
    OK(settle(child[rank]));
    drain(ranks.stream[rank]);
    CHECK(holds(to[rank], PART, 3));
    OK(ncclCommAbort(child[rank]));
  }
  CHECK_EQUAL(ncclSend(from[0], PART, ncclUint8, 3, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
  CHECK_SENTENCE("revoked");
}

TEST(a_revoked_communicator_drops_its_work_and_can_still_be_split) {
  struct ranks ranks;
  void *from[COUNT], *to[COUNT];
  open_all(&ranks, from, to, PART);
  for (int rank = 0; rank < COUNT; rank++) {
    if (rank > 0) ncclAllGather(from[rank], to[rank], 1, ncclUint8, ranks.comm[rank], ranks.stream[rank]);
    OK(settle(ranks.comm[rank]));
  }
  CHECK(!idle_within(ranks.stream[1], 10));
  ncclComm_t child[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    CHECK_EQUAL(ncclCommRevoke(ranks.comm[rank], 1), ncclInvalidArgument);
    CHECK_EQUAL(ncclCommRevoke(ranks.comm[rank], 0), ncclInProgress);
    OK(settle(ranks.comm[rank]));
  }
  ranks_drain(&ranks);
  CHECK_EQUAL(ncclAllGather(from[0], to[0], 1, ncclUint8, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
  for (int rank = 0; rank < COUNT; rank++) CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], 0, 0, &child[rank], NULL), ncclInProgress);
  for (int rank = 0; rank < COUNT; rank++) {
    OK(settle(ranks.comm[rank]));
    OK(settle(child[rank]));
  }
}
