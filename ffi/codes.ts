/**
 * The status codes of the two libraries: their names in the headers, and what each means.
 *
 * @see https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
 * @see https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api/types.html#ncclresult-t
 * @module
 */

/** A code's name in the header, and its meaning. */
export interface CodeText {
  /** The name of the enumerator, e.g. `cudaErrorInvalidValue`. */
  readonly name: string;
  /** A phrase. */
  readonly meaning: string;
}

/** `cudaSuccess`. */
export const cudaSuccess = 0;
/** `cudaErrorInvalidValue`. */
export const cudaErrorInvalidValue = 1;
/** `cudaErrorMemoryAllocation`. */
export const cudaErrorMemoryAllocation = 2;
/** `cudaErrorInsufficientDriver`. */
export const cudaErrorInsufficientDriver = 35;
/** `cudaErrorNoDevice`. */
export const cudaErrorNoDevice = 100;
/** `cudaErrorInvalidDevice`. */
export const cudaErrorInvalidDevice = 101;
/** `cudaErrorInvalidResourceHandle`. */
export const cudaErrorInvalidResourceHandle = 400;
/** `cudaErrorNotReady`: no failure; what was asked about is still under way. */
export const cudaErrorNotReady = 600;
/** `cudaErrorIllegalAddress`. */
export const cudaErrorIllegalAddress = 700;
/** `cudaErrorHostMemoryAlreadyRegistered`. */
export const cudaErrorHostMemoryAlreadyRegistered = 712;
/** `cudaErrorHostMemoryNotRegistered`. */
export const cudaErrorHostMemoryNotRegistered = 713;
/** `cudaErrorNotPermitted`. */
export const cudaErrorNotPermitted = 800;
/** `cudaErrorNotSupported`. */
export const cudaErrorNotSupported = 801;

/** `ncclSuccess`. */
export const ncclSuccess = 0;
/** `ncclUnhandledCudaError`. */
export const ncclUnhandledCudaError = 1;
/** `ncclSystemError`. */
export const ncclSystemError = 2;
/** `ncclInternalError`. */
export const ncclInternalError = 3;
/** `ncclInvalidArgument`. */
export const ncclInvalidArgument = 4;
/** `ncclInvalidUsage`. */
export const ncclInvalidUsage = 5;
/** `ncclRemoteError`. */
export const ncclRemoteError = 6;
/** `ncclInProgress`: no failure; a nonblocking call is under way. */
export const ncclInProgress = 7;
/** `ncclTimeout`, 2.30.3 on. */
export const ncclTimeout = 8;

const cudaCodes: Readonly<Record<number, readonly [name: string, meaning: string]>> = {
  0: ["cudaSuccess", "no error"],
  1: ["cudaErrorInvalidValue", "an argument is out of its range"],
  2: ["cudaErrorMemoryAllocation", "not enough memory"],
  3: ["cudaErrorInitializationError", "the driver and the runtime could not be initialized"],
  4: ["cudaErrorCudartUnloading", "the process is ending and the runtime is being unloaded"],
  9: ["cudaErrorInvalidConfiguration", "a kernel launch asks for more than the device has"],
  12: ["cudaErrorInvalidPitchValue", "a pitch is out of its range"],
  13: ["cudaErrorInvalidSymbol", "no such symbol"],
  17: ["cudaErrorInvalidDevicePointer", "an address is not in device memory"],
  21: ["cudaErrorInvalidMemcpyDirection", "the direction of the copy is none that exists"],
  34: ["cudaErrorStubLibrary", "the driver library that was loaded is the stub for linking"],
  35: ["cudaErrorInsufficientDriver", "there is no NVIDIA driver, or one older than this CUDA runtime needs"],
  36: ["cudaErrorCallRequiresNewerDriver", "this call needs a newer driver"],
  46: ["cudaErrorDevicesUnavailable", "all devices are busy, or in exclusive or prohibited mode"],
  49: ["cudaErrorIncompatibleDriverContext", "the thread's context does not suit the runtime"],
  52: ["cudaErrorMissingConfiguration", "a kernel launch was not configured"],
  53: ["cudaErrorPriorLaunchFailure", "an earlier launch failed"],
  98: ["cudaErrorInvalidDeviceFunction", "the function was not compiled for this device"],
  100: ["cudaErrorNoDevice", "there is no CUDA device"],
  101: ["cudaErrorInvalidDevice", "no device has that number"],
  102: ["cudaErrorDeviceNotLicensed", "the device has no valid license"],
  127: ["cudaErrorStartupFailure", "the runtime failed while it started"],
  200: ["cudaErrorInvalidKernelImage", "a kernel image is not valid"],
  201: ["cudaErrorDeviceUninitialized", "there is no current context, or it was destroyed"],
  205: ["cudaErrorMapBufferObjectFailed", "memory could not be mapped"],
  206: ["cudaErrorUnmapBufferObjectFailed", "memory could not be unmapped"],
  209: ["cudaErrorNoKernelImageForDevice", "no kernel image fits this device"],
  214: ["cudaErrorECCUncorrectable", "memory failed beyond what ECC corrects"],
  215: ["cudaErrorUnsupportedLimit", "the device does not support that limit"],
  216: ["cudaErrorDeviceAlreadyInUse", "the device is in use by another thread"],
  217: ["cudaErrorPeerAccessUnsupported", "these devices cannot reach each other's memory"],
  220: ["cudaErrorNvlinkUncorrectable", "NVLink failed beyond correction"],
  226: ["cudaErrorContained", "an uncorrectable error was contained; the process has to restart"],
  301: ["cudaErrorFileNotFound", "a file was not found"],
  302: ["cudaErrorSharedObjectSymbolNotFound", "a shared object lacks a symbol"],
  303: ["cudaErrorSharedObjectInitFailed", "a shared object could not be initialized"],
  304: ["cudaErrorOperatingSystem", "a system call failed"],
  400: ["cudaErrorInvalidResourceHandle", "a stream, an event or another handle is not valid"],
  401: ["cudaErrorIllegalState", "a resource is in no state for this call"],
  500: ["cudaErrorSymbolNotFound", "a named symbol was not found"],
  600: ["cudaErrorNotReady", "still under way"],
  700: ["cudaErrorIllegalAddress", "device code touched an address that is not valid; the process has to restart"],
  701: ["cudaErrorLaunchOutOfResources", "not enough registers or other resources for a launch"],
  702: ["cudaErrorLaunchTimeout", "a kernel ran longer than the device allows"],
  704: ["cudaErrorPeerAccessAlreadyEnabled", "access to that peer is on already"],
  705: ["cudaErrorPeerAccessNotEnabled", "access to that peer is not on"],
  708: ["cudaErrorSetOnActiveProcess", "the device is in use already, so this can no longer be set"],
  709: ["cudaErrorContextIsDestroyed", "the current context was destroyed"],
  710: ["cudaErrorAssert", "an assertion in device code failed; the process has to restart"],
  711: ["cudaErrorTooManyPeers", "no further peer can be opened"],
  712: ["cudaErrorHostMemoryAlreadyRegistered", "this host memory is registered already"],
  713: ["cudaErrorHostMemoryNotRegistered", "this host memory is not registered"],
  714: ["cudaErrorHardwareStackError", "the device's call stack is broken; the process has to restart"],
  715: ["cudaErrorIllegalInstruction", "device code has an instruction that is not valid; the process has to restart"],
  716: ["cudaErrorMisalignedAddress", "device code touched an address that is not aligned; the process has to restart"],
  717: ["cudaErrorInvalidAddressSpace", "device code touched the wrong kind of memory; the process has to restart"],
  718: ["cudaErrorInvalidPc", "device code jumped out of bounds; the process has to restart"],
  719: ["cudaErrorLaunchFailure", "device code failed; the process has to restart"],
  800: ["cudaErrorNotPermitted", "not allowed now"],
  801: ["cudaErrorNotSupported", "not supported on this system or device"],
  802: ["cudaErrorSystemNotReady", "the system is not ready for CUDA work yet; is the fabric manager running?"],
  803: ["cudaErrorSystemDriverMismatch", "the versions of the display driver and the CUDA driver differ"],
  804: ["cudaErrorCompatNotSupportedOnDevice", "forward compatibility is not for this device"],
  805: ["cudaErrorMpsConnectionFailed", "the MPS client could not reach its server"],
  806: ["cudaErrorMpsRpcFailure", "a call to the MPS server failed"],
  807: ["cudaErrorMpsServerNotReady", "the MPS server takes no clients yet"],
  808: ["cudaErrorMpsMaxClientsReached", "the MPS server has all the clients it can have"],
  809: ["cudaErrorMpsMaxConnectionsReached", "the MPS server has all the connections it can have"],
  810: ["cudaErrorMpsClientTerminated", "the MPS server ended this client; the process has to restart"],
  900: ["cudaErrorStreamCaptureUnsupported", "not allowed while a stream is captured"],
  901: ["cudaErrorStreamCaptureInvalidated", "the stream's capture was spoilt by an earlier error"],
  906: ["cudaErrorStreamCaptureImplicit", "the call would depend on a capture through stream 0"],
  907: ["cudaErrorCapturedEvent", "the event was last recorded in a capture"],
  908: ["cudaErrorStreamCaptureWrongThread", "another thread began this capture"],
  909: ["cudaErrorTimeout", "a wait took longer than was allowed"],
  911: ["cudaErrorExternalDevice", "another device that this one works with failed"],
  999: ["cudaErrorUnknown", "an internal error of the driver"],
};

const ncclCodes: Readonly<Record<number, readonly [name: string, meaning: string]>> = {
  0: ["ncclSuccess", "no error"],
  1: ["ncclUnhandledCudaError", "a CUDA call inside NCCL failed; run with NCCL_DEBUG=INFO for more"],
  2: ["ncclSystemError", "a system call inside NCCL failed; run with NCCL_DEBUG=INFO for more"],
  3: ["ncclInternalError", "NCCL failed an internal check, often because memory was overwritten"],
  4: ["ncclInvalidArgument", "an argument is not valid"],
  5: ["ncclInvalidUsage", "NCCL was used in a way it does not allow"],
  6: ["ncclRemoteError", "a peer is gone, or the network to it failed"],
  7: ["ncclInProgress", "still under way"],
  8: ["ncclTimeout", "NCCL waited longer than was allowed"],
};

/** Name and meaning of a `cudaError_t`; undefined for a code this table lacks. */
export function cudaCodeText(code: number): CodeText | undefined {
  const text = cudaCodes[code];
  return text === undefined ? undefined : { name: text[0], meaning: text[1] };
}

/** Name and meaning of an `ncclResult_t`; undefined for a code this table lacks. */
export function ncclCodeText(code: number): CodeText | undefined {
  const text = ncclCodes[code];
  return text === undefined ? undefined : { name: text[0], meaning: text[1] };
}
