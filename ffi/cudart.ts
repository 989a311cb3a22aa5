/**
 * libcudart as it is: its C functions, 11.8 to 13, as one table for `Deno.dlopen`.
 *
 * Device addresses, streams, events and pools are handles of 64 bits (`u64`, a bigint), so that calls need no pointer objects and run
 * under a scoped `--allow-ffi`. Out-parameters and host memory are `buffer`s: a typed array, whose memory the call reads or writes.
 * One C function stands under several names here where an argument may be either. Every function answers a `cudaError_t` unless its
 * declaration says otherwise.
 *
 * @see https://docs.nvidia.com/cuda/cuda-runtime-api/
 * @module
 */

/** `cudaIpcMemHandle_t` and `cudaIpcEventHandle_t`, 64 bytes that CUDA takes by value; in JavaScript a `Uint8Array(64)`. */
export const cudaIpcHandleType = {
  struct: ["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"],
} as const satisfies Deno.NativeType;

/** The calls of libcudart that seqferry uses. */
export const cudartSymbols = {
  // ---- versions

  // cudaError_t cudaRuntimeGetVersion(int *runtimeVersion)
  cudaRuntimeGetVersion: {
    parameters: [
      "buffer", // int *runtimeVersion: 1000 * major + 10 * minor
    ],
    result: "i32",
  },
  // cudaError_t cudaDriverGetVersion(int *driverVersion)
  cudaDriverGetVersion: {
    parameters: [
      "buffer", // int *driverVersion: the newest CUDA the driver serves; 0 without a driver
    ],
    result: "i32",
  },

  // ---- devices

  // cudaError_t cudaGetDeviceCount(int *count)
  cudaGetDeviceCount: {
    parameters: [
      "buffer", // int *count
    ],
    result: "i32",
  },
  // cudaError_t cudaGetDevice(int *device): the calling thread's device
  cudaGetDevice: {
    parameters: [
      "buffer", // int *device
    ],
    result: "i32",
  },
  // cudaError_t cudaSetDevice(int device): sets the calling thread's device
  cudaSetDevice: {
    parameters: [
      "i32", // int device
    ],
    result: "i32",
  },
  // cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
  cudaDeviceGetAttribute: {
    parameters: [
      "buffer", // int *value
      "i32", // enum cudaDeviceAttr attr
      "i32", // int device
    ],
    result: "i32",
  },
  // cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int device)
  cudaDeviceGetPCIBusId: {
    parameters: [
      "buffer", // char *pciBusId: "domain:bus:device.function" and a NUL, at least 13 bytes
      "i32", // int len: the size of the buffer
      "i32", // int device
    ],
    result: "i32",
  },
  // cudaError_t cudaDeviceSynchronize(void): blocks
  cudaDeviceSynchronize: { parameters: [], result: "i32" },

  // ---- memory

  // cudaError_t cudaMalloc(void **devPtr, size_t size): synchronizes the device implicitly
  cudaMalloc: {
    parameters: [
      "buffer", // void **devPtr
      "usize", // size_t size
    ],
    result: "i32",
  },
  // cudaError_t cudaFree(void *devPtr): synchronizes the device implicitly
  cudaFree: {
    parameters: [
      "u64", // void *devPtr: 0 is a no-op
    ],
    result: "i32",
  },
  // cudaError_t cudaMallocAsync(void **devPtr, size_t size, cudaStream_t hStream)
  cudaMallocAsync: {
    parameters: [
      "buffer", // void **devPtr
      "usize", // size_t size
      "u64", // cudaStream_t hStream
    ],
    result: "i32",
  },
  // cudaError_t cudaFreeAsync(void *devPtr, cudaStream_t hStream)
  cudaFreeAsync: {
    parameters: [
      "u64", // void *devPtr
      "u64", // cudaStream_t hStream
    ],
    result: "i32",
  },
  // cudaError_t cudaHostAlloc(void **pHost, size_t size, unsigned int flags): synchronizes the device implicitly
  cudaHostAlloc: {
    parameters: [
      "buffer", // void **pHost
      "usize", // size_t size
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  // cudaError_t cudaFreeHost(void *ptr): synchronizes the device implicitly
  cudaFreeHost: {
    parameters: [
      "u64", // void *ptr
    ],
    result: "i32",
  },
  // cudaError_t cudaHostRegister(void *ptr, size_t size, unsigned int flags): pins host memory that is there already
  cudaHostRegister: {
    parameters: [
      "buffer", // void *ptr: keep the array referenced and its buffer attached until it is unregistered
      "usize", // size_t size
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  // cudaError_t cudaHostUnregister(void *ptr)
  cudaHostUnregister: {
    parameters: [
      "buffer", // void *ptr: the same start as was registered
    ],
    result: "i32",
  },
  // cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
  cudaMemGetInfo: {
    parameters: [
      "buffer", // size_t *free: bytes
      "buffer", // size_t *total: bytes
    ],
    result: "i32",
  },
  // cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *memPool, int device)
  cudaDeviceGetDefaultMemPool: {
    parameters: [
      "buffer", // cudaMemPool_t *memPool
      "i32", // int device
    ],
    result: "i32",
  },
  // cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value)
  cudaMemPoolSetAttribute: {
    parameters: [
      "u64", // cudaMemPool_t memPool
      "i32", // enum cudaMemPoolAttr attr
      "buffer", // void *value: int or uint64_t, by attr
    ],
    result: "i32",
  },
  // cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value)
  cudaMemPoolGetAttribute: {
    parameters: [
      "u64", // cudaMemPool_t memPool
      "i32", // enum cudaMemPoolAttr attr
      "buffer", // void *value: int or uint64_t, by attr
    ],
    result: "i32",
  },

  // ---- copies and fills

  // cudaError_t cudaMemcpy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind): blocks
  cudaMemcpy: {
    parameters: [
      "u64", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
    ],
    result: "i32",
  },
  // cudaMemcpy whose source is a JavaScript buffer: blocks
  cudaMemcpyFromHost: {
    name: "cudaMemcpy",
    parameters: [
      "u64", // void *dst
      "buffer", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
    ],
    result: "i32",
  },
  // cudaMemcpy whose destination is a JavaScript buffer: blocks
  cudaMemcpyToHost: {
    name: "cudaMemcpy",
    parameters: [
      "buffer", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
    ],
    result: "i32",
  },
  // cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream)
  cudaMemcpyAsync: {
    parameters: [
      "u64", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaMemcpyAsync whose source is a JavaScript buffer; keep it referenced until the stream has passed
  cudaMemcpyAsyncFromHost: {
    name: "cudaMemcpyAsync",
    parameters: [
      "u64", // void *dst
      "buffer", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaMemcpyAsync whose destination is a JavaScript buffer; keep it referenced until the stream has passed
  cudaMemcpyAsyncToHost: {
    name: "cudaMemcpyAsync",
    parameters: [
      "buffer", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaError_t cudaMemset(void *devPtr, int value, size_t count)
  cudaMemset: {
    parameters: [
      "u64", // void *devPtr
      "i32", // int value: the low byte counts
      "usize", // size_t count: bytes
    ],
    result: "i32",
  },
  // cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream)
  cudaMemsetAsync: {
    parameters: [
      "u64", // void *devPtr
      "i32", // int value: the low byte counts
      "usize", // size_t count: bytes
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // 13.0 on: cudaError_t cudaMemcpyBatchAsync(void *const *dsts, const void *const *srcs, const size_t *sizes, size_t count,
  //            struct cudaMemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs, cudaStream_t stream)
  // The copies of a batch are in no order among themselves; stream 0 is refused. Ask `capabilities` which of the two forms is there.
  cudaMemcpyBatchAsync: {
    parameters: [
      "buffer", // void *const *dsts: BigUint64Array(count)
      "buffer", // const void *const *srcs: BigUint64Array(count)
      "buffer", // const size_t *sizes: BigUint64Array(count)
      "usize", // size_t count
      "buffer", // struct cudaMemcpyAttributes *attrs: 24 bytes each
      "buffer", // size_t *attrsIdxs: the first copy that each of attrs holds for
      "usize", // size_t numAttrs
      "u64", // cudaStream_t stream
    ],
    result: "i32",
    optional: true,
  },
  // 12.8 and 12.9: the same C name, with size_t *failIdx before the stream
  cudaMemcpyBatchAsync12: {
    name: "cudaMemcpyBatchAsync",
    parameters: [
      "buffer", // void **dsts
      "buffer", // void **srcs
      "buffer", // size_t *sizes
      "usize", // size_t count
      "buffer", // struct cudaMemcpyAttributes *attrs
      "buffer", // size_t *attrsIdxs
      "usize", // size_t numAttrs
      "buffer", // size_t *failIdx: the copy that failed, SIZE_MAX where it was none in particular
      "u64", // cudaStream_t stream
    ],
    result: "i32",
    optional: true,
  },

  // ---- kernels

  // cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *jitOptions, void **jitOptionsValues,
  //               unsigned int numJitOptions, enum cudaLibraryOption *libraryOptions, void **libraryOptionValues, unsigned int numLibraryOptions)
  cudaLibraryLoadData: {
    parameters: [
      "buffer", // cudaLibrary_t *library
      "buffer", // const void *code: PTX, ends with NUL
      "buffer", // enum cudaJitOption *jitOptions
      "buffer", // void **jitOptionsValues
      "u32", // unsigned int numJitOptions
      "buffer", // enum cudaLibraryOption *libraryOptions
      "buffer", // void **libraryOptionValues
      "u32", // unsigned int numLibraryOptions
    ],
    result: "i32",
    optional: true,
  },
  // cudaError_t cudaLibraryGetKernel(cudaKernel_t *pKernel, cudaLibrary_t library, const char *name)
  cudaLibraryGetKernel: {
    parameters: [
      "buffer", // cudaKernel_t *pKernel
      "u64", // cudaLibrary_t library
      "buffer", // const char *name
    ],
    result: "i32",
    optional: true,
  },
  // cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *func, void **args)
  cudaLaunchKernelExC: {
    parameters: [
      "buffer", // const cudaLaunchConfig_t *config
      "u64", // const void *func: a cudaKernel_t too
      "buffer", // void **args: the address of each parameter
    ],
    result: "i32",
    optional: true,
  },

  // ---- streams

  // cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned int flags)
  cudaStreamCreateWithFlags: {
    parameters: [
      "buffer", // cudaStream_t *pStream
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  // cudaError_t cudaStreamDestroy(cudaStream_t stream): returns at once, the stream goes when its work is done
  cudaStreamDestroy: {
    parameters: [
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaError_t cudaStreamQuery(cudaStream_t stream): cudaErrorNotReady while work is pending
  cudaStreamQuery: {
    parameters: [
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaError_t cudaStreamSynchronize(cudaStream_t stream): blocks
  cudaStreamSynchronize: {
    parameters: [
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
  cudaStreamWaitEvent: {
    parameters: [
      "u64", // cudaStream_t stream
      "u64", // cudaEvent_t event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },

  // ---- events

  // cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
  cudaEventCreateWithFlags: {
    parameters: [
      "buffer", // cudaEvent_t *event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  // cudaError_t cudaEventDestroy(cudaEvent_t event)
  cudaEventDestroy: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  // cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
  cudaEventRecord: {
    parameters: [
      "u64", // cudaEvent_t event
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  // cudaError_t cudaEventQuery(cudaEvent_t event): cudaErrorNotReady while the stream has not got there
  cudaEventQuery: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  // cudaError_t cudaEventSynchronize(cudaEvent_t event): blocks
  cudaEventSynchronize: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  // cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
  cudaEventElapsedTime: {
    parameters: [
      "buffer", // float *ms: milliseconds, to about half a microsecond
      "u64", // cudaEvent_t start
      "u64", // cudaEvent_t end
    ],
    result: "i32",
  },

  // ---- memory and events of other processes on this machine

  // cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *devPtr)
  cudaIpcGetMemHandle: {
    parameters: [
      "buffer", // cudaIpcMemHandle_t *handle: 64 bytes
      "u64", // void *devPtr: the start of what cudaMalloc gave; memory from pools has no handle
    ],
    result: "i32",
  },
  // cudaError_t cudaIpcOpenMemHandle(void **devPtr, cudaIpcMemHandle_t handle, unsigned int flags)
  cudaIpcOpenMemHandle: {
    parameters: [
      "buffer", // void **devPtr: the start of the other process's allocation
      cudaIpcHandleType, // cudaIpcMemHandle_t handle
      "u32", // unsigned int flags: cudaIpcMemLazyEnablePeerAccess
    ],
    result: "i32",
  },
  // cudaError_t cudaIpcCloseMemHandle(void *devPtr): synchronizes the device implicitly
  cudaIpcCloseMemHandle: {
    parameters: [
      "u64", // void *devPtr: what cudaIpcOpenMemHandle gave
    ],
    result: "i32",
  },
  // cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t *handle, cudaEvent_t event)
  cudaIpcGetEventHandle: {
    parameters: [
      "buffer", // cudaIpcEventHandle_t *handle: 64 bytes
      "u64", // cudaEvent_t event: made with cudaEventInterprocess and cudaEventDisableTiming
    ],
    result: "i32",
  },
  // cudaError_t cudaIpcOpenEventHandle(cudaEvent_t *event, cudaIpcEventHandle_t handle)
  cudaIpcOpenEventHandle: {
    parameters: [
      "buffer", // cudaEvent_t *event
      cudaIpcHandleType, // cudaIpcEventHandle_t handle
    ],
    result: "i32",
  },

  // ---- errors

  // cudaError_t cudaGetLastError(void): the calling thread's last error, which it resets
  cudaGetLastError: { parameters: [], result: "i32" },
  // cudaError_t cudaPeekAtLastError(void)
  cudaPeekAtLastError: { parameters: [], result: "i32" },
  // const char *cudaGetErrorName(cudaError_t error)
  cudaGetErrorName: {
    parameters: [
      "i32", // cudaError_t error
    ],
    result: "pointer",
  },
  // const char *cudaGetErrorString(cudaError_t error)
  cudaGetErrorString: {
    parameters: [
      "i32", // cudaError_t error
    ],
    result: "pointer",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** libcudart's functions, callable. */
export type CudartSymbols = Deno.DynamicLibrary<typeof cudartSymbols>["symbols"];
