/**
 * Flags of scripts, and what is said to those that cannot be taken.
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

/** The integer from `least` up that a flag gives, or `unless` where it is not given; refuses anything else. */
export function wholeFlag(flags: Readonly<Record<string, unknown>>, name: string, unless: number, least = 0): number {
  const text = flags[name];
  if (text === undefined) return unless;
  const value = typeof text === "string" && /^\d+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value) || value < least) {
    refuse(`--${name}: it is an integer from ${least} up, not ${text}`);
  }
  return value;
}
