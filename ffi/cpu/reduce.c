/* Data types, and the reductions of all-reduce. */
#include <stdbool.h>

#include "group.h"

static const struct {
  const char *name;
  size_t bytes;
} types[] = {
    [ncclInt8] = {"int8", 1},         [ncclUint8] = {"uint8", 1},           [ncclInt32] = {"int32", 4},
    [ncclUint32] = {"uint32", 4},     [ncclInt64] = {"int64", 8},           [ncclUint64] = {"uint64", 8},
    [ncclFloat16] = {"float16", 2},   [ncclFloat32] = {"float32", 4},       [ncclFloat64] = {"float64", 8},
    [ncclBfloat16] = {"bfloat16", 2}, [ncclFloat8e4m3] = {"float8e4m3", 1}, [ncclFloat8e5m2] = {"float8e5m2", 1},
};

size_t type_bytes(int type) { return type < 0 || (size_t)type >= sizeof types / sizeof types[0] ? 0 : types[type].bytes; }

const char *type_name(int type) {
  return type < 0 || (size_t)type >= sizeof types / sizeof types[0] ? "no data type" : types[type].name;
}

bool reduction_is_known(int reduction, int type) {
  bool number = (type >= ncclInt8 && type <= ncclUint64) || type == ncclFloat32 || type == ncclFloat64;
  return number && reduction >= ncclSum && reduction <= ncclMin;
}

/* Sums and products of integers are those of unsigned ones of the same size: they wrap, as on the device. */
#define REDUCE(type, wrapping)                                                                                 \
  do {                                                                                                         \
    type *a = into;                                                                                            \
    const type *b = from;                                                                                      \
    for (size_t i = 0; i < count; i++) {                                                                       \
      switch (reduction) {                                                                                     \
        case ncclSum: a[i] = (type)((wrapping)a[i] + (wrapping)b[i]); break;                                   \
        case ncclProd: a[i] = (type)((wrapping)a[i] * (wrapping)b[i]); break;                                  \
        case ncclMax: a[i] = a[i] > b[i] ? a[i] : b[i]; break;                                                 \
        default: a[i] = a[i] < b[i] ? a[i] : b[i]; break;                                                      \
      }                                                                                                        \
    }                                                                                                          \
  } while (0)

void reduce(int reduction, int type, void *into, const void *from, size_t count) {
  switch (type) {
    case ncclInt8: REDUCE(int8_t, uint32_t); break;
    case ncclUint8: REDUCE(uint8_t, uint32_t); break;
    case ncclInt32: REDUCE(int32_t, uint32_t); break;
    case ncclUint32: REDUCE(uint32_t, uint32_t); break;
    case ncclInt64: REDUCE(int64_t, uint64_t); break;
    case ncclUint64: REDUCE(uint64_t, uint64_t); break;
    case ncclFloat32: REDUCE(float, float); break;
    case ncclFloat64: REDUCE(double, double); break;
    default: break;
  }
}
