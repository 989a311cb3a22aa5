/* Errors: codes go back to the caller, the sentence stays with the thread until the next error. */
#ifndef SEQFERRY_CPU_ERRORS_H
#define SEQFERRY_CPU_ERRORS_H

#include "api.h"

/* The longest sentence, NUL included. */
#define SENTENCE_BYTES 512

/* Each keeps the sentence and answers the code. */
cudaError_t cuda_fail(cudaError_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As cuda_fail with cudaErrorNotPermitted, and counted as a violation. */
cudaError_t cuda_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* cudaErrorNotReady is kept as the last error, as CUDA does, but has no sentence. */
cudaError_t cuda_not_ready(void);
ncclResult_t nccl_fail(ncclResult_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As nccl_fail with ncclInvalidUsage, and counted as a violation. */
ncclResult_t nccl_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The code with a name; -1 for one that the stand-in does not know. */
int cuda_code(const char *name);
int nccl_code(const char *name);

/* The calling thread's sentence. */
const char *last_sentence(void);

#endif
