/* Device memory that was used before costs nothing anew: neither the process that has it nor those that read it. */
#include <sys/resource.h>

#include "harness.h"

/* A heap begins with one growth of 64 MiB, so the block lies in what peers have mapped from the first. */
enum { BYTES = 16 << 20, ROUNDS = 5, FAULTS_OF_BYTES = BYTES / 4096 };

/* Page faults of this process so far. */
static long faults(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST(memory_that_was_freed_is_had_again_without_page_faults) {
  void *a;
  for (int round = 0; round < ROUNDS; round++) {
    long before = faults();
    OK(cudaMalloc(&a, BYTES));
    OK(cudaMemset(a, round, BYTES));
    OK(cudaFree(a));
    if (round > 0) CHECK(faults() - before < FAULTS_OF_BYTES / 16);
  }
}

static void send_again(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  for (int round = 0; round < ROUNDS; round++) {
    void *a;
    OK(cudaMalloc(&a, BYTES));
    if (rank == 0) OK(cudaMemset(a, round, BYTES));
    long before = faults();
    ncclResult_t result = rank == 0 ? ncclSend(a, BYTES, ncclUint8, 1, one.comm, one.stream)
                                    : ncclRecv(a, BYTES, ncclUint8, 0, one.comm, one.stream);
    if (result != ncclInProgress) OK(result);
    OK(settle(one.comm));
    drain(one.stream);
    if (round > 0) CHECK(faults() - before < FAULTS_OF_BYTES / 16);
    unsigned char last;
    OK(cudaMemcpy(&last, (char *)a + BYTES - 1, 1, cudaMemcpyDeviceToHost));
    CHECK_EQUAL(last, round);
    OK(cudaFree(a));
  }
  one_close(&one);
}

TEST(memory_that_a_peer_read_before_is_read_again_without_page_faults) { in_processes(2, send_again, -1); }

TEST(memory_of_small_pages_is_recycled_too) {
  setting("SEQFERRY_CPU_HUGE_PAGES", "0");
  in_processes(2, send_again, -1);
}
