/**
 * The names of the CPU stand-in's source files in `ffi/cpu/`, sorted: a module that came by URL has no folder to list.
 *
 * @module
 */

/** Every `.c` and `.h` file of the stand-in; the `.c` files are compiled, all together. */
export const cpuSources: readonly string[] = [
  "accounts.c",
  "accounts.h",
  "allocate.c",
  "api.h",
  "collective.c",
  "communicator.c",
  "communicator.h",
  "copy.c",
  "device.c",
  "device.h",
  "engine.c",
  "engine.h",
  "errors.c",
  "errors.h",
  "event.c",
  "event.h",
  "group.c",
  "group.h",
  "handles.c",
  "handles.h",
  "join.c",
  "memory.c",
  "memory.h",
  "pinned.c",
  "pinned.h",
  "process.c",
  "process.h",
  "reduce.c",
  "settings.c",
  "settings.h",
  "split.c",
  "stream.c",
  "stream.h",
  "transport.c",
  "world.c",
  "world.h",
];
