/**
 * A redistribution among four ranks of one process, with replica groups, on whatever stand-in SEQFERRY_CPU_LIBRARY names. Prints what came of it as one
 * line of JSON.
 *
 * @module
 */

import { GlobalStorageTracker, parseLayouts, RedistribPlanner, type TensorHandle } from "../../mod.ts";
import { batchOf, Cluster, EVERY_DTYPE } from "../cluster.ts";

/** What the probe prints. */
export interface ProbeResult {
  /** What the libraries say of themselves. */
  readonly versions: { readonly cudart: number; readonly nccl: number };
  /** Tensors that a destination holds, all bit for bit what they were. */
  readonly tensors: number;
}

if (import.meta.main) {
  const ids = Array.from({ length: 12 }, (_, i) => `id-${i}`);
  const batch = batchOf(ids, EVERY_DTYPE);
  const parts = new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
  const layout = parseLayouts("actor=pp1,dp4,tp1 critic=pp1,dp2,tp2");
  await using cluster = await Cluster.open(4, layout);
  const tracker = new GlobalStorageTracker(4);
  ids.forEach((id, i) => {
    cluster.managers[i % 4]!.store(parts.get(id)!);
    for (const key of batch.keys) tracker.addData(i % 4, [id], key, true);
  });
  await cluster.all((manager) => manager.setupProcessGroups());
  const dests = new Map<number, string[]>();
  for (const data of [0, 1]) {
    const share = ids.filter((_, i) => Math.floor(i / 6) === data);
    for (const rank of layout.ranksOf("critic/0", { data })) dests.set(rank, share);
  }
  const planner = new RedistribPlanner({ gpusPerNode: 8 }, tracker);
  const plan = planner.derivePlan(dests, batch.keys, "gather-scatter");
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan, { verify: true }));
  let tensors = 0;
  for (const [rank, share] of dests) {
    for (const id of share) {
      const found = cluster.managers[rank]!.get(id);
      for (const key of batch.keys) {
        const { bytes } = await (found.data![key] as TensorHandle).toHost();
        const expected = parts.get(id)!.data![key] as { bytes: Uint8Array };
        if (bytes.toHex() !== expected.bytes.toHex()) {
          throw new Error(`${key} of ${id} on rank ${rank} is not what it was`);
        }
        tensors++;
      }
    }
  }
  const { cudart, nccl } = cluster.runtimes[0]!;
  const result: ProbeResult = { versions: { cudart: cudart.version, nccl: nccl.version }, tensors };
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(result)}\n`));
}
