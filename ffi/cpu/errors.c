#include "errors.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "accounts.h"
#include "settings.h"

static _Thread_local cudaError_t last_cuda_error;
static _Thread_local char sentence[SENTENCE_BYTES];

/* The process's last sentence: for a caller whose failing call ran on another thread. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static char shared_sentence[SENTENCE_BYTES];

static void keep(const char *format, va_list arguments) {
  vsnprintf(sentence, sizeof sentence, format, arguments);
  pthread_mutex_lock(&shared_lock);
  memcpy(shared_sentence, sentence, sizeof sentence);
  pthread_mutex_unlock(&shared_lock);
  if (settings_get()->verbose) fprintf(stderr, "seqferry cpu: %s\n", sentence);
}

cudaError_t cuda_fail(cudaError_t code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  keep(format, arguments);
  va_end(arguments);
  last_cuda_error = code;
  return code;
}

cudaError_t cuda_violation(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  keep(format, arguments);
  va_end(arguments);
  account_add(ACCOUNT_VIOLATIONS, 1);
  last_cuda_error = cudaErrorNotPermitted;
  return cudaErrorNotPermitted;
}

cudaError_t cuda_not_ready(void) {
  last_cuda_error = cudaErrorNotReady;
  return cudaErrorNotReady;
}

ncclResult_t nccl_fail(ncclResult_t code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  keep(format, arguments);
  va_end(arguments);
  return code;
}

ncclResult_t nccl_violation(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  keep(format, arguments);
  va_end(arguments);
  account_add(ACCOUNT_VIOLATIONS, 1);
  return ncclInvalidUsage;
}

const char *last_sentence(void) { return sentence; }

size_t seqferryCpuLastError(char *text, size_t size) {
  char copy[SENTENCE_BYTES];
  if (sentence[0] != '\0') {
    memcpy(copy, sentence, sizeof copy);
  } else {
    pthread_mutex_lock(&shared_lock);
    memcpy(copy, shared_sentence, sizeof copy);
    pthread_mutex_unlock(&shared_lock);
  }
  size_t length = strlen(copy);
  if (size > 0) {
    size_t kept = length < size - 1 ? length : size - 1;
    memcpy(text, copy, kept);
    text[kept] = '\0';
  }
  return length;
}

cudaError_t cudaGetLastError(void) {
  ENTER(cudaGetLastError);
  cudaError_t error = last_cuda_error;
  last_cuda_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError(void) {
  ENTER(cudaPeekAtLastError);
  return last_cuda_error;
}

/* The codes that the stand-in answers with. */
static const struct {
  cudaError_t code;
  const char *name;
  const char *meaning;
} cuda_errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "an argument is outside what the call takes"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "the stand-in could not start"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "the direction of a copy is none that exists"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "there is no device with this ordinal"},
    {cudaErrorOperatingSystem, "cudaErrorOperatingSystem", "a call to the operating system failed"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "a handle is none, or no longer one"},
    {cudaErrorNotReady, "cudaErrorNotReady", "work is still pending"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered", "part of the host memory is registered already"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered", "the host memory is not registered"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "the operation is not permitted now"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "the operation is not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "an unknown error"},
};

int cuda_code(const char *name) {
  for (size_t i = 0; i < sizeof cuda_errors / sizeof cuda_errors[0]; i++) {
    if (strcmp(cuda_errors[i].name, name) == 0) return cuda_errors[i].code;
  }
  return -1;
}

int nccl_code(const char *name) {
  static const char *const names[] = {
      "ncclSuccess",         "ncclUnhandledCudaError", "ncclSystemError", "ncclInternalError", "ncclInvalidArgument",
      "ncclInvalidUsage",    "ncclRemoteError",        "ncclInProgress",  "ncclTimeout",
  };
  for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
    if (strcmp(names[i], name) == 0) return i;
  }
  return -1;
}

const char *cudaGetErrorName(cudaError_t error) {
  COUNT(cudaGetErrorName);
  for (size_t i = 0; i < sizeof cuda_errors / sizeof cuda_errors[0]; i++) {
    if (cuda_errors[i].code == error) return cuda_errors[i].name;
  }
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
  COUNT(cudaGetErrorString);
  for (size_t i = 0; i < sizeof cuda_errors / sizeof cuda_errors[0]; i++) {
    if (cuda_errors[i].code == error) return cuda_errors[i].meaning;
  }
  return "unrecognized error code";
}

const char *ncclGetErrorString(ncclResult_t result) {
  COUNT(ncclGetErrorString);
  static const char *const meanings[] = {
      "no error",
      "a CUDA call failed",
      "a call to the operating system failed",
      "an internal error of the library",
      "an argument is invalid",
      "the library is used in a way it does not allow",
      "a peer failed or is gone",
      "the operation is in progress",
      "the operation took too long",
  };
  if (result < 0 || (size_t)result >= sizeof meanings / sizeof meanings[0]) return "unknown result code";
  return meanings[result];
}

/* As in NCCL the text is the thread's, whatever the communicator. */
const char *ncclGetLastError(ncclComm_t comm) {
  COUNT(ncclGetLastError);
  (void)comm;
  return sentence;
}
