/**
 * One rank in a process of its own, for the rounds of a soak that kill and stop it. Reads one command a line as JSON, answers one line a command.
 *
 * All ranks make the same transfer out of the same seed, so that nothing but seeds travels.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { Communicator, DataManager, DeviceBuffer, openRuntime, SequenceSample } from "../../mod.ts";
import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import { native } from "../native.ts";
import { obeyLines } from "../faults/ranks.ts";
import { randomTransfer, type Transfer } from "../properties/random_plan.ts";
import { readFigures, startCollector } from "./figures.ts";
import { rollOf } from "./roll.ts";

/** What a rank can be told. */
export type Command =
  | { op: "uniqueId" }
  | { op: "join"; uniqueId: string; rank: number; worldSize: number }
  /** The transfer that follows from a seed is the one that all other commands are about. */
  | { op: "draw"; seed: number; round: number; size: number; worldSize: number }
  | { op: "load" }
  | { op: "transfer"; timeoutMs: number; verify: boolean; faults?: string }
  | { op: "rebuild"; uniqueId: string; timeoutMs: number }
  /** Whether it holds just what it has before or after the transfer, every byte of it. */
  | { op: "holds"; what: "before" | "after" | "nothing" }
  | { op: "clear" }
  /** Makes what is made once: staging, the stand-in's worker. */
  | { op: "warmUp" }
  | { op: "figures" }
  | { op: "end" };

const runtime = await openRuntime({ backend: "cpu" });
let manager: DataManager | undefined;
let transfer: Transfer | undefined;

async function obey(command: Command): Promise<unknown> {
  switch (command.op) {
    case "uniqueId":
      return runtime.createUniqueId().toBase64();
    case "join": {
      const { rank, worldSize } = command;
      const uniqueId = Uint8Array.fromBase64(command.uniqueId);
      manager = await DataManager.create({
        communicator: await Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs: 30_000 }),
      });
      return null;
    }
    case "draw":
      transfer = randomTransfer(rollOf(command.seed, command.round), command.worldSize, command.size);
      return null;
    case "load":
      for (const sample of transfer!.batch.unpack()) {
        const keys = transfer!.before[manager!.rank]!.get(sample.ids[0]!);
        if (keys !== undefined) manager!.store(sample.select(keys));
      }
      return null;
    case "transfer": {
      const { timeoutMs, verify, faults } = command;
      if (faults !== undefined) setCpuFaults(native.cpu!, faults);
      try {
        await manager!.redistribute(transfer!.batch.meta(), transfer!.plan, { timeoutMs, verify });
      } finally {
        setCpuFaults(native.cpu!, "");
      }
      return null;
    }
    case "rebuild":
      await manager!.rebuild({ uniqueId: Uint8Array.fromBase64(command.uniqueId), timeoutMs: command.timeoutMs });
      return null;
    case "holds": {
      const { before, after, batch } = transfer!;
      const expected = command.what === "nothing"
        ? new Map()
        : (command.what === "before" ? before : after)[manager!.rank]!;
      const items = [...expected].filter(([, keys]) => [...keys].length > 0);
      assertEquals(manager!.ids.sort(), items.map(([id]) => id).sort());
      for (const sample of batch.unpack()) {
        const keys = expected.get(sample.ids[0]!);
        if (keys === undefined || [...keys].length === 0) continue;
        const found = await manager!.get(sample.ids[0]!).toHost();
        assertEquals([...found.keys].sort(), [...keys].sort());
        for (const key of keys) assertEquals(found.data![key], sample.data![key]);
      }
      return null;
    }
    case "clear":
      manager!.clearData();
      return null;
    case "warmUp": {
      using buffer = DeviceBuffer.allocate(runtime, 3 << 20);
      await buffer.read();
      const small = { dtype: "uint8", shape: [1], bytes: new Uint8Array(1) } as const;
      const of = {
        dtypes: { k: "uint8" },
        trailingShapes: { k: [] },
        seqlens: { k: [[1]] },
        data: { k: small },
      } as const;
      manager!.store(new SequenceSample({ ids: ["warm"], keys: ["k"], ...of }));
      manager!.clearData();
      await startCollector();
      return null;
    }
    case "figures":
      return readFigures();
    case "end":
      await manager?.[Symbol.asyncDispose]();
      runtime[Symbol.dispose]();
      return readFigures();
  }
}

if (import.meta.main) await obeyLines(obey);
