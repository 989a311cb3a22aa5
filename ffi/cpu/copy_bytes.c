#include "copy_bytes.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* From this size on a copy is larger than what a core's own caches would keep of it. */
#define STREAMED_FROM ((size_t)256 << 10)
/* A pass of the loops below. */
#define PASS_BYTES 256

#if defined(__x86_64__)

#include <immintrin.h>

/* Whole passes, to an address that is a multiple of 64. */
__attribute__((target("avx512f"))) static void stream_avx512(char *to, const char *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += PASS_BYTES) {
    __m512i a = _mm512_loadu_si512(from + at), b = _mm512_loadu_si512(from + at + 64);
    __m512i c = _mm512_loadu_si512(from + at + 128), d = _mm512_loadu_si512(from + at + 192);
    _mm512_stream_si512((void *)(to + at), a);
    _mm512_stream_si512((void *)(to + at + 64), b);
    _mm512_stream_si512((void *)(to + at + 128), c);
    _mm512_stream_si512((void *)(to + at + 192), d);
  }
  _mm_sfence();
}

__attribute__((target("avx2"))) static void stream_avx2(char *to, const char *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += PASS_BYTES / 2) {
    __m256i a = _mm256_loadu_si256((const void *)(from + at)), b = _mm256_loadu_si256((const void *)(from + at + 32));
    __m256i c = _mm256_loadu_si256((const void *)(from + at + 64)), d = _mm256_loadu_si256((const void *)(from + at + 96));
    _mm256_stream_si256((void *)(to + at), a);
    _mm256_stream_si256((void *)(to + at + 32), b);
    _mm256_stream_si256((void *)(to + at + 64), c);
    _mm256_stream_si256((void *)(to + at + 96), d);
  }
  _mm_sfence();
}

typedef void (*stream_function)(char *to, const char *from, size_t bytes);

static stream_function best_stream(void) {
  if (__builtin_cpu_supports("avx512f")) return stream_avx512;
  return __builtin_cpu_supports("avx2") ? stream_avx2 : NULL;
}

static bool copy_around_caches(char *to, const char *from, size_t bytes) {
  stream_function stream = best_stream();
  if (stream == NULL || bytes < 2 * PASS_BYTES) return false;
  size_t head = -(uintptr_t)to % 64;
  size_t body = (bytes - head) / PASS_BYTES * PASS_BYTES;
  memcpy(to, from, head);
  stream(to + head, from + head, body);
  memcpy(to + head + body, from + head + body, bytes - head - body);
  return true;
}

#else

static bool copy_around_caches(char *to, const char *from, size_t bytes) {
  (void)to, (void)from, (void)bytes;
  return false;
}

#endif

void copy_bytes(void *to, const void *from, size_t bytes, size_t whole) {
  uintptr_t start = (uintptr_t)to, source = (uintptr_t)from;
  bool apart = start + bytes <= source || source + bytes <= start;
  if (apart && whole >= STREAMED_FROM && copy_around_caches(to, from, bytes)) return;
  memmove(to, from, bytes);
}
