/**
 * A life of two ranks, all that a manager does in it: a fault at any call of it costs no more than that step, which can be done again.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  ClosedError,
  CudaError,
  type DataManager,
  DeadlineError,
  NcclError,
  PeerLostError,
  type RedistribStep,
  RedistributeRefusedError,
  type SequenceSample,
} from "../../mod.ts";
import { batchOf } from "../cluster.ts";
import { Arena } from "../properties/arena.ts";

/** What is moved. */
export const IDS = Array.from({ length: 40 }, (_, i) => `id-${i}`);
const keys = ["hidden", "reward"];
/** Digests of 80 items are more than one slot of the agreement holds. */
export const batch = batchOf(IDS, {
  hidden: { dtype: "float32", trailingShape: [600] },
  reward: { dtype: "float64", trailingShape: [] },
});
/** From rank 0 to rank 1. */
export const there: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: IDS, keys }];
const back: RedistribStep[] = [{ commType: "bcast", root: 1, srcs: [1], dsts: [0], ids: IDS, keys }];

/** What a rank may raise when a call of its own, or of its peer's, answers an error. */
function isExpected(error: unknown): boolean {
  return [CudaError, NcclError, DeadlineError, PeerLostError, RedistributeRefusedError, ClosedError].some((one) =>
    error instanceof one
  );
}

/**
 * Lives it with one call of rank 1 answering an error: the one behind `after` others. Answers whether there was one.
 */
export async function liveWithFault(call: string, code: number, after: number, timeoutMs = 400): Promise<boolean> {
  const arena = new Arena(2);
  const victim = arena.runtimes[1]!;
  victim.arm(call, { code, after });
  const joined = await arena.join(timeoutMs).then(() => true, (error) => {
    assert(isExpected(error), `${error instanceof Error ? error.stack : error}`);
    return false;
  });
  if (!joined) {
    victim.disarm();
    await arena.join();
  }
  await live(arena, timeoutMs, () => victim.disarm());
  const met = victim.hasFired(call);
  victim.disarm();
  await arena[Symbol.asyncDispose]();
  return met;
}

/** A life of two ranks. Each step must do when it is done again. */
async function live(arena: Arena, timeoutMs: number, mend: () => void): Promise<void> {
  const step = async (run: () => Promise<unknown>, again: () => Promise<unknown> = () => Promise.resolve()) => {
    try {
      await run();
    } catch (error) {
      assert(isExpected(error), `${error instanceof Error ? error.stack : error}`);
      mend();
      await again();
      await run();
    }
  };
  const [first, second] = [0, 1].map((rank) => () => arena.managers[rank]!);
  const move = async (plan: RedistribStep[]) => {
    const ends = await Promise.allSettled(
      arena.managers.map((manager) => manager.redistribute(batch.meta(), plan, { verify: true, timeoutMs })),
    );
    const failed = ends.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
    if (failed.length > 0) throw failed.find((error) => error instanceof CudaError) ?? failed[0];
  };
  const whole = () => arena.rebuild();
  const put = (manager: () => DataManager, sample: SequenceSample) =>
    step(() => Promise.resolve().then(() => manager().store(sample)));
  const parts = batch.unpack();
  for (const sample of parts.slice(0, 30)) await put(first!, sample);
  for (const sample of parts.slice(30)) await put(second!, sample);
  await step(() => Promise.resolve().then(() => second!().remove(parts.slice(30).flatMap(({ ids }) => ids))));
  for (const sample of parts.slice(30)) await put(first!, sample);
  await step(() => move(there), whole);
  await step(() => Promise.resolve().then(() => second!().update(parts[0]!)));
  await step(() => move(back), whole);
  const all = new Map(IDS.map((id) => [id, keys]));
  await step(() => arena.assertHolds(batch, [all, all]));
}
