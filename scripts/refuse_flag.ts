// deno-lint-ignore-file no-console -- it tells how a script was called wrongly
/**
 * What scripts say to a flag that they do not know.
 *
 * @module
 */

/** Ends the script: a flag that was passed over could mean hours of something that nobody asked for. */
export function refuseFlag(argument: string): never {
  console.error(`${argument} is no flag of this script; the beginning of its file tells which there are`);
  Deno.exit(2);
}
