#include "harness.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../accounts.h"

static struct {
  const char *name;
  void (*run)(void);
} tests[256];
static int test_count;

void harness_add(const char *name, void (*run)(void)) {
  tests[test_count].name = name;
  tests[test_count++].run = run;
}

_Noreturn void harness_fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s:%d: ", file, line);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  _exit(1);
}

const char *sentence(void) {
  static _Thread_local char text[600];
  seqferryCpuLastError(text, sizeof text);
  return text;
}

uint64_t account(int which) {
  uint64_t values[ACCOUNT_COUNT];
  seqferryCpuAccounts(values, ACCOUNT_COUNT);
  return values[which];
}

double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void sleep_ms(int milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  nanosleep(&time, NULL);
}

void setting(const char *name, const char *value) { setenv(name, value, 1); }

/* As large as NCCL 2.30's, with nothing set but `blocking`. */
ncclConfig_t *nonblocking(void) {
  static union {
    ncclConfig_t config;
    int32_t numbers[24];
  } block;
  /* Undefined numbers are INT_MIN; the pointers netName, at 32, and commName, at 48, are NULL. */
  for (int i = 5; i < 24; i++) block.numbers[i] = i == 8 || i == 9 || i == 12 || i == 13 ? 0 : INT32_MIN;
  block.config = (ncclConfig_t){.size = sizeof block, .magic = NCCL_CONFIG_MAGIC, .version = 23007, .blocking = 0};
  return &block.config;
}

ncclResult_t settle(ncclComm_t comm) {
  double end = seconds() + LONGEST_WAIT;
  for (;;) {
    ncclResult_t state;
    OK(ncclCommGetAsyncError(comm, &state));
    if (state != ncclInProgress) return state;
    if (seconds() > end) FAIL("a communicator is still in progress after %d seconds", LONGEST_WAIT);
  }
}

bool idle_within(cudaStream_t stream, int milliseconds) {
  double end = seconds() + milliseconds / 1e3;
  for (;;) {
    cudaError_t error = cudaStreamQuery(stream);
    if (error == cudaSuccess) return true;
    CHECK_EQUAL(error, cudaErrorNotReady);
    if (seconds() > end) return false;
  }
}

void drain(cudaStream_t stream) {
  if (!idle_within(stream, 1000 * LONGEST_WAIT)) FAIL("a stream is still busy after %d seconds", LONGEST_WAIT);
}

/* The pattern comes again after this many bytes. */
#define PATTERN ((size_t)251 * 256)
/* Memory is filled and compared in pieces: for all of it at once, a sanitizer would keep as much of its own several times over. */
#define PIECE (16 * PATTERN)

static size_t least(size_t one, size_t other) { return one < other ? one : other; }

/* As many bytes of the pattern as a piece, or less where `bytes` are less. */
static unsigned char *piece_of_pattern(size_t bytes, int seed) {
  size_t length = least(bytes, PIECE);
  unsigned char *piece = malloc(length + 1);
  for (size_t i = 0; i < least(length, PATTERN); i++) piece[i] = (unsigned char)((i * 31 + i / 251 + (size_t)seed * 97) & 0xff);
  for (size_t i = PATTERN; i < length; i += PATTERN) memcpy(piece + i, piece, least(length - i, PATTERN));
  return piece;
}

void fill(void *device, size_t bytes, int seed) {
  unsigned char *piece = piece_of_pattern(bytes, seed);
  for (size_t i = 0; i < bytes; i += PIECE) OK(cudaMemcpy((char *)device + i, piece, least(bytes - i, PIECE), cudaMemcpyHostToDevice));
  free(piece);
}

void *device_bytes(size_t bytes, int seed) {
  void *device = NULL;
  OK(cudaMalloc(&device, bytes));
  fill(device, bytes, seed);
  return device;
}

bool holds(const void *device, size_t bytes, int seed) {
  unsigned char *piece = piece_of_pattern(bytes, seed), *host = malloc(least(bytes, PIECE) + 1);
  bool same = true;
  for (size_t i = 0; i < bytes && same; i += PIECE) {
    size_t length = least(bytes - i, PIECE);
    OK(cudaMemcpy(host, (const char *)device + i, length, cudaMemcpyDeviceToHost));
    same = memcmp(host, piece, length) == 0;
  }
  free(host);
  free(piece);
  return same;
}

void use_rank(int rank) { OK(cudaSetDevice(rank << 16)); }

void ranks_open(struct ranks *ranks, int count, bool blocking) {
  ncclUniqueId id;
  memset(ranks, 0, sizeof *ranks);
  ranks->count = count;
  OK(ncclGetUniqueId(&id));
  if (blocking) OK(ncclGroupStart());
  for (int rank = 0; rank < count; rank++) {
    use_rank(rank);
    OK(cudaStreamCreateWithFlags(&ranks->stream[rank], 1));
    if (blocking) {
      OK(ncclCommInitRank(&ranks->comm[rank], count, id, rank));
    } else {
      CHECK_EQUAL(ncclCommInitRankConfig(&ranks->comm[rank], count, id, rank, nonblocking()), ncclInProgress);
    }
  }
  if (blocking) OK(ncclGroupEnd());
  for (int rank = 0; rank < count; rank++) OK(settle(ranks->comm[rank]));
}

void ranks_drain(const struct ranks *ranks) {
  for (int rank = 0; rank < ranks->count; rank++) drain(ranks->stream[rank]);
}

void ranks_close(struct ranks *ranks) {
  for (int rank = 0; rank < ranks->count; rank++) {
    OK(ncclCommDestroy(ranks->comm[rank]));
    OK(cudaStreamDestroy(ranks->stream[rank]));
  }
}

pid_t fork_child(void) {
  pid_t parent = getpid(), pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  return 0;
}

void in_processes(int count, void (*run)(int rank, int count, struct shared *shared), int killed_rank) {
  struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pids[MOST_RANKS];
  for (int rank = 0; rank < count; rank++) {
    pids[rank] = fork_child();
    if (pids[rank] == 0) {
      run(rank, count, shared);
      exit(0);
    }
  }
  bool failed = false;
  for (int rank = 0; rank < count; rank++) {
    int status = 0;
    waitpid(pids[rank], &status, 0);
    bool as_expected = rank == killed_rank ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                           : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!as_expected) {
      fprintf(stderr, "the process of rank %d ended with status 0x%x\n", rank, status);
      failed = true;
    }
  }
  if (failed) FAIL("a process failed");
}

void one_open(struct one *one, int rank, int count, struct shared *shared, bool blocking) {
  OK(cudaSetDevice(rank % 8));
  OK(cudaStreamCreateWithFlags(&one->stream, 1));
  if (rank == 0) {
    OK(ncclGetUniqueId(&shared->id));
    shared->flags[MOST_RANKS - 1] = 1;
  }
  while (shared->flags[MOST_RANKS - 1] == 0) sleep_ms(1);
  if (blocking) {
    OK(ncclCommInitRank(&one->comm, count, shared->id, rank));
  } else {
    CHECK_EQUAL(ncclCommInitRankConfig(&one->comm, count, shared->id, rank, nonblocking()), ncclInProgress);
    OK(settle(one->comm));
  }
}

void one_close(struct one *one) {
  OK(ncclCommDestroy(one->comm));
  OK(cudaStreamDestroy(one->stream));
}

/* Without arguments: the names of all tests. With one: that test. */
int main(int argc, char **argv) {
  for (int i = 0; i < test_count; i++) {
    if (argc < 2) {
      puts(tests[i].name);
    } else if (strcmp(argv[1], tests[i].name) == 0) {
      tests[i].run();
      return 0;
    }
  }
  if (argc >= 2) fprintf(stderr, "there is no test %s\n", argv[1]);
  return argc < 2 ? 0 : 1;
}
