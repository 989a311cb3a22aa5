/**
 * The CPU stand-in, opened once for all tests of one process: the resource sanitizer counts a library opened inside a test as a leak.
 *
 * @module
 */

import { openLibraries } from "../ffi/open.ts";
import type { Libraries } from "../ffi/open.ts";

/** Both libraries, as the stand-in offers them. */
export const native: Libraries = await openLibraries({ backend: "cpu" });
