/**
 * What scripts say to arguments that they cannot take.
 *
 * @module
 */

/** Ends the script with a sentence and exit code 2. */
export function refuse(why: string): never {
  Deno.stderr.writeSync(new TextEncoder().encode(`${why}\n`));
  Deno.exit(2);
}

/** For flags that a script does not know: one that was passed over could mean hours of something that nobody asked for. */
export function refuseFlag(argument: string): never {
  refuse(`${argument} is no flag of this script; the beginning of its file tells which there are`);
}
