/* Point to point: within one thread, between threads, between processes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../accounts.h"
#include "harness.h"

/* As the helper needs them. */
static bool has_two_cores(void) {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) >= 2;
}

TEST(send_and_receive_move_every_byte_between_ranks_of_one_thread) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  const size_t sizes[] = {1, 7, 4096, 300001, 5 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    use_rank(0);
    void *from = device_bytes(sizes[i], (int)i);
    use_rank(1);
    void *to = device_bytes(sizes[i], 99);
    CHECK_EQUAL(ncclSend(from, sizes[i], ncclUint8, 1, ranks.comm[0], ranks.stream[0]), ncclInProgress);
    CHECK_EQUAL(ncclRecv(to, sizes[i], ncclUint8, 0, ranks.comm[1], ranks.stream[1]), ncclInProgress);
    OK(settle(ranks.comm[0]));
    OK(settle(ranks.comm[1]));
    ranks_drain(&ranks);
    CHECK(holds(to, sizes[i], (int)i));
    OK(cudaFree(from));
    OK(cudaFree(to));
  }
  uint64_t sent, received;
  OK(seqferryCpuPeerBytes(ranks.comm[0], 1, &sent, &received));
  CHECK_EQUAL(sent, 1 + 7 + 4096 + 300001 + (5 << 20));
  CHECK_EQUAL(received, 0);
  ranks_close(&ranks);
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
  CHECK_EQUAL(account(ACCOUNT_SENDS), 5);
}

TEST(operations_of_a_pair_match_in_order_and_may_be_many) {
  enum { COUNT = 200 };
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  char *from = device_bytes(COUNT * 512, 3);
  use_rank(1);
  char *to = device_bytes(COUNT * 512, 4);
  OK(ncclGroupStart());
  for (int i = 0; i < COUNT; i++) OK(ncclSend(from + i * 512, (size_t)(i % 7 == 0 ? 0 : 512), ncclUint8, 1, ranks.comm[0], ranks.stream[0]));
  CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  OK(ncclGroupStart());
  for (int i = 0; i < COUNT; i++) OK(ncclRecv(to + i * 512, (size_t)(i % 7 == 0 ? 0 : 512), ncclUint8, 0, ranks.comm[1], ranks.stream[1]));
  CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  OK(settle(ranks.comm[0]));
  OK(settle(ranks.comm[1]));
  ranks_drain(&ranks);
  char *a = malloc(COUNT * 512), *b = malloc(COUNT * 512);
  OK(cudaMemcpy(a, from, COUNT * 512, cudaMemcpyDeviceToHost));
  OK(cudaMemcpy(b, to, COUNT * 512, cudaMemcpyDeviceToHost));
  for (int i = 0; i < COUNT; i++) CHECK((memcmp(a + i * 512, b + i * 512, 512) == 0) == (i % 7 != 0));
  free(a);
  free(b);
  ranks_close(&ranks);
}

TEST(a_rank_sends_to_itself_in_one_group) {
  struct ranks ranks;
  ranks_open(&ranks, 1, false);
  use_rank(0);
  void *from = device_bytes(1000, 1), *to = device_bytes(1000, 2);
  OK(ncclGroupStart());
  OK(ncclSend(from, 1000, ncclUint8, 0, ranks.comm[0], ranks.stream[0]));
  OK(ncclRecv(to, 1000, ncclUint8, 0, ranks.comm[0], ranks.stream[0]));
  CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  OK(settle(ranks.comm[0]));
  ranks_drain(&ranks);
  CHECK(holds(to, 1000, 1));
  CHECK_EQUAL(ncclSend(from, 1000, ncclUint8, 0, ranks.comm[0], ranks.stream[0]), ncclInvalidUsage);
  CHECK_SENTENCE("rank 0 sends to itself");
  ranks_close(&ranks);
}

static void *blocking_rank(void *argument) {
  struct ranks *ranks = argument;
  static _Atomic int next;
  int rank = next++, count = ranks->count;
  use_rank(rank);
  cudaStream_t stream = ranks->stream[rank];
  void *from = device_bytes(70000, rank), *to = device_bytes(70000, 50);
  for (int round = 0; round < 20; round++) {
    int right = (rank + 1) % count, left = (rank + count - 1) % count;
    fill(from, 70000, rank + round);
    OK(ncclGroupStart());
    OK(ncclRecv(to, 70000, ncclUint8, left, ranks->comm[rank], stream));
    OK(ncclSend(from, 70000, ncclUint8, right, ranks->comm[rank], stream));
    OK(ncclGroupEnd());
    OK(cudaStreamSynchronize(stream));
    CHECK(holds(to, 70000, left + round));
  }
  OK(cudaFree(from));
  OK(cudaFree(to));
  return NULL;
}

TEST(ranks_in_threads_of_their_own_pass_data_around_a_ring) {
  static struct ranks ranks;
  ranks_open(&ranks, 5, true);
  pthread_t threads[5];
  for (int i = 0; i < 5; i++) pthread_create(&threads[i], NULL, blocking_rank, &ranks);
  for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
  ranks_close(&ranks);
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
}

static void ring_of_processes(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, rank % 2 == 0);
  const size_t bytes = 3 << 20;
  int right = (rank + 1) % count, left = (rank + count - 1) % count;
  void *from = device_bytes(bytes, rank), *to = device_bytes(bytes, 77);
  for (int round = 0; round < 10; round++) {
    fill(from, bytes, rank * 3 + round);
    OK(ncclGroupStart());
    OK(ncclSend(from, bytes, ncclUint8, right, one.comm, one.stream));
    OK(ncclRecv(to, bytes, ncclUint8, left, one.comm, one.stream));
    ncclGroupEnd();
    OK(settle(one.comm));
    drain(one.stream);
    CHECK(holds(to, bytes, left * 3 + round));
  }
  OK(cudaFree(from));
  OK(cudaFree(to));
  one_close(&one);
  CHECK_EQUAL(account(ACCOUNT_LIVE_BYTES), 0);
}

TEST(processes_pass_data_around_a_ring) { in_processes(4, ring_of_processes, -1); }

static void growing_heap(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  /* Each block is beyond what the receiver has mapped of the sender's heap so far. */
  for (int i = 0; i < 4; i++) {
    const size_t bytes = (size_t)80 << 20;
    void *block = NULL;
    OK(cudaMalloc(&block, bytes));
    char *end = (char *)block + bytes - 1000;
    if (rank == 0) fill(end, 1000, i);
    if (rank == 0) {
      ncclSend(end, 1000, ncclUint8, 1, one.comm, one.stream);
    } else {
      ncclRecv(end, 1000, ncclUint8, 0, one.comm, one.stream);
    }
    OK(settle(one.comm));
    drain(one.stream);
    CHECK(holds(end, 1000, i));
  }
  one_close(&one);
}

TEST(a_receiver_follows_the_senders_heap_as_it_grows) { in_processes(2, growing_heap, -1); }

static void gather_of_long_messages(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  /* No multiple of what the helper copies at once. */
  const size_t bytes = (size_t)(9 << 20) + 12345;
  char *from = device_bytes(bytes, rank), *to = rank == 0 ? device_bytes(bytes * (size_t)count, 77) : NULL;
  for (int round = 0; round < 5; round++) {
    fill(from, bytes, rank * 5 + round);
    OK(ncclGroupStart());
    for (int peer = 1; rank == 0 && peer < count; peer++) {
      OK(ncclRecv(to + bytes * (size_t)peer, bytes, ncclUint8, peer, one.comm, one.stream));
    }
    if (rank != 0) OK(ncclSend(from, bytes, ncclUint8, 0, one.comm, one.stream));
    ncclGroupEnd();
    OK(settle(one.comm));
    drain(one.stream);
    for (int peer = 1; rank == 0 && peer < count; peer++) CHECK(holds(to + bytes * (size_t)peer, bytes, peer * 5 + round));
  }
  uint64_t helped = account(ACCOUNT_HELPER_BYTES);
  CHECK(rank == 0 && has_two_cores() ? helped > 0 : helped == 0);
  CHECK(helped < account(ACCOUNT_PEER_BYTES) || helped == 0);
  one_close(&one);
}

TEST(the_helper_takes_parts_of_long_messages) { in_processes(4, gather_of_long_messages, -1); }

TEST(an_abort_waits_for_the_helper) {
  const size_t bytes = (size_t)16 << 20;
  int in_the_middle = 0;
  for (int round = 0; round < 30; round++) {
    struct ranks ranks;
    ranks_open(&ranks, 2, false);
    use_rank(0);
    void *from = device_bytes(bytes, round);
    use_rank(1);
    void *to = device_bytes(bytes, 99);
    ncclSend(from, bytes, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
    ncclRecv(to, bytes, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
    /* Whichever end it is: the memory of both can be used again. */
    OK(ncclCommAbort(ranks.comm[round % 2]));
    uint64_t copied = account(ACCOUNT_HELPER_BYTES);
    sleep_ms(2);
    CHECK_EQUAL(account(ACCOUNT_HELPER_BYTES), copied);
    OK(ncclCommAbort(ranks.comm[1 - round % 2]));
    in_the_middle += !holds(to, bytes, round);
    OK(cudaFree(from));
    OK(cudaFree(to));
    for (int rank = 0; rank < 2; rank++) OK(cudaStreamDestroy(ranks.stream[rank]));
  }
  /* On a busy machine an abort may come when all is done; not each time. */
  CHECK(in_the_middle > 0);
  CHECK(!has_two_cores() || account(ACCOUNT_HELPER_BYTES) > 0);
}

static void abort_in_a_long_message(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  const size_t bytes = (size_t)64 << 20;
  void *memory = device_bytes(bytes, rank);
  if (rank == 0) {
    ncclSend(memory, bytes, ncclUint8, 1, one.comm, one.stream);
    OK(settle(one.comm));
    while (shared->flags[1] == 0) sleep_ms(1);
  } else {
    ncclRecv(memory, bytes, ncclUint8, 0, one.comm, one.stream);
    OK(settle(one.comm));
    for (int i = 0; i < 20; i++) cudaStreamQuery(one.stream);
  }
  /* The sender's memory goes out of the receiver's sight with this, its only communicator. */
  OK(ncclCommAbort(one.comm));
  shared->flags[rank] = 1;
  OK(cudaFree(memory));
  OK(cudaStreamDestroy(one.stream));
}

TEST(an_abort_in_the_middle_of_a_long_message_leaves_nobody_reading) {
  for (int round = 0; round < 5; round++) in_processes(2, abort_in_a_long_message, -1);
}

static void outgrown_mapping(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *small = device_bytes(4096, rank);
  ncclBroadcast(small, small, 4096, ncclUint8, 0, one.comm, one.stream);
  OK(settle(one.comm));
  drain(one.stream);
  /* Begins in what is mapped, and the heap is more than the receiver has kept addresses for. */
  const size_t bytes = (size_t)80 << 20;
  void *large = NULL;
  OK(cudaMalloc(&large, rank == 0 ? (size_t)1200 << 20 : bytes));
  if (rank == 0) fill(large, bytes, 5);
  ncclBroadcast(large, large, bytes, ncclUint8, 0, one.comm, one.stream);
  OK(settle(one.comm));
  drain(one.stream);
  CHECK(holds(large, bytes, 5));
  one_close(&one);
}

TEST(a_long_broadcast_goes_on_where_its_mapping_is_outgrown) { in_processes(2, outgrown_mapping, -1); }

/* Shared pages in this process's page tables, in bytes. */
static size_t resident_shared_bytes(void) {
  FILE *status = fopen("/proc/self/status", "r");
  CHECK(status != NULL);
  char line[256];
  size_t kibibytes = 0;
  while (fgets(line, sizeof line, status) != NULL && sscanf(line, "RssShmem: %zu", &kibibytes) != 1) continue;
  fclose(status);
  CHECK(kibibytes > 0);
  return kibibytes << 10;
}

enum { LONG_MESSAGES = 5 };
static const size_t long_message = (size_t)60 << 20;

/* Each from memory of its own, into the same memory. */
static void long_messages(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *memory[LONG_MESSAGES];
  for (int i = 0; i < (rank == 0 ? LONG_MESSAGES : 1); i++) memory[i] = device_bytes(long_message, rank == 0 ? i : 77);
  size_t before = resident_shared_bytes();
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < LONG_MESSAGES; i++) {
      if (rank == 0) {
        ncclSend(memory[i], long_message, ncclUint8, 1, one.comm, one.stream);
      } else {
        ncclRecv(memory[0], long_message, ncclUint8, 0, one.comm, one.stream);
      }
      OK(settle(one.comm));
      drain(one.stream);
      if (rank == 1) CHECK(holds(memory[0], long_message, i));
    }
  }
  if (rank == 1) CHECK(resident_shared_bytes() - before <= (size_t)(80 + 4) << 20);
  for (int i = 0; i < (rank == 0 ? LONG_MESSAGES : 1); i++) OK(cudaFree(memory[i]));
  one_close(&one);
}

TEST(what_a_receiver_reads_does_not_all_become_memory_of_its_own) { in_processes(2, long_messages, -1); }

static void long_message_after_short_gathers(int rank, int count, struct shared *shared) {
  OK(cudaSetDevice(rank % 8));
  /* Before the others poll: they would take the processors from the two ranks that fill long memory. */
  char *message = rank < 2 ? device_bytes(long_message, rank) : NULL;
  shared->flags[rank] = 1;
  while (shared->flags[0] == 0 || shared->flags[1] == 0) sleep_ms(1);
  struct one one;
  one_open(&one, rank, count, shared, false);
  enum { PART = 64 };
  char *parts = device_bytes(PART * (size_t)count, rank);
  for (int round = 0; round < 3; round++) {
    ncclAllGather(parts + PART * rank, parts, PART, ncclUint8, one.comm, one.stream);
    OK(settle(one.comm));
    drain(one.stream);
  }
  if (rank < 2) {
    size_t before = resident_shared_bytes();
    if (rank == 0) ncclSend(message, long_message, ncclUint8, 1, one.comm, one.stream);
    if (rank == 1) ncclRecv(message, long_message, ncclUint8, 0, one.comm, one.stream);
    OK(settle(one.comm));
    drain(one.stream);
    if (rank == 1) {
      CHECK(holds(message, long_message, 0));
      CHECK(resident_shared_bytes() - before >= long_message - ((size_t)8 << 20));
    }
  }
  one_close(&one);
}

TEST(short_gathers_among_many_ranks_leave_room_to_map_what_is_received) {
  in_processes(24, long_message_after_short_gathers, -1);
}

/* Cuts this process's heap behind its first `bytes`. */
static void cut_heap(size_t bytes) {
  for (int fd = 0; fd < 256; fd++) {
    struct stat file;
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && (size_t)file.st_size > bytes) OK(ftruncate(fd, (off_t)bytes));
  }
}

/* How much of the last message can be read. */
static size_t readable;

static void unreadable_message(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  char *memory = device_bytes(long_message * (rank == 0 ? 4 : 1), rank);
  /* The last is beyond what a receiver reads at addresses of its own. */
  for (int i = 0; i < 4; i++) {
    if (rank == 0) {
      if (i == 3) cut_heap(long_message * 3 + readable);
      ncclSend(memory + long_message * (size_t)i, long_message, ncclUint8, 1, one.comm, one.stream);
    } else {
      ncclRecv(memory, long_message, ncclUint8, 0, one.comm, one.stream);
    }
    if (i == 3) break;
    OK(settle(one.comm));
    drain(one.stream);
  }
  ncclResult_t state = settle(one.comm);
  for (int i = 0; rank == 1 && i < 5000 && state == ncclSuccess; i++) {
    cudaStreamQuery(one.stream);
    OK(ncclCommGetAsyncError(one.comm, &state));
    sleep_ms(1);
  }
  if (rank == 1) {
    CHECK_EQUAL(state, ncclSystemError);
    CHECK(strstr(ncclGetLastError(one.comm), "rank 1 cannot read the device memory of rank 0") != NULL);
    shared->flags[1] = 1;
  }
  while (shared->flags[1] == 0) sleep_ms(1);
  OK(ncclCommAbort(one.comm));
}

TEST(memory_that_cannot_be_read_fails_the_communicator) {
  readable = 0;
  in_processes(2, unreadable_message, -1);
  /* The end is what the helper begins with. */
  readable = long_message - 4096;
  in_processes(2, unreadable_message, -1);
}

TEST(work_goes_on_while_nobody_polls) {
  struct ranks ranks;
  ranks_open(&ranks, 2, false);
  use_rank(0);
  void *from = device_bytes(20 << 20, 5);
  use_rank(1);
  void *to = device_bytes(20 << 20, 6);
  ncclSend(from, 20 << 20, ncclUint8, 1, ranks.comm[0], ranks.stream[0]);
  ncclRecv(to, 20 << 20, ncclUint8, 0, ranks.comm[1], ranks.stream[1]);
  for (int i = 0; i < 1000 && account(ACCOUNT_RECEIVES) == 0; i++) sleep_ms(5);
  CHECK_EQUAL(account(ACCOUNT_RECEIVES), 1);
  OK(settle(ranks.comm[0]));
  OK(settle(ranks.comm[1]));
  ranks_drain(&ranks);
  CHECK(holds(to, 20 << 20, 5));
  ranks_close(&ranks);
}

TEST(many_ranks_in_one_thread_exchange_all_with_all) {
  enum { COUNT = 24, BYTES = 3000 };
  struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  char *from[COUNT], *to[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    from[rank] = device_bytes(COUNT * BYTES, 0);
    to[rank] = device_bytes(COUNT * BYTES, 1);
    for (int peer = 0; peer < COUNT; peer++) fill(from[rank] + peer * BYTES, BYTES, rank * COUNT + peer);
  }
  for (int rank = 0; rank < COUNT; rank++) {
    OK(ncclGroupStart());
    for (int peer = 0; peer < COUNT; peer++) {
      OK(ncclSend(from[rank] + peer * BYTES, BYTES, ncclUint8, peer, ranks.comm[rank], ranks.stream[rank]));
      OK(ncclRecv(to[rank] + peer * BYTES, BYTES, ncclUint8, peer, ranks.comm[rank], ranks.stream[rank]));
    }
    CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
  }
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
  ranks_drain(&ranks);
  for (int rank = 0; rank < COUNT; rank++) {
    for (int peer = 0; peer < COUNT; peer++) CHECK(holds(to[rank] + peer * BYTES, BYTES, peer * COUNT + rank));
  }
  ranks_close(&ranks);
}
