/* Device memory and pinned memory. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../accounts.h"
#include "harness.h"

TEST(freed_memory_is_reused_and_counted_exactly) {
  size_t free_before, free_between, free_after, total;
  OK(cudaMemGetInfo(&free_before, &total));
  CHECK_EQUAL(free_before, total);
  CHECK_EQUAL(total, (size_t)8 << 30);
  void *a, *b, *c, *d;
  OK(cudaMalloc(&a, 1000));
  OK(cudaMalloc(&b, 5000));
  OK(cudaMalloc(&c, 1000));
  CHECK_EQUAL((uintptr_t)a % 512, 0);
  OK(cudaMemGetInfo(&free_between, &total));
  CHECK_EQUAL(free_before - free_between, 1024 + 5120 + 1024);
  OK(cudaFree(b));
  OK(cudaMalloc(&d, 5120));
  CHECK(d == b);
  OK(cudaFree(a));
  OK(cudaFree(c));
  OK(cudaFree(d));
  OK(cudaMemGetInfo(&free_after, &total));
  CHECK_EQUAL(free_after, free_before);
  /* The stretches have come together again. */
  OK(cudaMalloc(&b, 60 << 20));
  CHECK(b == a);
  OK(cudaFree(b));
  CHECK_EQUAL(account(ACCOUNT_LIVE_ALLOCATIONS), 0);
  CHECK_EQUAL(account(ACCOUNT_PEAK_BYTES), 60 << 20);
}

TEST(instances_of_a_device_share_its_memory_and_other_devices_do_not) {
  setting("SEQFERRY_CPU_MEMORY", "1048576");
  void *a, *b;
  size_t free_bytes, total;
  OK(cudaSetDevice(3 | 1 << 16));
  OK(cudaMalloc(&a, 1 << 19));
  OK(cudaSetDevice(3 | 2 << 16));
  OK(cudaMemGetInfo(&free_bytes, &total));
  CHECK_EQUAL(free_bytes, 1 << 19);
  CHECK_EQUAL(cudaMalloc(&b, (1 << 19) + 1), cudaErrorMemoryAllocation);
  CHECK_SENTENCE("device 3");
  CHECK(b == NULL);
  OK(cudaSetDevice(2));
  OK(cudaMalloc(&b, 1 << 20));
  OK(cudaFree(a));
  OK(cudaFree(b));
  CHECK_EQUAL(cudaSetDevice(8), cudaErrorInvalidDevice);
  CHECK_EQUAL(cudaSetDevice(-1), cudaErrorInvalidDevice);
}

TEST(freed_memory_is_poisoned) {
  unsigned char host[64];
  void *a, *b;
  OK(cudaMalloc(&a, 4096));
  OK(cudaMemset(a, 7, 4096));
  OK(cudaFree(a));
  OK(cudaMalloc(&b, 4096));
  CHECK(a == b);
  OK(cudaMemcpy(host, (char *)b + 4096 - 64, 64, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) CHECK_EQUAL(host[i], 0xDB);
  OK(cudaFree(b));
}

TEST(double_frees_and_frees_of_anything_else_are_refused) {
  void *a;
  int host;
  OK(cudaMalloc(&a, 100));
  CHECK_EQUAL(cudaFree((char *)a + 1), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaFree(&host), cudaErrorInvalidValue);
  OK(cudaFree(a));
  CHECK_EQUAL(cudaFree(a), cudaErrorInvalidValue);
  CHECK_SENTENCE("freed before");
  OK(cudaFree(NULL));
  CHECK_EQUAL(cudaPeekAtLastError(), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaGetLastError(), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
  OK(cudaMalloc(&a, 0));
  CHECK(a == NULL);
}

TEST(copies_beyond_an_allocation_are_refused) {
  char host[200];
  char *a;
  OK(cudaMalloc((void **)&a, 100));
  OK(cudaMemcpy(a + 50, host, 50, cudaMemcpyHostToDevice));
  CHECK_EQUAL(cudaMemcpy(a + 50, host, 51, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  CHECK_SENTENCE("beyond the allocation of 100 bytes");
  CHECK_EQUAL(cudaMemcpy(host, a - 1, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaMemcpy(host, host, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_SENTENCE("no device address");
  CHECK_EQUAL(cudaMemcpy(a, a, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaMemcpy(a, host, 1, 9), cudaErrorInvalidMemcpyDirection);
  CHECK_EQUAL(cudaMemset(a, 0, 101), cudaErrorInvalidValue);
  OK(cudaFree(a));
  CHECK_EQUAL(cudaMemcpy(a, host, 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  CHECK_SENTENCE("was freed");
}

TEST(a_stream_frees_when_it_gets_there) {
  cudaStream_t stream;
  void *a;
  char host[64];
  OK(cudaStreamCreateWithFlags(&stream, 1));
  OK(cudaMallocAsync(&a, 64, stream));
  OK(cudaMemsetAsync(a, 5, 64, stream));
  OK(cudaMemcpyAsync(host, a, 64, cudaMemcpyDeviceToHost, stream));
  OK(cudaFreeAsync(a, stream));
  CHECK(cudaFreeAsync(a, stream) == cudaErrorInvalidValue);
  OK(cudaStreamSynchronize(stream));
  CHECK_EQUAL(host[63], 5);
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
  OK(cudaStreamDestroy(stream));
}

TEST(pinned_memory_is_allocated_registered_and_given_back) {
  void *host;
  char own[300];
  OK(cudaHostAlloc(&host, 10000, 0));
  OK(cudaHostRegister(own, 200, 0));
  CHECK_EQUAL(account(ACCOUNT_PINNED_BYTES), 10200);
  CHECK_EQUAL(cudaHostRegister(own + 100, 200, 0), cudaErrorHostMemoryAlreadyRegistered);
  CHECK_EQUAL(cudaHostUnregister(own + 1), cudaErrorHostMemoryNotRegistered);
  OK(cudaHostUnregister(own));
  CHECK_EQUAL(cudaHostUnregister(own), cudaErrorHostMemoryNotRegistered);
  OK(cudaFreeHost(host));
  CHECK_EQUAL(cudaFreeHost(own), cudaErrorInvalidValue);
  OK(cudaFreeHost(NULL));
  CHECK_EQUAL(account(ACCOUNT_PINNED_BYTES), 0);
}

TEST(allocations_of_random_sizes_never_overlap) {
  enum { SLOTS = 200 };
  void *addresses[SLOTS] = {0};
  size_t sizes[SLOTS];
  unsigned state = 12345;
  for (int i = 0; i < 5000; i++) {
    state = state * 1664525u + 1013904223u;
    int slot = (int)(state >> 8) % SLOTS;
    if (addresses[slot] != NULL) {
      unsigned char ends[2];
      OK(cudaMemcpy(&ends[0], addresses[slot], 1, cudaMemcpyDeviceToHost));
      OK(cudaMemcpy(&ends[1], (char *)addresses[slot] + sizes[slot] - 1, 1, cudaMemcpyDeviceToHost));
      CHECK_EQUAL(ends[0], slot);
      CHECK_EQUAL(ends[1], slot);
      OK(cudaFree(addresses[slot]));
      addresses[slot] = NULL;
    } else {
      sizes[slot] = 1 + (state >> 16) % 20000;
      OK(cudaMalloc(&addresses[slot], sizes[slot]));
      OK(cudaMemset(addresses[slot], slot, sizes[slot]));
    }
  }
  for (int i = 0; i < SLOTS; i++) OK(cudaFree(addresses[i]));
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
}

TEST(the_default_pool_keeps_its_attributes) {
  cudaMemPool_t pool;
  uint64_t value = UINT64_MAX, read = 0;
  OK(cudaDeviceGetDefaultMemPool(&pool, 1));
  OK(cudaMemPoolSetAttribute(pool, 4, &value));
  OK(cudaMemPoolGetAttribute(pool, 4, &read));
  CHECK(read == UINT64_MAX);
  CHECK_EQUAL(cudaMemPoolGetAttribute(pool, 0, &read), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaMemPoolGetAttribute((cudaMemPool_t)&read, 4, &read), cudaErrorInvalidValue);
}

/* The signal that ends a process which touches device memory from the host; the sanitizers turn it into an exit. */
static int touch(bool write) {
  char *a;
  OK(cudaMalloc((void **)&a, 100));
  signal(SIGSEGV, SIG_DFL);
  if (write) *(volatile char *)a = 1;
  return *(volatile char *)a;
}

TEST(a_program_that_touches_device_memory_from_the_host_dies) {
  for (int write = 0; write < 2; write++) {
    pid_t pid = fork_child();
    if (pid == 0) _exit(touch(write == 1) & 0);
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  }
}
