/**
 * What a process holds at one moment, so that it can be compared with what it held before.
 *
 * @module
 */

import { resources } from "../faults/resources.ts";

/** Counted in this process; those of {@linkcode resources} are the stand-in's, the others the system's. */
export type Figures = Readonly<Record<FigureName, number>>;

/** The names of the figures that must come back exactly. */
export const EXACT = [
  /** Device memory in use, in bytes and in allocations. */
  "liveBytes",
  "liveAllocations",
  /** Host memory that is pinned, in bytes. */
  "pinnedBytes",
  "liveStreams",
  "liveEvents",
  "liveCommunicators",
  "outstandingGroups",
  /** Open files, sockets, pipes, and files without names. */
  "fileHandles",
  /** Mappings of shared memory: files without names (memfd and the like), and what lies in /dev/shm. */
  "sharedMappings",
  /** Files in /dev/shm, of the whole machine. */
  "sharedFiles",
  /** Threads beside those of Deno's own pool, which grows and shrinks as it likes. */
  "threads",
] as const;

/** The name of a figure. */
export type FigureName = typeof EXACT[number] | "hostBytes" | "heapBytes" | "poolThreads";

/** How much more host memory a process may have afterwards: the ups and downs of two allocators and a collector. */
const MOST_GROWTH = 64 * 2 ** 20;
/** How much more may be in use in JavaScript's heap, after a collection. */
const MOST_HEAP_GROWTH = 16 * 2 ** 20;

/** Looks at this process; what can be collected is collected first, where the runtime lets itself be told and `collect` says so. */
export function readFigures({ collect = true }: { collect?: boolean } = {}): Figures {
  if (collect) (globalThis as { gc?: () => void }).gc?.();
  const names = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => commandOf(name));
  const pool = names.filter((name) => name.startsWith("tokio-")).length;
  const status = Deno.readTextFileSync("/proc/self/status");
  return {
    ...resources() as Record<"liveBytes" | "liveAllocations" | "pinnedBytes" | "liveStreams" | "liveEvents", number> & {
      liveCommunicators: number;
      outstandingGroups: number;
    },
    fileHandles: [...Deno.readDirSync("/proc/self/fd")].length,
    sharedMappings:
      Deno.readTextFileSync("/proc/self/maps").split("\n").filter((line) =>
        /^\S+ ...s .*( \(deleted\)|\/dev\/shm\/)/.test(line)
      ).length,
    sharedFiles: [...Deno.readDirSync("/dev/shm")].length,
    threads: names.length - pool,
    poolThreads: pool,
    hostBytes: 1024 * Number(/^RssAnon:\s+(\d+) kB/m.exec(status)![1]),
    heapBytes: Deno.memoryUsage().heapUsed,
  };
}

/** V8 starts a thread, with a pair of sockets, when it first puts off some of its collecting: garbage brings that about before anything is compared. */
export async function startCollector(): Promise<void> {
  const { fileHandles } = readFigures();
  for (let round = 0; round < 50 && readFigures({ collect: round % 5 === 0 }).fileHandles === fileHandles; round++) {
    Array.from({ length: 200_000 }, (_, i) => ({ i, text: `${i}` }));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function commandOf(task: string): string {
  try {
    return Deno.readTextFileSync(`/proc/self/task/${task}/comm`);
  } catch {
    // It ended meanwhile.
    return "tokio-";
  }
}

/** By figure the larger of two. */
export function larger(a: Figures, b: Figures): Figures {
  return Object.fromEntries(
    Object.entries(a).map(([name, value]) => [name, Math.max(value, b[name as FigureName])]),
  ) as Figures;
}

/** What did not come back to where it began, in words; empty when all did. */
export function differences(begin: Figures, end: Figures): string[] {
  const wrong = EXACT.filter((name) => end[name] !== begin[name]).map((name) =>
    `${name}: ${begin[name]} at the beginning, ${end[name]} at the end`
  );
  for (const [name, most] of [["hostBytes", MOST_GROWTH], ["heapBytes", MOST_HEAP_GROWTH]] as const) {
    const growth = end[name] - begin[name];
    if (growth > most) wrong.push(`${name}: ${growth} more at the end, and ${most} are the most that may be`);
  }
  return wrong;
}

/** Waits until all has come back, for what ends on the thread pool; answers the figures then, or those after `ms` milliseconds. */
export async function settledFigures(begin: Figures, ms = 5000): Promise<Figures> {
  const limit = performance.now() + ms;
  while (true) {
    const now = readFigures();
    if (differences(begin, now).length === 0 || performance.now() > limit) return now;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
