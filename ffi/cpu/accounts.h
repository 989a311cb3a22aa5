/* What the stand-in counts: resources alive, bytes moved, calls made, rules broken. */
#ifndef SEQFERRY_CPU_ACCOUNTS_H
#define SEQFERRY_CPU_ACCOUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "faults.h"

/* The slots of seqferryCpuAccounts, in order; all are of this process. */
enum account {
  ACCOUNT_LIVE_ALLOCATIONS,    /* device allocations not yet freed */
  ACCOUNT_LIVE_BYTES,          /* their bytes, each rounded up to 512 */
  ACCOUNT_PEAK_BYTES,          /* the most that LIVE_BYTES ever was */
  ACCOUNT_PINNED_BYTES,        /* host bytes allocated or registered as pinned */
  ACCOUNT_LIVE_STREAMS,        /* streams created and not destroyed */
  ACCOUNT_LIVE_EVENTS,         /* events created and not destroyed */
  ACCOUNT_LIVE_COMMUNICATORS,  /* communicators neither destroyed nor aborted */
  ACCOUNT_PEER_BYTES,          /* bytes that receives of this process copied from their senders */
  ACCOUNT_SENDS,               /* sends completed */
  ACCOUNT_RECEIVES,            /* receives completed */
  ACCOUNT_COLLECTIVES,         /* collectives completed */
  ACCOUNT_VIOLATIONS,          /* calls refused because they break a rule of the device or of NCCL */
  ACCOUNT_COLLECTIVE_BYTES,    /* bytes that collectives of this process copied from their peers */
  ACCOUNT_OUTSTANDING_GROUPS,  /* groups enqueued and not complete, one for each communicator in them */
  ACCOUNT_HELPER_BYTES,        /* those of PEER_BYTES and COLLECTIVE_BYTES that the helper copied, with messages under way */
  ACCOUNT_COUNT,
};

extern _Atomic uint64_t accounts[ACCOUNT_COUNT];

static inline void account_add(enum account account, uint64_t amount) {
  atomic_fetch_add_explicit(&accounts[account], amount, memory_order_relaxed);
}

static inline void account_subtract(enum account account, uint64_t amount) {
  atomic_fetch_sub_explicit(&accounts[account], amount, memory_order_relaxed);
}

static inline uint64_t account_of(enum account account) { return atomic_load_explicit(&accounts[account], memory_order_relaxed); }

/* Every function that is counted. */
#define SEQFERRY_CALLS(X)                                                                                                          \
  X(cudaRuntimeGetVersion) X(cudaDriverGetVersion) X(cudaGetDeviceCount) X(cudaGetDevice) X(cudaSetDevice)                         \
  X(cudaDeviceGetAttribute) X(cudaDeviceGetPCIBusId) X(cudaDeviceSynchronize) X(cudaMalloc) X(cudaFree) X(cudaMallocAsync)         \
  X(cudaFreeAsync) X(cudaHostAlloc) X(cudaFreeHost) X(cudaHostRegister) X(cudaHostUnregister) X(cudaMemGetInfo)                    \
  X(cudaDeviceGetDefaultMemPool) X(cudaMemPoolSetAttribute) X(cudaMemPoolGetAttribute) X(cudaMemcpy) X(cudaMemcpyAsync)            \
  X(cudaMemset) X(cudaMemsetAsync) X(cudaMemcpyBatchAsync) X(cudaStreamCreateWithFlags) X(cudaStreamDestroy) X(cudaStreamQuery)    \
  X(cudaStreamSynchronize) X(cudaStreamWaitEvent) X(cudaEventCreateWithFlags) X(cudaEventDestroy) X(cudaEventRecord)               \
  X(cudaEventQuery) X(cudaEventSynchronize) X(cudaEventElapsedTime) X(cudaGetLastError) X(cudaPeekAtLastError)                     \
  X(cudaGetErrorName) X(cudaGetErrorString) X(ncclGetVersion) X(ncclGetErrorString) X(ncclGetLastError) X(ncclGetUniqueId)         \
  X(ncclCommInitRank) X(ncclCommInitRankConfig) X(ncclCommInitRankScalable) X(ncclCommSplit) X(ncclCommFinalize)                   \
  X(ncclCommDestroy) X(ncclCommAbort) X(ncclCommGetAsyncError) X(ncclCommCount) X(ncclCommCuDevice) X(ncclCommUserRank)            \
  X(ncclGroupStart) X(ncclGroupEnd) X(ncclSend) X(ncclRecv) X(ncclBroadcast) X(ncclAllReduce) X(ncclAllGather)                     \
  X(cudaIpcGetMemHandle) X(cudaIpcOpenMemHandle) X(cudaIpcCloseMemHandle) X(cudaIpcGetEventHandle) X(cudaIpcOpenEventHandle)       \
  X(ncclReduce) X(ncclReduceScatter) X(ncclGather) X(ncclScatter) X(ncclAlltoAll) X(ncclCommShrink) X(ncclCommRevoke)              \
  X(ncclMemAlloc) X(ncclMemFree) X(ncclCommRegister) X(ncclCommDeregister)

enum call {
#define X(name) CALL_##name,
  SEQFERRY_CALLS(X)
#undef X
      CALL_COUNT,
};

extern _Atomic uint64_t call_counts[CALL_COUNT];

/* The C name of a call; the call of a name, or -1. */
const char *call_name(int call);
int call_find(const char *name);
bool call_is_nccl(int call);
/* Whether a function answers a code, and not a text. */
bool call_answers_code(int call);

#define COUNT(name) atomic_fetch_add_explicit(&call_counts[CALL_##name], 1, memory_order_relaxed)

/* Every exported function that answers a code begins with this: the one place that sees all calls. Those that answer a text only count. */
#define ENTER(name)                                             \
  do {                                                          \
    COUNT(name);                                                \
    if (faults_armed()) {                                       \
      int told_to_answer = fault_of_call(CALL_##name);          \
      if (told_to_answer != 0) return told_to_answer;           \
    }                                                           \
  } while (0)

#endif
