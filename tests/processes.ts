/**
 * Child processes of child processes, for tests that see to it that none is left.
 *
 * @module
 */

/** The processes whose parent is `pid`. */
export function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readStat(Number(name));
    if (stat?.parent === pid) children.push(Number(name));
  }
  return children;
}

/** Whether a process is there and no zombie. */
export function isAlive(pid: number): boolean {
  const stat = readStat(pid);
  return stat !== null && stat.state !== "Z";
}

/** Polls until `done()`; throws after `ms` milliseconds. */
export async function eventually(what: string, done: () => boolean, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!done()) {
    if (performance.now() > end) throw new Error(`${what} did not come about within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A process's threads, each as its name, its state, and the call of the kernel that it waits in. */
export function threadsOf(pid: number): string[] {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) => {
      const read = (file: string) => Deno.readTextFileSync(`/proc/${name}/${file}`).trim();
      return `${read("comm")} ${readStat(Number(name))?.state} ${read("wchan")}`;
    });
  } catch {
    return ["gone"];
  }
}

function readStat(pid: number): { state: string; parent: number } | null {
  try {
    // pid (name) state parent ...; the name may hold blanks and parentheses.
    const [state, parent] = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
    return { state: state!, parent: Number(parent) };
  } catch {
    return null;
  }
}
