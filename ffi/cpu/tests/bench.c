/* Not a test: round trips of 1 KiB and the rate of 256 MiB, beside memcpy in the same run. Compile it with harness.c and the sources. */
#include "harness.h"

enum { ROUNDS = 20000, LARGE = 256 << 20 };

static void exchange(int rank, struct one *one, void *buffer, size_t bytes, bool send) {
  ncclResult_t result = send ? ncclSend(buffer, bytes, ncclUint8, 1 - rank, one->comm, one->stream)
                             : ncclRecv(buffer, bytes, ncclUint8, 1 - rank, one->comm, one->stream);
  if (result != ncclInProgress) OK(result);
  ncclResult_t state;
  do OK(ncclCommGetAsyncError(one->comm, &state));
  while (state == ncclInProgress);
  while (cudaStreamQuery(one->stream) != cudaSuccess) {
  }
}

static void two_processes(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *buffer = device_bytes(LARGE, rank);
  for (int i = 0; i < 1000; i++) exchange(rank, &one, buffer, 1024, (i + rank) % 2 == 0);
  double start = seconds();
  for (int i = 0; i < 2 * ROUNDS; i++) exchange(rank, &one, buffer, 1024, (i + rank) % 2 == 0);
  if (rank == 0) printf("two processes: round trip of 1 KiB %.2f us\n", (seconds() - start) / ROUNDS * 1e6);
  exchange(rank, &one, buffer, LARGE, rank == 0);
  start = seconds();
  for (int i = 0; i < 8; i++) exchange(rank, &one, buffer, LARGE, rank == 0);
  double taken = (seconds() - start) / 8;
  if (rank == 1) printf("two processes: 256 MiB at %.1f GB/s\n", LARGE / taken / 1e9);
  OK(cudaFree(buffer));
  one_close(&one);
}

TEST(bench_between_processes) { in_processes(2, two_processes, -1); }

TEST(bench_within_a_thread) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *a = device_bytes(LARGE, 0);
  use_rank(1);
  void *b = device_bytes(LARGE, 1);
  double start = 0;
  for (int i = 0; i < ROUNDS + 1000; i++) {
    if (i == 1000) start = seconds();
    for (int way = 0; way < 2; way++) {
      ncclSend(way == 0 ? a : b, 1024, ncclUint8, 1 - way, ranks.comm[way], ranks.stream[way]);
      ncclRecv(way == 0 ? b : a, 1024, ncclUint8, way, ranks.comm[1 - way], ranks.stream[1 - way]);
      settle(ranks.comm[0]);
      settle(ranks.comm[1]);
      drain(ranks.stream[0]);
      drain(ranks.stream[1]);
    }
  }
  printf("one thread: round trip of 1 KiB %.2f us\n", (seconds() - start) / ROUNDS * 1e6);
  for (int i = 0; i < 9; i++) {
    if (i == 1) start = seconds();
    ncclSend(a, LARGE, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
    ncclRecv(b, LARGE, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
    settle(ranks.comm[0]);
    settle(ranks.comm[1]);
    ranks_drain(&ranks);
  }
  printf("one thread: 256 MiB at %.1f GB/s\n", LARGE / ((seconds() - start) / 8) / 1e9);
  char *from = malloc(LARGE), *to = malloc(LARGE);
  memset(from, 1, LARGE);
  for (int i = 0; i < 9; i++) {
    if (i == 1) start = seconds();
    memcpy(to, from, LARGE);
    __asm__ volatile("" : : "r"(to) : "memory");
  }
  printf("memcpy: 256 MiB at %.1f GB/s\n", LARGE / ((seconds() - start) / 8) / 1e9);
  free(from);
  free(to);
  use_rank(0);
  OK(cudaFree(a));
  OK(cudaFree(b));
  ranks_close(&ranks);
}
