/* libnccl's memory that can be used without copying, and its registration. Here all device memory is such; the calls only keep the rules. */
#include <stdlib.h>

#include "accounts.h"
#include "communicator.h"
#include "engine.h"
#include "handles.h"
#include "memory.h"

#if HAS_REGISTER

struct registration {
  ncclComm_t communicator;
  void *address;
  size_t bytes;
};

ncclResult_t ncclMemAlloc(void **address, size_t size) {
  ENTER(ncclMemAlloc);
  if (address == NULL || size == 0) {
    return nccl_fail(ncclInvalidArgument, "ncclMemAlloc takes a place for its answer and at least one byte, not %zu", size);
  }
  return cudaMalloc(address, size) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *address) {
  ENTER(ncclMemFree);
  return cudaFree(address) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *address, size_t size, void **out) {
  ENTER(ncclCommRegister);
  if (out == NULL) return nccl_fail(ncclInvalidArgument, "ncclCommRegister was given no place for its answer");
  *out = NULL;
  ncclResult_t result = ncclSuccess;
  char why[256];
  engine_lock();
  const struct communicator *communicator = communicator_usable(comm, "ncclCommRegister", &result);
  if (communicator != NULL && (size == 0 || !heap_check(address, size, why, sizeof why))) {
    result = size == 0 ? nccl_fail(ncclInvalidArgument, "ncclCommRegister takes at least one byte")
                       : nccl_fail(ncclInvalidArgument, "ncclCommRegister: %s", why);
  }
  if (result == ncclSuccess) {
    struct registration *registration = calloc(1, sizeof *registration);
    void *handle = registration == NULL ? NULL : handle_open(HANDLE_REGISTRATION, registration);
    if (handle == NULL) {
      free(registration);
      result = nccl_fail(ncclSystemError, "the host's memory is used up");
    } else {
      *registration = (struct registration){.communicator = comm, .address = address, .bytes = size};
      *out = handle;
    }
  }
  engine_unlock();
  return result;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle) {
  ENTER(ncclCommDeregister);
  ncclResult_t result = ncclSuccess;
  engine_lock();
  struct registration *registration = handle_find(HANDLE_REGISTRATION, handle);
  if (communicator_find(comm) == NULL) {
    result = no_communicator("ncclCommDeregister", comm);
  } else if (registration == NULL) {
    result = nccl_fail(ncclInvalidArgument, "ncclCommDeregister was given %p, which is no registration, or one that was ended", handle);
  } else if (registration->communicator != comm) {
    result = nccl_fail(ncclInvalidArgument, "ncclCommDeregister was given a registration of another communicator");
  } else {
    handle_close(HANDLE_REGISTRATION, handle);
    free(registration);
  }
  engine_unlock();
  return result;
}

#endif
