/**
 * Folders in which the stand-in is built, beside where the library is to be: each goes with its build, or, when the process was killed, with the next
 * start.
 *
 * Whoever builds holds a lock on a file in the folder, which the system lets go when the process ends, however it ends.
 *
 * @module
 */

const PREFIX = "build-";
const LOCK = "lock";
/** A folder without a lock may be one in which it is about to be made; not after so many milliseconds. */
const LOCKLESS_MS = 60_000;

/** A folder for one build. Disposing it removes it. */
export class BuildFolder implements AsyncDisposable {
  /** Its absolute path. */
  readonly path: string;
  readonly #lock: Deno.FsFile;

  private constructor(path: string, lock: Deno.FsFile) {
    this.path = path;
    this.#lock = lock;
  }

  /** Makes one in `parent`. */
  static async make(parent: string): Promise<BuildFolder> {
    while (true) {
      const path = await Deno.makeTempDir({ dir: parent, prefix: PREFIX });
      const lock = await Deno.open(`${path}/${LOCK}`, { create: true, write: true });
      await lock.lock(true);
      // Before it was locked it may have been taken for a leftover.
      if (await isThere(path)) return new BuildFolder(path, lock);
      lock.close();
    }
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
    this.#lock.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes from `parent` what builds left behind that were killed. What cannot be removed stays: it is in nobody's way. */
export async function removeLeftovers(parent: string): Promise<void> {
  try {
    for await (const { name, isDirectory } of Deno.readDir(parent)) {
      if (isDirectory && name.startsWith(PREFIX)) await removeIfLeft(`${parent}/${name}`).catch(() => {});
    }
  } catch {
    // The folder is not there, or not ours.
  }
}

async function removeIfLeft(path: string): Promise<void> {
  let lock: Deno.FsFile;
  try {
    lock = await Deno.open(`${path}/${LOCK}`, { write: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const { mtime } = await Deno.stat(path);
    if (mtime !== null && Date.now() - mtime.getTime() > LOCKLESS_MS) await Deno.remove(path, { recursive: true });
    return;
  }
  try {
    if (await lock.tryLock(true)) await Deno.remove(path, { recursive: true });
  } finally {
    lock.close();
  }
}
