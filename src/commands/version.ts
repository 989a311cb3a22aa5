/**
 * The release.
 *
 * @module
 */

/** As in `deno.json`, which a test sees to; that file has comments, so it cannot be imported. */
export const VERSION = "0.1.0";
