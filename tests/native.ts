/**
 * The libraries that the tests run on, opened once for all tests of one process: the resource sanitizer counts a library opened inside a test as a leak.
 *
 * That is the CPU stand-in, unless SEQFERRY_TEST_BACKEND is `cuda`: then tests of one rank run on NVIDIA's libraries and a GPU, as `scripts/gpu_check.ts` has
 * them do.
 *
 * @module
 */

import { openLibraries } from "../ffi/open.ts";
import type { Libraries } from "../ffi/open.ts";

const backend = Deno.env.get("SEQFERRY_TEST_BACKEND") ?? "cpu";
if (backend !== "cpu" && backend !== "cuda") {
  throw new Error(`SEQFERRY_TEST_BACKEND is cpu or cuda, not ${JSON.stringify(backend)}`);
}

/** Both libraries. */
export const native: Libraries = await openLibraries({ backend });
