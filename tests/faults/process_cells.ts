/**
 * The part of the fault matrix that needs processes: one is killed, or stopped, at every moment of every kind of step.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { momentsOf } from "./cells.ts";
import { certain, type End, judge, judgeSettled } from "./judge.ts";
import { endsInTime } from "./limit.ts";
import type { Command } from "./rank.ts";
import { type Answer, RankProcess, RankProcesses } from "./ranks.ts";
import { after, type Scene, SCENES, WORLD_SIZE } from "./scenes.ts";

/** What a process that is stopped, or that nothing reaches, costs the others. */
const TIMEOUT_MS = 600;
/** Far away: a killed process is seen long before. */
const KILLED_TIMEOUT_MS = 20_000;
/** How soon the survivors know of a killed process. */
const SEEN_WITHIN_MS = 1000;

/** What a machine with other work may add. */
const LOAD_MS = 1000;

type TransferCommand = Extract<Command, { op: "transfer" }>;

const gaveUp = ({ name }: NonNullable<End["error"]>) => name === "DeadlineError" || name === "PeerLostError";

/** Faults that the stand-in makes in the process of rank `victim`, armed before a group; without `raises` a process dies. */
const WIRE_FAULTS: readonly {
  name: string;
  rules(victim: number): string;
  raises?: (error: NonNullable<End["error"]>) => boolean;
  slow?: "is only slow";
}[] = [
  { name: "a link to it drops", rules: (rank) => `*>${rank}:1=hang`, raises: gaveUp },
  { name: "a link to it drops in the middle of a message", rules: (rank) => `*>${rank}:1B=hang`, raises: gaveUp },
  { name: "its stream stalls", rules: (rank) => `group@${rank}:1=hang`, raises: gaveUp },
  {
    name: "its group fails",
    rules: (rank) => `group@${rank}:1=ncclSystemError`,
    raises: ({ name, code }) => name === "NcclError" && code === 2,
  },
  { name: "its links are slow", rules: (rank) => `*>${rank}:*=delay 30`, raises: () => false, slow: "is only slow" },
  { name: "its links are thin", rules: (rank) => `*>${rank}:*=rate 200000`, raises: () => false, slow: "is only slow" },
  { name: "it is stopped in the middle of a copy", rules: (rank) => `*>${rank}:1B=stop`, raises: gaveUp },
  {
    name: "its sender is stopped in the middle of a copy",
    rules: (rank) => `*>${rank}:1B=stop sender`,
    raises: gaveUp,
  },
  { name: "it dies before its group", rules: (rank) => `group@${rank}:1=kill` },
  { name: "it dies in the middle of a copy", rules: (rank) => `*>${rank}:1B=kill` },
  { name: "its sender dies in the middle of a copy", rules: (rank) => `*>${rank}:1B=kill sender` },
];

/** A cell that runs on processes which it leaves ready for the next. */
export interface ProcessCell {
  readonly where: "processes";
  readonly name: string;
  /** Whether the fault was met: one in messages is not by a rank that gets none. */
  run(world: RankProcesses): Promise<boolean>;
}

/** All cells. */
export async function allProcessCells(): Promise<ProcessCell[]> {
  const cells: Omit<ProcessCell, "where">[] = [];
  for (const scene of SCENES) {
    const moments = await momentsOf(scene);
    for (let victim = 0; victim < WORLD_SIZE; victim++) {
      for (const moment of moments[victim]!) {
        const where = `${scene.name}, rank ${victim}, ${moment}`;
        cells.push(
          {
            name: `${where}: its process is killed`,
            run: (world) => killed(world, scene, victim, { moment, signal: "SIGKILL" }),
          },
          {
            name: `${where}: its process is stopped`,
            run: (world) => survived(world, scene, victim, { moment, signal: "SIGSTOP" }, gaveUp),
          },
        );
        if (!moment.startsWith("before ")) continue;
        for (const { name, rules, ...what } of WIRE_FAULTS) {
          const faults = rules(victim);
          cells.push({
            name: `${where}: ${name}`,
            run: (world) =>
              "raises" in what
                ? survived(world, scene, victim, { moment, faults }, what.raises, what.slow)
                : killed(world, scene, victim, { moment, faults }),
          });
        }
      }
    }
  }
  return cells.map((cell) => ({ where: "processes", ...cell }));
}

/** Runs cells one after another on processes that are renewed after a failure. Answers how many faults were met, and the failures. */
export async function runProcessCells(
  cells: readonly ProcessCell[],
  onCell: (done: number) => void = () => {},
): Promise<{ met: number; failures: { cell: string; error: unknown }[] }> {
  const failures: { cell: string; error: unknown }[] = [];
  let met = 0;
  let world = RankProcesses.start(WORLD_SIZE);
  for (const [i, cell] of cells.entries()) {
    try {
      if (await endsInTime(cell.run(world), () => world.state())) met++;
    } catch (error) {
      failures.push({ cell: cell.name, error });
      await world[Symbol.asyncDispose]();
      world = RankProcesses.start(WORLD_SIZE);
    }
    onCell(i + 1);
  }
  await world[Symbol.asyncDispose]();
  return { met, failures };
}

async function killed(
  world: RankProcesses,
  scene: Scene,
  victim: number,
  fault: Pick<TransferCommand, "moment" | "signal" | "faults">,
): Promise<boolean> {
  await open(world, scene);
  const answers = await world.tell((rank) => ({
    op: "transfer",
    timeoutMs: KILLED_TIMEOUT_MS,
    ...(rank === victim ? fault : {}),
  }));
  // Asked when all have answered: a sender can die after that, since what it sent was out of its hands by then.
  const lost = (await world.tell({ op: "held" })).indexOf(null);
  if (lost === -1) {
    // A fault in messages is not met by a rank that gets none.
    assert(fault.faults !== undefined, "the killed process answered");
    all(answers);
    await works(world, scene);
    return false;
  }
  const survivors = [...world.ranks.keys()].filter((rank) => rank !== lost);
  const held = await heldBy(world, survivors);
  const ends = answers.map((answer, rank) => rank === lost ? null : endOf(answer));
  judge({ scene, victim: lost, timeoutMs: 0, ends, held, fired: true }, () => false, { lost: true });
  const last = answers[lost] ?? null;
  const committed = last !== null && last.error === undefined;
  assert(!committed || !ends.some(certain), `rank ${lost} had committed, and another says that nothing has changed`);
  for (const rank of survivors) {
    assert(answers[rank]!.ms < SEEN_WITHIN_MS + LOAD_MS, `rank ${rank} took ${answers[rank]!.ms} ms`);
  }
  await world.ranks[lost]![Symbol.asyncDispose]();
  world.ranks[lost] = new RankProcess();
  const uniqueId = await world.uniqueId(survivors[0]);
  all(
    await world.tell((rank) =>
      rank === lost
        ? { op: "open", scene: scene.name, uniqueId, rank, load: false }
        : { op: "rebuild", uniqueId, timeoutMs: KILLED_TIMEOUT_MS }
    ),
  );
  judgeSettled({ scene, ends }, await heldBy(world) as string[][], lost);
  await world.ranks[lost]!.must({ op: "load" });
  await works(world, scene);
  return true;
}

/** A fault that all processes survive; whoever was stopped is woken when the others have long given up. */
async function survived(
  world: RankProcesses,
  scene: Scene,
  victim: number,
  fault: Pick<TransferCommand, "moment" | "signal" | "faults">,
  victimError: (error: NonNullable<End["error"]>) => boolean,
  slow: "may fail" | "is only slow" = "may fail",
): Promise<boolean> {
  await open(world, scene);
  const timeoutMs = slow === "may fail" ? TIMEOUT_MS : KILLED_TIMEOUT_MS;
  let waking: ReturnType<typeof setInterval> | undefined;
  const wake = () => world.ranks.forEach((process) => process.signal("SIGCONT"));
  const sleep = setTimeout(() => waking = setInterval(wake, 50), timeoutMs + 1500);
  const others = [...world.ranks.keys()].filter((rank) => rank !== victim);
  const late = world.ranks[victim]!.tell({ op: "transfer", timeoutMs, ...fault });
  const answers = await world.tell({ op: "transfer", timeoutMs }, others);
  waking ??= setInterval(wake, 50);
  answers.splice(victim, 0, await late);
  clearTimeout(sleep);
  clearInterval(waking);
  // A sender can be stopped when it has answered: what it sent was out of its hands by then.
  wake();
  const held = await heldBy(world);
  if (slow === "is only slow") all(answers);
  // How long a stopped process slept is no fault of its own.
  const ends = answers.map((answer) => {
    const end = endOf(answer)!;
    return { ...end, ms: end.ms > timeoutMs + 1400 && stops(fault) ? 0 : end.ms };
  });
  const fired = ends.some(({ error }) => error !== undefined);
  judge({ scene, victim, timeoutMs, ends, held, fired }, victimError, {
    culprit: fault.faults?.endsWith("sender") !== true,
  });
  if (fired) {
    const uniqueId = await world.uniqueId(others[0]);
    all(await world.tell({ op: "rebuild", uniqueId, timeoutMs: KILLED_TIMEOUT_MS }));
    judgeSettled({ scene, ends }, await heldBy(world) as string[][]);
  }
  await works(world, scene);
  return fired || slow === "is only slow";
}

function stops({ signal, faults }: Pick<TransferCommand, "signal" | "faults">): boolean {
  return signal === "SIGSTOP" || faults?.includes("stop") === true;
}

async function open(world: RankProcesses, scene: Scene): Promise<void> {
  const uniqueId = await world.uniqueId();
  all(await world.tell((rank) => ({ op: "open", scene: scene.name, uniqueId, rank, load: true })));
  all(await world.tell({ op: "setUp" }));
}

/** The plan runs, everyone has what they should, and nothing is left when the managers are gone. */
async function works(world: RankProcesses, scene: Scene): Promise<void> {
  all(await world.tell({ op: "transfer", timeoutMs: KILLED_TIMEOUT_MS }));
  assertEquals(await heldBy(world), after(scene));
  for (const answer of all(await world.tell({ op: "close" }))) {
    const left = answer.ok as Record<string, number>;
    // The runtime's own stream and pinned buffers stay with it.
    assertEquals([left.liveAllocations, left.liveBytes, left.liveCommunicators, left.outstandingGroups], [0, 0, 0, 0]);
  }
}

async function heldBy(world: RankProcesses, ranks = [...world.ranks.keys()]): Promise<(string[] | null)[]> {
  const held: (string[] | null)[] = world.ranks.map(() => null);
  for (const [i, answer] of all(await world.tell({ op: "held" }, ranks)).entries()) {
    held[ranks[i]!] = answer.ok as string[];
  }
  return held;
}

function all(answers: readonly (Answer | null)[]): Answer[] {
  return answers.map((answer) => {
    assert(answer !== null && answer.error === undefined, JSON.stringify(answer));
    return answer;
  });
}

function endOf(answer: Answer | null): End | null {
  return answer === null ? null : { ...(answer.error === undefined ? {} : { error: answer.error }), ms: answer.ms };
}
