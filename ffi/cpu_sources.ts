/**
 * The names of the CPU stand-in's source files in `ffi/cpu/`, sorted: a module that came by URL has no folder to list.
 *
 * @module
 */

/** Every `.c` and `.h` file of the stand-in; the `.c` files are compiled, all together. */
export const cpuSources: readonly string[] = [];
