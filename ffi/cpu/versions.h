/*
 * The releases that the stand-in stands in for. A build for older ones (-DSEQFERRY_CPU_NCCL_VERSION=21801) reports those, and lacks every
 * function that came later.
 */
#ifndef SEQFERRY_CPU_VERSIONS_H
#define SEQFERRY_CPU_VERSIONS_H

/* 10000 * major + 100 * minor + patch. */
#ifndef SEQFERRY_CPU_NCCL_VERSION
#define SEQFERRY_CPU_NCCL_VERSION 23007
#endif
/* 1000 * major + 10 * minor. */
#ifndef SEQFERRY_CPU_CUDA_VERSION
#define SEQFERRY_CPU_CUDA_VERSION 13000
#endif

/* The first releases that have what is not in all of them. */
#define HAS_REGISTER (SEQFERRY_CPU_NCCL_VERSION >= 21901)
#define HAS_INIT_SCALABLE (SEQFERRY_CPU_NCCL_VERSION >= 22304)
#define HAS_SHRINK (SEQFERRY_CPU_NCCL_VERSION >= 22703)
#define HAS_ROOTED (SEQFERRY_CPU_NCCL_VERSION >= 22803)
#define HAS_REVOKE (SEQFERRY_CPU_NCCL_VERSION >= 22807)
#define HAS_BATCH (SEQFERRY_CPU_CUDA_VERSION >= 12080)
/* 12.8 and 12.9 say which copy failed. */
#define HAS_BATCH_INDEX (HAS_BATCH && SEQFERRY_CPU_CUDA_VERSION < 13000)

#endif
