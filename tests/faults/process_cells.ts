/**
 * The part of the fault matrix that needs processes: one is killed, or stopped, at every moment of every kind of step.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { momentsOf } from "./cells.ts";
import { type End, judge, judgeSettled } from "./judge.ts";
import { type Answer, RankProcess, RankProcesses } from "./ranks.ts";
import { after, type Scene, SCENES, WORLD_SIZE } from "./scenes.ts";

/** What a stopped process costs the others. */
const STOPPED_TIMEOUT_MS = 600;
/** Far away: a killed process is seen long before. */
const KILLED_TIMEOUT_MS = 20_000;
/** How soon the survivors know of a killed process. */
const SEEN_WITHIN_MS = 1000;

/** What a machine with other work may add. */
const LOAD_MS = 1000;

/** A cell that runs on processes which it leaves ready for the next. */
export interface ProcessCell {
  readonly where: "processes";
  readonly name: string;
  run(world: RankProcesses): Promise<void>;
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
          { name: `${where}: its process is killed`, run: (world) => killed(world, scene, victim, moment) },
          { name: `${where}: its process is stopped`, run: (world) => stopped(world, scene, victim, moment) },
        );
      }
    }
  }
  return cells.map((cell) => ({ where: "processes", ...cell }));
}

/** Runs cells one after another on processes that are renewed after a failure. Answers the failures. */
export async function runProcessCells(
  cells: readonly ProcessCell[],
  onCell: (done: number) => void = () => {},
): Promise<{ cell: string; error: unknown }[]> {
  const failures: { cell: string; error: unknown }[] = [];
  let world = RankProcesses.start(WORLD_SIZE);
  for (const [i, cell] of cells.entries()) {
    try {
      await cell.run(world);
    } catch (error) {
      failures.push({ cell: cell.name, error });
      await world[Symbol.asyncDispose]();
      world = RankProcesses.start(WORLD_SIZE);
    }
    onCell(i + 1);
  }
  await world[Symbol.asyncDispose]();
  return failures;
}

async function killed(world: RankProcesses, scene: Scene, victim: number, moment: string): Promise<void> {
  await open(world, scene);
  const answers = await world.tell((rank) =>
    rank === victim
      ? { op: "transfer", timeoutMs: KILLED_TIMEOUT_MS, moment, signal: "SIGKILL" }
      : { op: "transfer", timeoutMs: KILLED_TIMEOUT_MS }
  );
  assertEquals(answers[victim], null, "the killed process answered");
  const survivors = [...world.ranks.keys()].filter((rank) => rank !== victim);
  const held = await heldBy(world, survivors);
  judge({ scene, victim, timeoutMs: 0, ends: answers.map(endOf), held, fired: true }, () => false, { lost: true });
  for (const rank of survivors) {
    assert(answers[rank]!.ms < SEEN_WITHIN_MS + LOAD_MS, `rank ${rank} took ${answers[rank]!.ms} ms`);
  }
  await world.ranks[victim]![Symbol.asyncDispose]();
  world.ranks[victim] = new RankProcess();
  const uniqueId = await world.uniqueId(survivors[0]);
  all(
    await world.tell((rank) =>
      rank === victim
        ? { op: "open", scene: scene.name, uniqueId, rank, load: false }
        : { op: "rebuild", uniqueId, timeoutMs: KILLED_TIMEOUT_MS }
    ),
  );
  judgeSettled({ scene, ends: answers.map(endOf) }, await heldBy(world) as string[][], victim);
  await world.ranks[victim]!.must({ op: "load" });
  await works(world, scene);
}

async function stopped(world: RankProcesses, scene: Scene, victim: number, moment: string): Promise<void> {
  await open(world, scene);
  const others = [...world.ranks.keys()].filter((rank) => rank !== victim);
  const process = world.ranks[victim]!;
  const late = process.tell({ op: "transfer", timeoutMs: STOPPED_TIMEOUT_MS, moment, signal: "SIGSTOP" });
  const answers = await world.tell({ op: "transfer", timeoutMs: STOPPED_TIMEOUT_MS }, others);
  // The others may be done before the victim comes to its moment.
  const waking = setInterval(() => process.signal("SIGCONT"), 20);
  answers.splice(victim, 0, await late.finally(() => clearInterval(waking)));
  const held = await heldBy(world);
  // How long the victim slept is no fault of its own.
  const ends = answers.map((answer, rank) => rank === victim ? { ...endOf(answer)!, ms: 0 } : endOf(answer));
  judge(
    { scene, victim, timeoutMs: STOPPED_TIMEOUT_MS, ends, held, fired: true },
    ({ name }) => name === "DeadlineError" || name === "PeerLostError",
  );
  const uniqueId = await world.uniqueId(others[0]);
  all(await world.tell({ op: "rebuild", uniqueId, timeoutMs: KILLED_TIMEOUT_MS }));
  judgeSettled({ scene, ends }, await heldBy(world) as string[][]);
  await works(world, scene);
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
