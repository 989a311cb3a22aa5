// deno-lint-ignore-file no-console -- an entry point: it prints the path
/**
 * Builds the CPU stand-in, unless it is built already, and prints its path.
 *
 * `deno run -A scripts/build_cpu_library.ts`
 *
 * @module
 */

import { buildCpuLibrary } from "../ffi/cpu_library.ts";
import { LibraryNotFoundError } from "../src/errors.ts";

try {
  console.log((await buildCpuLibrary()).path);
} catch (error) {
  if (!(error instanceof LibraryNotFoundError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
