/* Random traffic with a printed seed, many communicators, and descriptors that must not pile up. */
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../accounts.h"
#include "harness.h"

static unsigned next_random(unsigned *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* What the rank `from` sends to `to` in a round: several messages, whose sizes all ranks can work out. */
enum { MESSAGES = 3, MOST_BYTES = 70000 };
static size_t size_of(unsigned seed, int round, int from, int to, int message) {
  unsigned state = seed ^ (unsigned)(round * 7919 + from * 104729 + to * 1299709 + message * 15485863);
  next_random(&state);
  unsigned kind = next_random(&state) % 4;
  return kind == 0 ? 0 : kind == 1 ? next_random(&state) % 64 : next_random(&state) % MOST_BYTES;
}

static int label(int round, int from, int to, int message) { return round * 31 + from * 7 + to * 3 + message; }

static void random_traffic(int rank, int count, struct shared *shared) {
  unsigned seed = 20240611, state = seed + (unsigned)rank;
  struct one one;
  one_open(&one, rank, count, shared, false);
  char *out, *in;
  size_t slots = (size_t)(count * MESSAGES) * MOST_BYTES;
  OK(cudaMalloc((void **)&out, slots));
  OK(cudaMalloc((void **)&in, slots));
  for (int round = 0; round < 12; round++) {
    for (int peer = 0; peer < count; peer++) {
      for (int message = 0; message < MESSAGES; message++) {
        fill(out + (size_t)(peer * MESSAGES + message) * MOST_BYTES, size_of(seed, round, rank, peer, message),
             label(round, rank, peer, message));
      }
    }
    OK(cudaMemset(in, 0, slots));
    /* Peers in a random order, each one's messages in theirs. */
    int next_out[MOST_RANKS] = {0}, next_in[MOST_RANKS] = {0};
    OK(ncclGroupStart());
    for (int left = 2 * count * MESSAGES; left > 0;) {
      int peer = (int)(next_random(&state) % (unsigned)count);
      bool send = next_random(&state) % 2 == 0;
      int *message = send ? &next_out[peer] : &next_in[peer];
      if (*message == MESSAGES) continue;
      char *at = (send ? out : in) + (size_t)(peer * MESSAGES + *message) * MOST_BYTES;
      size_t bytes = send ? size_of(seed, round, rank, peer, *message) : size_of(seed, round, peer, rank, *message);
      OK(send ? ncclSend(at, bytes, ncclUint8, peer, one.comm, one.stream) : ncclRecv(at, bytes, ncclUint8, peer, one.comm, one.stream));
      ++*message;
      left--;
    }
    CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
    OK(settle(one.comm));
    drain(one.stream);
    for (int peer = 0; peer < count; peer++) {
      for (int message = 0; message < MESSAGES; message++) {
        size_t bytes = size_of(seed, round, peer, rank, message);
        if (!holds(in + (size_t)(peer * MESSAGES + message) * MOST_BYTES, bytes, label(round, peer, rank, message))) {
          FAIL("seed %u, round %d: message %d of %zu bytes from rank %d to rank %d arrived wrong", seed, round, message, bytes, peer, rank);
        }
      }
    }
  }
  OK(cudaFree(out));
  OK(cudaFree(in));
  one_close(&one);
}

TEST(random_traffic_between_processes_arrives) { in_processes(4, random_traffic, -1); }

static int open_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

static int mappings(void) {
  int count = 0, c;
  FILE *maps = fopen("/proc/self/maps", "r");
  while ((c = fgetc(maps)) != EOF) count += c == '\n';
  fclose(maps);
  return count;
}

TEST(communicators_that_come_and_go_leave_no_descriptors_or_mappings) {
  static struct ranks ranks;
  int descriptors = 0, maps = 0;
  for (int round = 0; round < 60; round++) {
    ranks_open(&ranks, 3, false);
    ncclComm_t child[3];
    for (int rank = 0; rank < 3; rank++) CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], 0, 0, &child[rank], NULL), ncclInProgress);
    for (int rank = 0; rank < 3; rank++) OK(settle(ranks.comm[rank]));
    for (int rank = 0; rank < 3; rank++) OK(ncclCommAbort(child[rank]));
    if (round % 2 == 0) {
      ranks_close(&ranks);
    } else {
      for (int rank = 0; rank < 3; rank++) OK(ncclCommAbort(ranks.comm[rank]));
      for (int rank = 0; rank < 3; rank++) OK(cudaStreamDestroy(ranks.stream[rank]));
    }
    /* The worker's stack and the allocator's arenas come in the first rounds. */
    if (round == 20) {
      descriptors = open_descriptors();
      maps = mappings();
    }
  }
  CHECK_EQUAL(open_descriptors(), descriptors);
  /* Sanitizers map some for themselves; one lost in each of the 39 rounds since would show. */
  if (mappings() > maps + 20) FAIL("%d mappings became %d", maps, mappings());
}

static void stopped_peer(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  void *a = device_bytes(100, rank);
  shared->words[rank] = (uint64_t)getpid();
  if (rank == 1) {
    raise(SIGSTOP);
    /* Gone on: the peer has aborted, so what it had posted is not taken. */
    ncclRecv(a, 100, ncclUint8, 0, one.comm, one.stream);
    OK(settle(one.comm));
    CHECK(!idle_within(one.stream, 100));
    OK(ncclCommAbort(one.comm));
    CHECK(holds(a, 100, 1));
    shared->words[0] = 0;
    return;
  }
  while (shared->words[1] == 0) sleep_ms(1);
  sleep_ms(50);
  ncclSend(a, 100, ncclUint8, 1, one.comm, one.stream);
  OK(settle(one.comm));
  CHECK(!idle_within(one.stream, 300));
  OK(settle(one.comm));
  CHECK_EQUAL(seqferryCpuLostPeer(one.comm), -1);
  uint8_t awaited[2];
  OK(seqferryCpuOutstanding(one.comm, awaited, 2));
  CHECK_EQUAL(awaited[1], 1);
  OK(ncclCommAbort(one.comm));
  OK(cudaFree(a));
  kill((pid_t)shared->words[1], SIGCONT);
  /* As long as this process lives it has left, and is not lost. */
  while (shared->words[0] != 0) sleep_ms(1);
}

TEST(a_stopped_peer_is_awaited_not_lost) { in_processes(2, stopped_peer, -1); }

TEST(sixty_ranks_in_one_thread_gather_and_split) {
  enum { COUNT = 60 };
  static struct ranks ranks;
  ranks_open(&ranks, COUNT, false);
  int64_t *all[COUNT], host[COUNT];
  ncclComm_t child[COUNT];
  for (int rank = 0; rank < COUNT; rank++) {
    use_rank(rank);
    int64_t mine = rank * rank;
    OK(cudaMalloc((void **)&all[rank], sizeof host));
    OK(cudaMemcpy(all[rank] + rank, &mine, sizeof mine, cudaMemcpyHostToDevice));
    CHECK_EQUAL(ncclAllGather(all[rank] + rank, all[rank], 1, ncclInt64, ranks.comm[rank], ranks.stream[rank]), ncclInProgress);
  }
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
  ranks_drain(&ranks);
  for (int rank = 0; rank < COUNT; rank++) {
    OK(cudaMemcpy(host, all[rank], sizeof host, cudaMemcpyDeviceToHost));
    for (int peer = 0; peer < COUNT; peer++) CHECK_EQUAL(host[peer], peer * peer);
    CHECK_EQUAL(ncclCommSplit(ranks.comm[rank], rank % 7, 0, &child[rank], NULL), ncclInProgress);
  }
  for (int rank = 0; rank < COUNT; rank++) OK(settle(ranks.comm[rank]));
  for (int rank = 0; rank < COUNT; rank++) {
    OK(settle(child[rank]));
    OK(ncclCommDestroy(child[rank]));
  }
  ranks_close(&ranks);
}
