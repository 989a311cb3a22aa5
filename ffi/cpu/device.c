#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accounts.h"
#include "engine.h"
#include "errors.h"
#include "memory.h"
#include "settings.h"

#define BUCKETS 1024

static _Thread_local int current;
static struct device *buckets[BUCKETS];

bool device_exists(int ordinal) { return ordinal >= 0 && device_physical(ordinal) < settings_get()->devices; }

int device_current(void) { return current; }

struct device *device_get(int ordinal) {
  struct device **bucket = &buckets[(unsigned)(ordinal ^ ordinal >> DEVICE_INSTANCE_SHIFT) % BUCKETS];
  for (struct device *device = *bucket; device != NULL; device = device->next) {
    if (device->ordinal == ordinal) return device;
  }
  struct device *device = calloc(1, sizeof *device);
  if (device == NULL) return NULL;
  device->ordinal = ordinal;
  device->next = *bucket;
  return *bucket = device;
}

static cudaError_t no_such_device(int ordinal) {
  return cuda_fail(cudaErrorInvalidDevice, "there is no device %d: devices are 0 to %d (SEQFERRY_CPU_DEVICES)",
                   ordinal < 0 ? ordinal : device_physical(ordinal), settings_get()->devices - 1);
}

static cudaError_t no_place(const char *call) { return cuda_fail(cudaErrorInvalidValue, "%s was given no place for its answer", call); }

cudaError_t cudaRuntimeGetVersion(int *version) {
  ENTER(cudaRuntimeGetVersion);
  if (version == NULL) return no_place("cudaRuntimeGetVersion");
  *version = settings_get()->runtime_version;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  ENTER(cudaDriverGetVersion);
  if (version == NULL) return no_place("cudaDriverGetVersion");
  *version = settings_get()->runtime_version;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  ENTER(cudaGetDeviceCount);
  if (count == NULL) return no_place("cudaGetDeviceCount");
  *count = settings_get()->devices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  ENTER(cudaGetDevice);
  if (device == NULL) return no_place("cudaGetDevice");
  *device = current;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  ENTER(cudaSetDevice);
  if (!device_exists(device)) return no_such_device(device);
  current = device;
  return cudaSuccess;
}

/* Those that a program may well ask for; all others of CUDA's are 0 here. Numbers are those of enum cudaDeviceAttr. */
static const struct {
  int attribute;
  int value;
} attributes[] = {
    {1, 1024},           /* MaxThreadsPerBlock */
    {2, 1024},           /* MaxBlockDimX */
    {5, 0x7fffffff},     /* MaxGridDimX */
    {10, 32},            /* WarpSize */
    {14, 512},           /* TextureAlignment */
    {15, 1},             /* GpuOverlap */
    {19, 1},             /* CanMapHostMemory */
    {31, 1},             /* ConcurrentKernels */
    {40, 1},             /* AsyncEngineCount */
    {41, 1},             /* UnifiedAddressing */
    {78, 1},             /* StreamPrioritiesSupported */
    {99, 1},             /* HostRegisterSupported */
    {115, 1},            /* MemoryPoolsSupported */
};

enum { ATTRIBUTE_PROCESSORS = 16, ATTRIBUTE_PCI_BUS = 33, LAST_ATTRIBUTE = 200 };

cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device) {
  ENTER(cudaDeviceGetAttribute);
  if (value == NULL) return no_place("cudaDeviceGetAttribute");
  if (!device_exists(device)) return no_such_device(device);
  if (attribute < 1 || attribute > LAST_ATTRIBUTE) {
    return cuda_fail(cudaErrorInvalidValue, "there is no device attribute %d", attribute);
  }
  *value = 0;
  if (attribute == ATTRIBUTE_PROCESSORS) *value = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (attribute == ATTRIBUTE_PCI_BUS) *value = device_physical(device) + 1;
  for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
    if (attributes[i].attribute == attribute) *value = attributes[i].value;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device) {
  ENTER(cudaDeviceGetPCIBusId);
  if (text == NULL) return no_place("cudaDeviceGetPCIBusId");
  if (!device_exists(device)) return no_such_device(device);
  if (length < 13) return cuda_fail(cudaErrorInvalidValue, "a PCI bus id takes 13 bytes, not %d", length);
  snprintf(text, (size_t)length, "0000:%02X:00.0", device_physical(device) + 1);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  ENTER(cudaMemGetInfo);
  if (free == NULL || total == NULL) return no_place("cudaMemGetInfo");
  engine_lock();
  size_t live = heap_live_bytes(device_physical(current));
  engine_unlock();
  *total = settings_get()->memory;
  *free = *total - live;
  return cudaSuccess;
}

/* ---- the default pool of stream-ordered memory: its attributes are kept, memory is never given back early anyway */

enum { POOL_ATTRIBUTES = 8, POOL_RESERVED_NOW = 5, POOL_USED_NOW = 7 };

static struct pool {
  uint64_t values[POOL_ATTRIBUTES + 1]; /* by enum cudaMemPoolAttr: 1 to 3 are int, 4 to 8 uint64_t */
} pools[64];

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  ENTER(cudaDeviceGetDefaultMemPool);
  if (pool == NULL) return no_place("cudaDeviceGetDefaultMemPool");
  if (!device_exists(device)) return no_such_device(device);
  *pool = (cudaMemPool_t)(void *)&pools[device_physical(device)];
  return cudaSuccess;
}

static struct pool *pool_of(cudaMemPool_t handle) {
  uintptr_t distance = (uintptr_t)handle - (uintptr_t)pools;
  return distance < sizeof pools && distance % sizeof pools[0] == 0 ? &pools[distance / sizeof pools[0]] : NULL;
}

static cudaError_t pool_attribute(cudaMemPool_t handle, int attribute, void *value, bool set) {
  struct pool *pool = pool_of(handle);
  if (pool == NULL) return cuda_fail(cudaErrorInvalidValue, "%p is no memory pool", (void *)handle);
  if (attribute < 1 || attribute > POOL_ATTRIBUTES) {
    return cuda_fail(cudaErrorInvalidValue, "there is no memory pool attribute %d", attribute);
  }
  if (value == NULL) return cuda_fail(cudaErrorInvalidValue, "the value of memory pool attribute %d is NULL", attribute);
  size_t bytes = attribute < 4 ? sizeof(int) : sizeof(uint64_t);
  engine_lock();
  if (set) {
    memcpy(&pool->values[attribute], value, bytes);
  } else {
    uint64_t answer = pool->values[attribute];
    if (attribute == POOL_RESERVED_NOW || attribute == POOL_USED_NOW) answer = heap_live_bytes((int)(pool - pools));
    memcpy(value, &answer, bytes);
  }
  engine_unlock();
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, int attribute, void *value) {
  ENTER(cudaMemPoolSetAttribute);
  return pool_attribute(pool, attribute, value, true);
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, int attribute, void *value) {
  ENTER(cudaMemPoolGetAttribute);
  return pool_attribute(pool, attribute, value, false);
}
