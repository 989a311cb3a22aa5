import { assert, assertEquals } from "@std/assert";
import { type RedistribStep, VerificationError } from "../../mod.ts";
import { Deadline } from "../../src/wait.ts";
import { batchOf } from "../cluster.ts";
import type { FaultyRuntime } from "../faults/faulty.ts";
import { listen } from "../faults/moments.ts";
import { resources } from "../faults/resources.ts";
import { Arena } from "../properties/arena.ts";

const keys = ["hidden", "reward"];
const batch = batchOf(["a", "b", "c"], {
  hidden: { dtype: "float32", trailingShape: [16] },
  reward: { dtype: "float64", trailingShape: [] },
});
/** Rank 0 to rank 1, and on to rank 2: two hops. */
const plan: RedistribStep[] = [
  { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a", "b", "c"], keys },
  { commType: "bcast", root: 1, srcs: [1], dsts: [2], ids: ["a", "b", "c"], keys },
];

/** Where a rank receives: told of each `ncclRecv`. */
function watchReceives(runtime: FaultyRuntime): bigint[] {
  const addresses: bigint[] = [];
  const symbols = runtime.libraries.nccl.symbols as unknown as Record<string, (...args: unknown[]) => unknown>;
  const receive = symbols.ncclRecv!;
  symbols.ncclRecv = (...args) => {
    addresses.push(args[0] as bigint);
    return receive(...args);
  };
  return addresses;
}

Deno.test("verify finds a byte that changed on the way, on the rank and in the key where it did, and nothing is installed anywhere", async () => {
  const before = resources();
  {
    await using arena = await Arena.open(3);
    for (const sample of batch.unpack()) arena.managers[0]!.store(sample);
    for (const victim of [1, 2]) {
      const runtime = arena.runtimes[victim]!;
      const addresses = watchReceives(runtime);
      listen(runtime, async (moment) => {
        // What has come, before anyone looks at it: the very first byte becomes another.
        if (moment !== "before the verification") return;
        const byte = await runtime.copier.read(addresses[0]!, 1, new Deadline());
        await runtime.copier.write(addresses[0]!, Uint8Array.of(byte[0]! ^ 1), new Deadline());
      });
      const ends = await arena.run({ batch, plan, worldSize: 3, before: [], after: [] }, { verify: true });
      listen(runtime, null);
      for (const [rank, end] of ends.entries()) {
        assert(end.status === "rejected" && end.reason instanceof VerificationError, `rank ${rank}`);
        const { mismatches, flight, outcome } = end.reason;
        // Rank 1 had passed on what it received before it was changed there.
        assertEquals(mismatches.map(({ rank, id, key }) => [rank, id, key]), [[victim, "a", "reward"]]);
        assertEquals(outcome, "unchanged");
        assert(flight!.some(({ stage }) => stage === "verification"));
      }
      assertEquals(arena.managers.map(({ storageSize }) => storageSize), [3, 0, 0]);
    }
    for (const manager of arena.managers) assert(manager.flight().length > 0);
    // The communicator is whole: the next one goes through.
    const ends = await arena.run({ batch, plan, worldSize: 3, before: [], after: [] }, { verify: true });
    assert(ends.every(({ status }) => status === "fulfilled"));
    const all = new Map(batch.ids.map((id) => [id, keys]));
    await arena.assertHolds(batch, [all, all, all]);
  }
  assertEquals(resources(), before);
});
