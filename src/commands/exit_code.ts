/**
 * Exit codes, and how errors come to them.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";
import { InputError } from "./input_error.ts";
import { Interrupted } from "./interrupt.ts";
import { isLacking } from "./lacking.ts";
import { WorkerDiedError } from "./worker_processes.ts";

/** Done and verified. */
export const DONE = 0;
/** A transfer failed or did not verify. */
export const FAILED = 1;
/** Bad input or usage. */
export const BAD_INPUT = 2;
/** Something this machine lacks: a compiler, a library, a device. */
export const LACKING = 3;

/** The exit code for an error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof InputError) return BAD_INPUT;
  if (isLacking(error)) return LACKING;
  if (error instanceof WorkerDiedError && error.status.code === LACKING) return LACKING;
  if (error instanceof Interrupted) return error.exitCode;
  return FAILED;
}

/** What is said of an error: its sentence; with its stack, where it is not one that seqferry raises on purpose. */
export function sayError(error: unknown): string {
  if (error instanceof SeqferryError) return error.message;
  return error instanceof Error ? error.stack ?? error.message : String(error);
}
