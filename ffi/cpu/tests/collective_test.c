/* Broadcast, all-gather, all-reduce. */
#include <signal.h>
#include <unistd.h>

#include "../accounts.h"
#include "../communicator.h"
#include "../engine.h"
#include "harness.h"

TEST(broadcast_brings_the_roots_bytes_to_all) {
  enum { COUNT = 5, BYTES = 1500000 };
  struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  char *buffer[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(BYTES, rank);
  }
  for (int rank = 0; rank < COUNT; rank++) {
    CHECK_EQUAL(ncclBroadcast(buffer[rank], buffer[rank], BYTES, ncclUint8, 3, ranks.comm[rank], ranks.stream[rank]), ncclInProgress);
  }
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
  ranks_drain(&ranks);
  for (int rank = 0; rank < COUNT; rank++) CHECK(holds(buffer[rank], BYTES, 3));
  CHECK_EQUAL(account(ACCOUNT_COLLECTIVE_BYTES), (COUNT - 1) * BYTES);
  ranks_close(&ranks);
}

TEST(all_gather_shows_each_part_as_soon_as_it_is_there) {
  enum { COUNT = 3, BYTES = 100 };
  struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  char *part[COUNT], *all[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    part[rank] = device_bytes(BYTES, rank);
    all[rank] = device_bytes(COUNT * BYTES, 50);
  }
  for (int rank = 0; rank < 2; rank++) {
    ncclAllGather(part[rank], all[rank], BYTES, ncclUint8, ranks.comm[rank], ranks.stream[rank]);
    OK(settle(ranks.comm[rank]));
  }
  CHECK(!idle_within(ranks.stream[0], 10));
  /* Copies on the default stream go on beside. */
  use_rank(0);
  CHECK(holds(all[0], BYTES, 0));
  CHECK(holds(all[0] + BYTES, BYTES, 1));
  uint8_t awaited[COUNT];
  OK(seqferryCpuOutstanding(ranks.comm[0], awaited, COUNT));
  CHECK(awaited[0] == 0 && awaited[1] == 0 && awaited[2] == 1);
  ncclAllGather(part[2], all[2], BYTES, ncclUint8, ranks.comm[2], ranks.stream[2]);
  OK(settle(ranks.comm[2]));
  ranks_drain(&ranks);
  for (int rank = 0; rank < COUNT; rank++) {
    for (int peer = 0; peer < COUNT; peer++) CHECK(holds(all[rank] + peer * BYTES, BYTES, peer));
  }
  ranks_close(&ranks);
}

TEST(all_reduce_gives_all_ranks_the_same_bits_also_in_place) {
  enum { COUNT = 4, ELEMENTS = 30000 };
  struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  float *host = malloc(ELEMENTS * sizeof(float)), *first = malloc(ELEMENTS * sizeof(float));
  void *buffer[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    OK(cudaMalloc(&buffer[rank], ELEMENTS * sizeof(float)));
    for (int i = 0; i < ELEMENTS; i++) host[i] = (float)(i + 1) * 0.1f / (float)(rank + 1) * (rank % 2 == 0 ? 1e10f : 1e-3f);
    OK(cudaMemcpy(buffer[rank], host, ELEMENTS * sizeof(float), cudaMemcpyHostToDevice));
  }
  for (int rank = 0; rank < COUNT; rank++) {
    CHECK_EQUAL(ncclAllReduce(buffer[rank], buffer[rank], ELEMENTS, ncclFloat32, ncclSum, ranks.comm[rank], ranks.stream[rank]),
                ncclInProgress);
    OK(settle(ranks.comm[rank]));
  }
  ranks_drain(&ranks);
  OK(cudaMemcpy(first, buffer[0], ELEMENTS * sizeof(float), cudaMemcpyDeviceToHost));
  for (int i = 0; i < ELEMENTS; i++) {
    float sum = 0;
    for (int rank = 0; rank < COUNT; rank++) {
      float one = (float)(i + 1) * 0.1f / (float)(rank + 1) * (rank % 2 == 0 ? 1e10f : 1e-3f);
      sum = rank == 0 ? one : sum + one;
    }
    CHECK(first[i] == sum);
  }
  for (int rank = 1; rank < COUNT; rank++) {
    OK(cudaMemcpy(host, buffer[rank], ELEMENTS * sizeof(float), cudaMemcpyDeviceToHost));
    CHECK(memcmp(first, host, ELEMENTS * sizeof(float)) == 0);
  }
  ranks_close(&ranks);
  free(host);
  free(first);
}

static int64_t reduced(struct ranks *ranks, void *const *buffer, int type, int op, size_t bytes, const int64_t *values) {
  for (int rank = 0; rank < ranks->count; rank++) {
    use_rank(rank);
    OK(cudaMemcpy(buffer[rank], &values[rank], bytes, cudaMemcpyHostToDevice));
    CHECK_EQUAL(ncclAllReduce(buffer[rank], (char *)buffer[rank] + 8, 1, type, op, ranks->comm[rank], ranks->stream[rank]), ncclInProgress);
    OK(settle(ranks->comm[rank]));
  }
  ranks_drain(ranks);
  int64_t result = 0;
  OK(cudaMemcpy(&result, (char *)buffer[1] + 8, bytes, cudaMemcpyDeviceToHost));
  return result;
}

TEST(all_reduce_knows_sum_product_maximum_and_minimum_of_integers) {
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  void *buffer[3];
  for (int rank = 0; rank < 3; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(16, 0);
  }
  const int64_t values[3] = {-5, INT64_C(9007199254740993), 3};
  CHECK_EQUAL(reduced(&ranks, buffer, ncclInt64, ncclSum, 8, values), INT64_C(9007199254740991));
  CHECK_EQUAL(reduced(&ranks, buffer, ncclInt64, ncclMax, 8, values), INT64_C(9007199254740993));
  CHECK_EQUAL(reduced(&ranks, buffer, ncclInt64, ncclMin, 8, values), -5);
  const int64_t small[3] = {100, 100, 3};
  CHECK_EQUAL((int8_t)reduced(&ranks, buffer, ncclInt8, ncclSum, 1, small), (int8_t)203);
  CHECK_EQUAL(reduced(&ranks, buffer, ncclUint8, ncclProd, 1, small), 30000 % 256);
  CHECK_EQUAL((int32_t)reduced(&ranks, buffer, ncclInt32, ncclProd, 4, small), 30000);
  CHECK_EQUAL(ncclAllReduce(buffer[0], buffer[0], 1, ncclBfloat16, ncclSum, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  CHECK_SENTENCE("bfloat16");
  CHECK_EQUAL(ncclAllReduce(buffer[0], buffer[0], 1, ncclInt32, ncclAvg, ranks.comm[0], ranks.stream[0]), ncclInvalidArgument);
  ranks_close(&ranks);
}

TEST(collectives_that_differ_fail_with_a_sentence_naming_both) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  void *buffer[2];
  for (int rank = 0; rank < 2; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(1000, 0);
  }
  ncclBroadcast(buffer[0], buffer[0], 100, ncclUint8, 0, ranks.comm[0], ranks.stream[0]);
  ncclAllGather(buffer[1], buffer[1], 100, ncclUint8, ranks.comm[1], ranks.stream[1]);
  CHECK_EQUAL(settle(ranks.comm[1]), ncclInvalidUsage);
  CHECK_SENTENCE("ncclBroadcast");
  CHECK_SENTENCE("ncclAllGather");
  CHECK_EQUAL(settle(ranks.comm[0]), ncclInvalidUsage);
  OK(ncclCommAbort(ranks.comm[0]));
  OK(ncclCommAbort(ranks.comm[1]));
  OK(cudaStreamDestroy(ranks.stream[0]));
  OK(cudaStreamDestroy(ranks.stream[1]));
}

TEST(a_root_finds_a_leaf_whose_count_differs) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  void *buffer[2];
  for (int rank = 0; rank < 2; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(1000, 0);
  }
  ncclBroadcast(buffer[1], buffer[1], 25, ncclInt32, 0, ranks.comm[1], ranks.stream[1]);
  ncclBroadcast(buffer[0], buffer[0], 24, ncclInt32, 0, ranks.comm[0], ranks.stream[0]);
  CHECK(!idle_within(ranks.stream[0], 10));
  CHECK_EQUAL(settle(ranks.comm[0]), ncclInvalidUsage);
  CHECK_SENTENCE("24 int32");
  CHECK_SENTENCE("25 int32");
  CHECK_EQUAL(settle(ranks.comm[1]), ncclInvalidUsage);
  OK(ncclCommAbort(ranks.comm[0]));
  OK(ncclCommAbort(ranks.comm[1]));
}

static void many_collectives(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  char *all;
  OK(cudaMalloc((void **)&all, 64 * 8));
  int64_t host[64];
  for (int round = 0; round < 300; round++) {
    host[rank] = rank * 1000 + round;
    OK(cudaMemcpy(all + rank * 8, &host[rank], 8, cudaMemcpyHostToDevice));
    ncclResult_t result;
    if (round % 3 == 0) {
      result = ncclBroadcast(all, all, 1, ncclInt64, 0, one.comm, one.stream);
    } else {
      result = ncclAllGather(all + rank * 8, all, 1, ncclInt64, one.comm, one.stream);
    }
    CHECK_EQUAL(result, ncclInProgress);
    OK(settle(one.comm));
    drain(one.stream);
    OK(cudaMemcpy(host, all, 64 * 8, cudaMemcpyDeviceToHost));
    for (int peer = 0; peer < (round % 3 == 0 ? 1 : count); peer++) CHECK_EQUAL(host[peer], peer * 1000 + round);
  }
  /* More of them in one group than a board has slots. */
  OK(ncclGroupStart());
  for (int i = 0; i < 100; i++) OK(ncclAllReduce(all, all, 1, ncclInt64, ncclMax, one.comm, one.stream));
  CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  OK(settle(one.comm));
  drain(one.stream);
  OK(cudaFree(all));
  one_close(&one);
}

TEST(collectives_follow_one_another_between_processes) { in_processes(3, many_collectives, -1); }

TEST(a_rank_that_runs_ahead_keeps_what_the_others_still_need) {
  enum { COLLECTIVES = 100 };
  struct ranks ranks;
  ranks_open(&ranks, 3, false);
  char *buffer[3];
  for (int rank = 0; rank < 3; rank++) {
    use_rank(rank);
    buffer[rank] = device_bytes(COLLECTIVES * 128, rank);
  }
  for (int rank = 0; rank < 3; rank++) {
    OK(ncclGroupStart());
    /* Each has a count of its own, so one taken for another would be an error. */
    for (int i = 0; i < COLLECTIVES; i++) {
      char *at = buffer[rank] + i * 128;
      OK(ncclBroadcast(at, at, (size_t)(128 - i), ncclUint8, 0, ranks.comm[rank], ranks.stream[rank]));
    }
    CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
    OK(settle(ranks.comm[rank]));
    CHECK(rank == 2 || !idle_within(ranks.stream[0], 10));
  }
  ranks_drain(&ranks);
  unsigned char ends[3];
  for (int i = 0; i < COLLECTIVES; i++) {
    for (int rank = 0; rank < 3; rank++) OK(cudaMemcpy(&ends[rank], buffer[rank] + i * 128 + 127 - i, 1, cudaMemcpyDeviceToHost));
    CHECK(ends[0] == ends[1] && ends[0] == ends[2]);
  }
  ranks_close(&ranks);
}

static void leaves_early(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  char *part = device_bytes(64, rank), *all = device_bytes(128, 9);
  while (rank == 1 && shared->flags[0] == 0) sleep_ms(1);
  if (rank == 1) sleep_ms(50); /* until the other has stopped */
  CHECK_EQUAL(ncclAllGather(part, all, 64, ncclUint8, one.comm, one.stream), ncclInProgress);
  OK(settle(one.comm));
  if (rank == 0) {
    CHECK(!idle_within(one.stream, 5));
    shared->words[0] = (uint64_t)getpid();
    shared->flags[0] = 1;
    raise(SIGSTOP);
  }
  drain(one.stream);
  CHECK(holds(all, 64, 0) && holds(all + 64, 64, 1));
  OK(ncclCommAbort(one.comm));
  if (rank == 1) kill((pid_t)shared->words[0], SIGCONT);
}

TEST(a_short_part_is_there_when_its_rank_has_left) { in_processes(2, leaves_early, -1); }

/* Rank 1 comes to ring the others, as whoever posts last does, only when rank 0 has read its part, left and ended. */
static void rings_too_late(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, true);
  if (rank == 0) {
    shared->words[0] = (uint64_t)getpid();
    shared->flags[0] = 1;
  } else {
    while (shared->flags[0] == 0) sleep_ms(1);
    double end = seconds() + 20;
    while (kill((pid_t)shared->words[0], 0) == 0) {
      CHECK(seconds() < end);
      sleep_ms(1);
    }
    engine_lock();
    struct communicator *communicator = communicator_find(one.comm);
    communicator_ring_all(communicator);
    CHECK_EQUAL(communicator->fault, ncclSuccess);
    engine_unlock();
    OK(settle(one.comm));
  }
  one_close(&one);
}

TEST(who_has_left_and_ended_need_not_be_rung) { in_processes(2, rings_too_late, -1); }
