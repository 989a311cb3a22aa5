/**
 * Rounds of a soak within one process: one thread drives all ranks.
 *
 * A *lap* is a number of rounds on one world, with a size and a layout of its own. Everything in it follows from the seed and the lap's number.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  Communicator,
  DeadlineError,
  NcclError,
  PeerLostError,
  RedistributeRefusedError,
  SeqferryError,
} from "../../mod.ts";
import { listen } from "../faults/moments.ts";
import { resources } from "../faults/resources.ts";
import { Arena } from "../properties/arena.ts";
import { randomTransfer, type Roll, type Transfer } from "../properties/random_plan.ts";
import { type Ends, type Kind, KINDS, REASON } from "./faults.ts";
import { plannedTransfer, randomLayout } from "./planned.ts";
import { rollOf } from "./roll.ts";

/** How many rounds a world lasts. */
export const LAP_ROUNDS = 20;
/** How many elements a sequence has at most; most samples are small, and now and then one is large. */
const SIZES = [4, 20, 20, 60, 60, 300, 3000];

/** What came of rounds, by kind. */
export interface Tally {
  rounds: number;
  /** In how many of them the transfer failed on some rank. */
  failed: number;
  /** In how many a transfer of unknown outcome was settled. */
  settled: number;
}

/** Runs one lap; tells `onRound` after each round. Throws what did not hold, with the lap's, round's and kind's name. */
export async function runLap(
  seed: number,
  lap: number,
  rounds: number,
  onRound: (kind: string, tally: Partial<Tally>) => void,
): Promise<void> {
  const before = resources();
  const roll = rollOf(seed, lap);
  const layout = roll(2) === 0 ? randomLayout(roll) : undefined;
  const arena = await Arena.open(layout?.worldSize ?? 1 + roll(6), layout);
  let doing = "";
  try {
    for (let round = 0; round < rounds; round++) {
      const size = SIZES[roll(SIZES.length)]!;
      const transfer = layout === undefined || roll(3) === 0
        ? randomTransfer(roll, arena.runtimes.length, size)
        : plannedTransfer(roll, layout, size);
      const kind = drawnKind(roll);
      const victim = roll(arena.runtimes.length);
      doing = `lap ${lap}, round ${round}, ${kind.name}, rank ${victim} of ${arena.runtimes.length}`;
      onRound(kind.name, await runRound(arena, transfer, kind, victim, roll));
    }
    await arena[Symbol.asyncDispose]();
    doing = `the end of lap ${lap}`;
    await comesBack(before);
  } catch (error) {
    for (const runtime of arena.runtimes) {
      runtime.disarm();
      listen(runtime, null);
    }
    await arena[Symbol.asyncDispose]().catch(() => {});
    throw new Error(`seed ${seed}, ${doing}: ${error instanceof Error ? error.stack : error}`, { cause: error });
  }
}

function drawnKind(roll: Roll): Kind {
  let at = roll(KINDS.reduce((sum, { weight }) => sum + weight, 0));
  return KINDS.find(({ weight }) => (at -= weight) < 0)!;
}

/** Frees come through on the thread pool. */
async function comesBack(before: Record<string, number>): Promise<void> {
  const end = performance.now() + 2000;
  while (JSON.stringify(resources()) !== JSON.stringify(before) && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assertEquals(resources(), before, "what the stand-in counts of this process");
}

async function runRound(
  arena: Arena,
  transfer: Transfer,
  kind: Kind,
  victim: number,
  roll: Roll,
): Promise<Partial<Tally>> {
  const { batch, before, after } = transfer;
  arena.load(transfer);
  const ends = await kind.run({ arena, transfer, victim, roll });
  for (const runtime of arena.runtimes) {
    runtime.disarm();
    listen(runtime, null);
  }
  const failed = ends.some(({ status }) => status === "rejected");
  const unknown = judge(ends, victim, kind.disposes === true);
  // An id that was taken away for the round is loaded again below.
  const held = (rank: number) => ends[rank]!.status === "fulfilled" ? after[rank]! : before[rank]!;
  const spoilt = kind.name === "an id is missing" || kind.disposes === true ? victim : null;
  await arena.assertHolds(batch, ends.map((_, rank) => held(rank)), spoilt);
  const refused = ends.every((end) => end.status === "rejected" && end.reason instanceof RedistributeRefusedError);
  if ((failed && !refused) || kind.disposes === true) {
    const gone = kind.disposes === true ? victim : null;
    if (roll(6) === 0 && arena.runtimes.length > 2) await failToRebuild(arena, gone, roll);
    await arena.rebuild(gone);
    const done = ends.some(({ status }, rank) => status === "fulfilled" && rank !== gone);
    const empty = new Map<string, string[]>();
    await arena.assertHolds(
      batch,
      before.map((stored, rank) => rank === gone ? empty : done ? after[rank]! : stored),
      spoilt === gone ? null : spoilt,
    );
    if (gone !== null) arena.load(transfer, gone);
    if (gone !== null && roll(2) === 0) {
      await Promise.all(arena.managers.map((manager) => manager.setupProcessGroups({ timeoutMs: 20_000 })));
    }
  }
  if (failed || kind.disposes === true) {
    if (kind.name === "an id is missing") {
      arena.managers[victim]!.clearData();
      arena.load(transfer, victim);
    }
    for (const end of await arena.run(transfer, { timeoutMs: 20_000 })) {
      assert(end.status === "fulfilled", `after the fault: ${(end as PromiseRejectedResult).reason}`);
    }
    await arena.assertHolds(batch, after);
  }
  arena.clear();
  return { failed: failed ? 1 : 0, settled: unknown ? 1 : 0 };
}

/** A rebuild in which one rank fails; the next one has to do. */
async function failToRebuild(arena: Arena, gone: number | null, roll: Roll): Promise<void> {
  const uniqueId = arena.runtimes[0]!.createUniqueId();
  const victim = roll(arena.runtimes.length);
  const [call, code] = ([["cudaMalloc", 2], ["ncclCommInitRankConfig", 2], ["cudaHostRegister", 2]] as const)[roll(3)]!;
  arena.runtimes[victim]!.arm(call, { code });
  await Promise.allSettled(
    arena.managers.map((manager, rank) => rank === gone ? null : manager.rebuild({ uniqueId, timeoutMs: 40 })),
  );
  arena.runtimes[victim]!.disarm();
  // A unique id that nobody has joined with is its maker's until that ends, as in NCCL. On a machine that had no time for this process nobody may have.
  await Communicator.init(arena.runtimes[0]!, { uniqueId, rank: 0, worldSize: arena.runtimes.length, timeoutMs: 5 })
    .catch(() => {});
}

/** Whether the ends are those that the semantics allow. Answers whether some rank could not learn the outcome. */
function judge(ends: Ends, victim: number, disposed: boolean): boolean {
  const story = ends.map((end, rank) =>
    `rank ${rank}: ${end.status === "fulfilled" ? "done" : `${end.reason?.outcome} ${end.reason}`}`
  ).join("\n");
  const refusals = ends.filter((end) => end.status === "rejected" && end.reason instanceof RedistributeRefusedError);
  assert(refusals.length === 0 || refusals.length === ends.length, `some are refused, others not\n${story}`);
  const done = ends.some(({ status }) => status === "fulfilled");
  let unknown = false;
  ends.forEach((end, rank) => {
    if (end.status === "fulfilled") return;
    const { reason } = end;
    if (rank === victim && reason instanceof Error && reason.message === REASON) {
      assert(!done, `one committed where the caller had thrown\n${story}`);
      return;
    }
    assert(reason instanceof SeqferryError, `rank ${rank} raised no error of this project\n${reason?.stack}\n${story}`);
    assert(reason.outcome === "unchanged" || reason.outcome === "unknown", `rank ${rank} tells no outcome\n${story}`);
    assert((reason.flight ?? []).length > 0, `rank ${rank} tells no flight record\n${story}`);
    assert(!(done && reason.outcome === "unchanged"), `rank ${rank} is certain, and another committed\n${story}`);
    unknown ||= reason.outcome === "unknown";
    if (rank === victim || disposed) return;
    const known = [DeadlineError, PeerLostError, RedistributeRefusedError, NcclError];
    assert(known.some((one) => reason instanceof one), `rank ${rank} had no fault of its own\n${story}`);
  });
  return unknown;
}
