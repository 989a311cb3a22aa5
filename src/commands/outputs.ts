/**
 * Files that a command writes: checked before the work begins, written at its end.
 *
 * @module
 */

import { fileTrouble, InputError } from "./input_error.ts";

/**
 * Makes sure that a folder is there and can be written to.
 *
 * @param flag The flag that named it, for the error.
 * @throws {InputError} where it cannot be made or written to.
 */
export async function requireWritableFolder(flag: string, folder: string): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.remove(await Deno.makeTempFile({ dir: folder, prefix: ".probe-" }));
  } catch (error) {
    throw new InputError(flag, `the folder ${folder} cannot be written to: ${fileTrouble(error)}`, { cause: error });
  }
}

/**
 * Makes sure that a file can be written; one that is there stays as it is, one that is not there is not made.
 *
 * @param flag The flag that named it, for the error.
 * @throws {InputError} where it cannot be opened for writing.
 */
export async function requireWritableFile(flag: string, path: string): Promise<void> {
  try {
    const there = await exists(path);
    (await Deno.open(path, { create: true, write: true })).close();
    if (!there) await Deno.remove(path);
  } catch (error) {
    throw new InputError(flag, `the file ${path} cannot be written: ${fileTrouble(error)}`, { cause: error });
  }
}

/**
 * Makes sure that a file to write is not the input, by whatever name.
 *
 * @param flag The flag that named it, for the error.
 * @throws {InputError} where it is.
 */
export async function requireApart(flag: string, path: string, input: string): Promise<void> {
  if (!await exists(path)) return;
  const [written, read] = await Promise.all([Deno.stat(path), Deno.stat(input)]);
  if (written.ino === read.ino && written.dev === read.dev) {
    throw new InputError(flag, `the file ${path} is the input`);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
