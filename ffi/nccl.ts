/**
 * libnccl as it is: its C functions, 2.18 to 2.30, as one table for `Deno.dlopen`.
 *
 * Communicators, streams and device addresses are handles of 64 bits (`u64`, a bigint); out-parameters are `buffer`s. Every function
 * answers an `ncclResult_t` unless its declaration says otherwise.
 *
 * @see https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html
 * @module
 */

/** `ncclUniqueId`, 128 bytes that NCCL takes by value; in JavaScript a `Uint8Array(128)`. */
export const ncclUniqueIdType = {
  struct: [
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
    "u64",
  ],
} as const satisfies Deno.NativeType;

/** The calls of libnccl that seqferry uses. */
export const ncclSymbols = {
  // ---- versions and errors

  // ncclResult_t ncclGetVersion(int *version)
  ncclGetVersion: {
    parameters: [
      "buffer", // int *version: 10000 * major + 100 * minor + patch
    ],
    result: "i32",
  },
  // const char *ncclGetErrorString(ncclResult_t result)
  ncclGetErrorString: {
    parameters: [
      "i32", // ncclResult_t result
    ],
    result: "pointer",
  },
  // const char *ncclGetLastError(ncclComm_t comm): the calling thread's, whatever comm is; copy it at once
  ncclGetLastError: {
    parameters: [
      "u64", // ncclComm_t comm
    ],
    result: "pointer",
  },

  // ---- communicators

  // ncclResult_t ncclGetUniqueId(ncclUniqueId *uniqueId): this process then serves the meeting, until all ranks are in
  ncclGetUniqueId: {
    parameters: [
      "buffer", // ncclUniqueId *uniqueId: 128 bytes
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank): blocks
  ncclCommInitRank: {
    parameters: [
      "buffer", // ncclComm_t *comm
      "i32", // int nranks
      ncclUniqueIdType, // ncclUniqueId commId
      "i32", // int rank
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t *config)
  ncclCommInitRankConfig: {
    parameters: [
      "buffer", // ncclComm_t *comm: there at once, also while the answer is ncclInProgress
      "i32", // int nranks
      ncclUniqueIdType, // ncclUniqueId commId
      "i32", // int rank
      "buffer", // ncclConfig_t *config: see encodeNcclConfig
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommInitRankScalable(ncclComm_t *newcomm, int nranks, int myrank, int nId, ncclUniqueId *commIds,
  //            ncclConfig_t *config)
  ncclCommInitRankScalable: {
    parameters: [
      "buffer", // ncclComm_t *newcomm
      "i32", // int nranks
      "i32", // int myrank
      "i32", // int nId
      "buffer", // ncclUniqueId *commIds: nId times 128 bytes
      "buffer", // ncclConfig_t *config
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *newcomm, ncclConfig_t *config)
  ncclCommSplit: {
    parameters: [
      "u64", // ncclComm_t comm
      "i32", // int color: ranks of one color share the new communicator; -1 takes no part
      "i32", // int key: orders the new ranks
      "buffer", // ncclComm_t *newcomm: written later where comm is nonblocking; keep it referenced until then
      "buffer", // ncclConfig_t *config: null inherits comm's
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommShrink(ncclComm_t comm, int *excludeRanksList, int excludeRanksCount, ncclComm_t *newcomm,
  //            ncclConfig_t *config, int shrinkFlags)
  ncclCommShrink: {
    parameters: [
      "u64", // ncclComm_t comm
      "buffer", // int *excludeRanksList
      "i32", // int excludeRanksCount
      "buffer", // ncclComm_t *newcomm: written later where comm is nonblocking; keep it referenced until then
      "buffer", // ncclConfig_t *config: null inherits comm's
      "i32", // int shrinkFlags
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclCommRevoke(ncclComm_t comm, int revokeFlags)
  ncclCommRevoke: {
    parameters: [
      "u64", // ncclComm_t comm
      "i32", // int revokeFlags: 0
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclCommFinalize(ncclComm_t comm): ncclInProgress until its work is done, where comm is nonblocking
  ncclCommFinalize: {
    parameters: [
      "u64", // ncclComm_t comm
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommDestroy(ncclComm_t comm): blocks whatever the communicator's mode, so it goes to the thread pool
  ncclCommDestroy: {
    parameters: [
      "u64", // ncclComm_t comm
    ],
    result: "i32",
    nonblocking: true,
  },
  // ncclResult_t ncclCommAbort(ncclComm_t comm): blocks whatever the communicator's mode, so it goes to the thread pool
  ncclCommAbort: {
    parameters: [
      "u64", // ncclComm_t comm
    ],
    result: "i32",
    nonblocking: true,
  },
  // ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *asyncError)
  ncclCommGetAsyncError: {
    parameters: [
      "u64", // ncclComm_t comm
      "buffer", // ncclResult_t *asyncError: ncclInProgress while a nonblocking call is under way
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
  ncclCommCount: {
    parameters: [
      "u64", // const ncclComm_t comm
      "buffer", // int *count: ranks of the communicator
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
  ncclCommCuDevice: {
    parameters: [
      "u64", // const ncclComm_t comm
      "buffer", // int *device
    ],
    result: "i32",
  },
  // ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
  ncclCommUserRank: {
    parameters: [
      "u64", // const ncclComm_t comm
      "buffer", // int *rank
    ],
    result: "i32",
  },

  // ---- groups; their depth is the calling thread's

  // ncclResult_t ncclGroupStart(void)
  ncclGroupStart: { parameters: [], result: "i32" },
  // ncclResult_t ncclGroupEnd(void): ncclInProgress where the communicators are nonblocking
  ncclGroupEnd: { parameters: [], result: "i32" },

  // ---- point to point

  // ncclResult_t ncclSend(const void *sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
  //            cudaStream_t stream)
  ncclSend: {
    parameters: [
      "u64", // const void *sendbuff
      "usize", // size_t count: elements
      "i32", // ncclDataType_t datatype
      "i32", // int peer
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclRecv(void *recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm, cudaStream_t stream)
  ncclRecv: {
    parameters: [
      "u64", // void *recvbuff
      "usize", // size_t count: elements
      "i32", // ncclDataType_t datatype
      "i32", // int peer
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },

  // ---- collectives

  // ncclResult_t ncclBroadcast(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root,
  //            ncclComm_t comm, cudaStream_t stream)
  ncclBroadcast: {
    parameters: [
      "u64", // const void *sendbuff: read on the root alone
      "u64", // void *recvbuff
      "usize", // size_t count: elements
      "i32", // ncclDataType_t datatype
      "i32", // int root
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclAllReduce(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
  //            ncclComm_t comm, cudaStream_t stream)
  ncclAllReduce: {
    parameters: [
      "u64", // const void *sendbuff
      "u64", // void *recvbuff: may be sendbuff
      "usize", // size_t count: elements
      "i32", // ncclDataType_t datatype
      "i32", // ncclRedOp_t op
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclAllGather(const void *sendbuff, void *recvbuff, size_t sendcount, ncclDataType_t datatype, ncclComm_t comm,
  //            cudaStream_t stream)
  ncclAllGather: {
    parameters: [
      "u64", // const void *sendbuff
      "u64", // void *recvbuff: sendcount elements of each rank, in the order of ranks
      "usize", // size_t sendcount: elements of one rank
      "i32", // ncclDataType_t datatype
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclReduce(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op, int root,
  //            ncclComm_t comm, cudaStream_t stream)
  ncclReduce: {
    parameters: [
      "u64", // const void *sendbuff
      "u64", // void *recvbuff: written on the root alone
      "usize", // size_t count: elements
      "i32", // ncclDataType_t datatype
      "i32", // ncclRedOp_t op
      "i32", // int root
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount, ncclDataType_t datatype, ncclRedOp_t op,
  //            ncclComm_t comm, cudaStream_t stream)
  ncclReduceScatter: {
    parameters: [
      "u64", // const void *sendbuff: recvcount elements for each rank, in the order of ranks
      "u64", // void *recvbuff
      "usize", // size_t recvcount: elements of one rank
      "i32", // ncclDataType_t datatype
      "i32", // ncclRedOp_t op
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // ncclResult_t ncclGather(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
  //            cudaStream_t stream)
  ncclGather: {
    parameters: [
      "u64", // const void *sendbuff
      "u64", // void *recvbuff: on the root, count elements of each rank, in the order of ranks
      "usize", // size_t count: elements of one rank
      "i32", // ncclDataType_t datatype
      "i32", // int root
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclScatter(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
  //            cudaStream_t stream)
  ncclScatter: {
    parameters: [
      "u64", // const void *sendbuff: on the root, count elements for each rank, in the order of ranks
      "u64", // void *recvbuff
      "usize", // size_t count: elements of one rank
      "i32", // ncclDataType_t datatype
      "i32", // int root
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclAlltoAll(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclComm_t comm,
  //            cudaStream_t stream)
  ncclAlltoAll: {
    parameters: [
      "u64", // const void *sendbuff: count elements for each rank, in the order of ranks
      "u64", // void *recvbuff: count elements of each rank, in the order of ranks
      "usize", // size_t count: elements for one rank
      "i32", // ncclDataType_t datatype
      "u64", // ncclComm_t comm
      "u64", // cudaStream_t stream
    ],
    result: "i32",
    optional: true,
  },

  // ---- memory that NCCL reads and writes without a copy of its own

  // ncclResult_t ncclMemAlloc(void **ptr, size_t size): blocks
  ncclMemAlloc: {
    parameters: [
      "buffer", // void **ptr
      "usize", // size_t size: bytes
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclMemFree(void *ptr): blocks
  ncclMemFree: {
    parameters: [
      "u64", // void *ptr
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclCommRegister(const ncclComm_t comm, void *buff, size_t size, void **handle)
  ncclCommRegister: {
    parameters: [
      "u64", // const ncclComm_t comm
      "u64", // void *buff
      "usize", // size_t size: bytes
      "buffer", // void **handle
    ],
    result: "i32",
    optional: true,
  },
  // ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle)
  ncclCommDeregister: {
    parameters: [
      "u64", // const ncclComm_t comm
      "u64", // void *handle
    ],
    result: "i32",
    optional: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** libnccl's functions, callable. */
export type NcclSymbols = Deno.DynamicLibrary<typeof ncclSymbols>["symbols"];
