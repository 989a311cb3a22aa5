/*
 * The C functions that the stand-in exports: those of libcudart and libnccl, under their own names and with their own signatures, and a
 * few of its own (prefix seqferryCpu). Types and numbers are those of the CUDA 13 and NCCL 2.30 headers.
 */
#ifndef SEQFERRY_CPU_API_H
#define SEQFERRY_CPU_API_H

#include <stddef.h>
#include <stdint.h>

#include "versions.h"

#define SEQFERRY_EXPORT __attribute__((visibility("default")))

typedef int cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUmemPoolHandle_st *cudaMemPool_t;

enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidMemcpyDirection = 21,
  cudaErrorInvalidDevice = 101,
  cudaErrorDeviceUninitialized = 201,
  cudaErrorMapBufferObjectFailed = 205,
  cudaErrorOperatingSystem = 304,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorHostMemoryAlreadyRegistered = 712,
  cudaErrorHostMemoryNotRegistered = 713,
  cudaErrorNotPermitted = 800,
  cudaErrorNotSupported = 801,
  cudaErrorUnknown = 999,
};

enum {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};

enum { cudaEventDisableTiming = 2, cudaEventInterprocess = 4 };

enum { cudaIpcMemLazyEnablePeerAccess = 1 };

/* What another process opens memory or an event by; 64 bytes that only the library reads. Both are passed by value. */
typedef struct {
  char reserved[64];
} cudaIpcMemHandle_t;
typedef struct {
  char reserved[64];
} cudaIpcEventHandle_t;

/* struct cudaMemLocation: a kind of place and its number. */
struct cudaMemLocation {
  int type;
  int id;
};

/* struct cudaMemcpyAttributes: 24 bytes. */
struct cudaMemcpyAttributes {
  int srcAccessOrder;
  struct cudaMemLocation srcLocHint;
  struct cudaMemLocation dstLocHint;
  unsigned int flags;
};

typedef int ncclResult_t;
typedef int ncclDataType_t;
typedef int ncclRedOp_t;
typedef struct ncclComm *ncclComm_t;
typedef struct {
  char internal[128];
} ncclUniqueId;

enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
  ncclTimeout = 8,
};

enum {
  ncclInt8 = 0,
  ncclUint8 = 1,
  ncclInt32 = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat16 = 6,
  ncclFloat32 = 7,
  ncclFloat64 = 8,
  ncclBfloat16 = 9,
  ncclFloat8e4m3 = 10,
  ncclFloat8e5m2 = 11,
};

enum { ncclSum = 0, ncclProd = 1, ncclMax = 2, ncclMin = 3, ncclAvg = 4 };

#define NCCL_SPLIT_NOCOLOR (-1)
enum { NCCL_SHRINK_DEFAULT = 0, NCCL_SHRINK_ABORT = 1 };
#define NCCL_CONFIG_MAGIC 0xcafebeefu
/* An int of ncclConfig_t that was not set. */
#define NCCL_CONFIG_UNDEF_INT INT32_MIN

/* The part of ncclConfig_t that all releases since 2.14 share; `size` says how many bytes the caller's has. */
typedef struct {
  size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
} ncclConfig_t;

/* libcudart: versions and devices */
SEQFERRY_EXPORT cudaError_t cudaRuntimeGetVersion(int *version);
SEQFERRY_EXPORT cudaError_t cudaDriverGetVersion(int *version);
SEQFERRY_EXPORT cudaError_t cudaGetDeviceCount(int *count);
SEQFERRY_EXPORT cudaError_t cudaGetDevice(int *device);
SEQFERRY_EXPORT cudaError_t cudaSetDevice(int device);
SEQFERRY_EXPORT cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device);
SEQFERRY_EXPORT cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device);
SEQFERRY_EXPORT cudaError_t cudaDeviceSynchronize(void);

/* libcudart: memory */
SEQFERRY_EXPORT cudaError_t cudaMalloc(void **address, size_t size);
SEQFERRY_EXPORT cudaError_t cudaFree(void *address);
SEQFERRY_EXPORT cudaError_t cudaMallocAsync(void **address, size_t size, cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaFreeAsync(void *address, cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaHostAlloc(void **host, size_t size, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaFreeHost(void *host);
SEQFERRY_EXPORT cudaError_t cudaHostRegister(void *host, size_t size, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaHostUnregister(void *host);
SEQFERRY_EXPORT cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
SEQFERRY_EXPORT cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device);
SEQFERRY_EXPORT cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, int attribute, void *value);
SEQFERRY_EXPORT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, int attribute, void *value);

/* libcudart: copies and fills */
SEQFERRY_EXPORT cudaError_t cudaMemcpy(void *to, const void *from, size_t count, int kind);
SEQFERRY_EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t count, int kind, cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaMemset(void *address, int value, size_t count);
SEQFERRY_EXPORT cudaError_t cudaMemsetAsync(void *address, int value, size_t count, cudaStream_t stream);
#if HAS_BATCH_INDEX
SEQFERRY_EXPORT cudaError_t cudaMemcpyBatchAsync(void **to, void **from, size_t *sizes, size_t count,
                                                 struct cudaMemcpyAttributes *attributes, size_t *attribute_starts,
                                                 size_t attribute_count, size_t *fail_index, cudaStream_t stream);
#elif HAS_BATCH
SEQFERRY_EXPORT cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *sizes, size_t count,
                                                 struct cudaMemcpyAttributes *attributes, size_t *attribute_starts,
                                                 size_t attribute_count, cudaStream_t stream);
#endif

/* libcudart: memory and events of other processes */
SEQFERRY_EXPORT cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *address);
SEQFERRY_EXPORT cudaError_t cudaIpcOpenMemHandle(void **address, cudaIpcMemHandle_t handle, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaIpcCloseMemHandle(void *address);
SEQFERRY_EXPORT cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t *handle, cudaEvent_t event);
SEQFERRY_EXPORT cudaError_t cudaIpcOpenEventHandle(cudaEvent_t *event, cudaIpcEventHandle_t handle);

/* libcudart: streams and events */
SEQFERRY_EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaStreamQuery(cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
SEQFERRY_EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event);
SEQFERRY_EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
SEQFERRY_EXPORT cudaError_t cudaEventQuery(cudaEvent_t event);
SEQFERRY_EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t event);
SEQFERRY_EXPORT cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);

/* libcudart: errors */
SEQFERRY_EXPORT cudaError_t cudaGetLastError(void);
SEQFERRY_EXPORT cudaError_t cudaPeekAtLastError(void);
SEQFERRY_EXPORT const char *cudaGetErrorName(cudaError_t error);
SEQFERRY_EXPORT const char *cudaGetErrorString(cudaError_t error);

/* libnccl: versions and errors */
SEQFERRY_EXPORT ncclResult_t ncclGetVersion(int *version);
SEQFERRY_EXPORT const char *ncclGetErrorString(ncclResult_t result);
SEQFERRY_EXPORT const char *ncclGetLastError(ncclComm_t comm);

/* libnccl: communicators */
SEQFERRY_EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
SEQFERRY_EXPORT ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank);
SEQFERRY_EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t *config);
#if HAS_INIT_SCALABLE
SEQFERRY_EXPORT ncclResult_t ncclCommInitRankScalable(ncclComm_t *comm, int nranks, int rank, int id_count, ncclUniqueId *ids,
                                                      ncclConfig_t *config);
#endif
SEQFERRY_EXPORT ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *child, ncclConfig_t *config);
#if HAS_SHRINK
SEQFERRY_EXPORT ncclResult_t ncclCommShrink(ncclComm_t comm, int *excluded, int excluded_count, ncclComm_t *child, ncclConfig_t *config,
                                            int flags);
#endif
#if HAS_REVOKE
SEQFERRY_EXPORT ncclResult_t ncclCommRevoke(ncclComm_t comm, int flags);
#endif
SEQFERRY_EXPORT ncclResult_t ncclCommFinalize(ncclComm_t comm);
SEQFERRY_EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm);
SEQFERRY_EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm);
SEQFERRY_EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state);
SEQFERRY_EXPORT ncclResult_t ncclCommCount(const ncclComm_t comm, int *count);
SEQFERRY_EXPORT ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device);
SEQFERRY_EXPORT ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank);

/* libnccl: groups, point to point, collectives. Counts are elements of the data type. */
SEQFERRY_EXPORT ncclResult_t ncclGroupStart(void);
SEQFERRY_EXPORT ncclResult_t ncclGroupEnd(void);
SEQFERRY_EXPORT ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                                      cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                                      cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                                           ncclComm_t comm, cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                           ncclComm_t comm, cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                                           cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                                        ncclComm_t comm, cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                               ncclComm_t comm, cudaStream_t stream);
#if HAS_ROOTED
SEQFERRY_EXPORT ncclResult_t ncclGather(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                        cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclScatter(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                         cudaStream_t stream);
SEQFERRY_EXPORT ncclResult_t ncclAlltoAll(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                                          cudaStream_t stream);
#endif

/* libnccl: memory that NCCL can use without copying */
#if HAS_REGISTER
SEQFERRY_EXPORT ncclResult_t ncclMemAlloc(void **address, size_t size);
SEQFERRY_EXPORT ncclResult_t ncclMemFree(void *address);
SEQFERRY_EXPORT ncclResult_t ncclCommRegister(const ncclComm_t comm, void *address, size_t size, void **registration);
SEQFERRY_EXPORT ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *registration);
#endif

/* The stand-in's own. */

/* The version of the functions below: 1. */
SEQFERRY_EXPORT int seqferryCpuAbi(void);
/*
 * Copies the sentence of the calling thread's last error of either library, or else the process's, with a NUL, cut to `size`; answers its
 * whole length without the NUL.
 */
SEQFERRY_EXPORT size_t seqferryCpuLastError(char *text, size_t size);
/* Copies the first `n` accounts; see enum account in accounts.h for their order. */
SEQFERRY_EXPORT void seqferryCpuAccounts(uint64_t *out, size_t n);
/* How often a function of libcudart or libnccl was called in this process; answers 0, or 1 for a name that is not known. */
SEQFERRY_EXPORT int seqferryCpuCallCount(const char *function, uint64_t *out);
/* Bytes sent to and received from a peer over a communicator. Answers 0, or 1 where there is no such communicator or peer. */
SEQFERRY_EXPORT int seqferryCpuPeerBytes(ncclComm_t comm, int peer, uint64_t *sent, uint64_t *received);
/*
 * Writes 1 for each peer that this rank's unfinished operations wait for (a join, a split and queued operations count), else 0. After an
 * abort it answers the state at the abort, until the communicator is destroyed or the handle is reused. Answers 0, or 1 where there is no
 * such communicator or `nranks` is not its size.
 */
SEQFERRY_EXPORT int seqferryCpuOutstanding(ncclComm_t comm, uint8_t *per_peer, size_t nranks);
/*
 * Arms faults of this process in place of those that are armed, as the environment's SEQFERRY_CPU_FAULTS does at the first call; "" or NULL
 * disarms. fault_rules.h tells how they are written. Answers 0, or 1 and a sentence where they cannot be read; then nothing changes.
 */
SEQFERRY_EXPORT int seqferryCpuFaults(const char *rules);
/* The rank whose process was found dead, or -1. */
SEQFERRY_EXPORT int seqferryCpuLostPeer(ncclComm_t comm);

#endif
