#include "settings.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "versions.h"

static struct settings settings;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A whole number from the environment; what cannot be read as one is told, since a mistyped limit would otherwise pass unseen. */
static uint64_t number(const char *name, uint64_t otherwise, uint64_t least, uint64_t most) {
  const char *text = getenv(name);
  if (text == NULL || *text == '\0') return otherwise;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || *text == '-' || value < least || value > most) {
    fprintf(stderr, "seqferry cpu: %s is a whole number from %llu to %llu, not \"%s\"; %llu is taken\n", name,
            (unsigned long long)least, (unsigned long long)most, text, (unsigned long long)otherwise);
    return otherwise;
  }
  return value;
}

static void read_environment(void) {
  settings.devices = (int)number("SEQFERRY_CPU_DEVICES", 8, 1, 64);
  settings.memory = number("SEQFERRY_CPU_MEMORY", (uint64_t)8 << 30, 1 << 12, (uint64_t)1 << 46);
  settings.strict = number("SEQFERRY_CPU_STRICT", 0, 0, 1) == 1;
  settings.verbose = number("SEQFERRY_CPU_VERBOSE", 0, 0, 1) == 1;
  settings.shared_device = number("SEQFERRY_CPU_SHARED_DEVICE", 1, 0, 1) == 1;
  settings.huge_pages = number("SEQFERRY_CPU_HUGE_PAGES", 1, 0, 1) == 1;
  settings.runtime_version = (int)number("SEQFERRY_CPU_CUDART_VERSION", SEQFERRY_CPU_CUDA_VERSION, 11000, 99990);
}

const struct settings *settings_get(void) {
  pthread_once(&once, read_environment);
  return &settings;
}
