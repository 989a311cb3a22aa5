/**
 * One rank in a process of its own, for tests that kill and stop it. Reads one command a line as JSON, answers one line a command.
 *
 * @module
 */

import { Communicator, DataManager, openRuntime, type RedistribStep, type RedistributeOptions } from "../../mod.ts";
import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import { batchOf } from "../cluster.ts";
import { native } from "../native.ts";
import { listen } from "./moments.ts";
import { obeyLines } from "./ranks.ts";
import { resources } from "./resources.ts";
import { layoutOf, sceneBatch, SCENES } from "./scenes.ts";

/** What a rank can be told. */
export type Command =
  | { op: "uniqueId" }
  | { op: "join"; uniqueId: string; rank: number; worldSize: number }
  | { op: "store"; ids: string[]; elements: number }
  | {
    op: "redistribute";
    ids: string[];
    elements: number;
    plan: RedistribStep[];
    timeoutMs: number;
    killAtPhase?: number;
  }
  | { op: "rebuild"; uniqueId: string; timeoutMs: number }
  | { op: "check"; ids: string[]; elements: number }
  | { op: "memory" }
  /** Joins for a scene; `load` stores what the scene says. */
  | { op: "open"; scene: string; uniqueId: string; rank: number; load: boolean }
  | { op: "setUp" }
  | { op: "load" }
  /** Runs the scene's plan; at a moment the process sends itself a signal, or arms faults of the stand-in for the rest of the transfer. */
  | { op: "transfer"; timeoutMs: number; moment?: string; signal?: Deno.Signal; faults?: string }
  | { op: "held" }
  /** Disposes the manager; answers what is left in the stand-in's accounts. */
  | { op: "close" }
  | { op: "end" };

/** The batch that all ranks know: `elements` float32 for each of about a dozen sequence elements of an id. */
function batch(ids: readonly string[], elements: number) {
  return batchOf(ids, {
    hidden: { dtype: "float32", trailingShape: [elements] },
    reward: { dtype: "float64", trailingShape: [] },
  });
}

const runtime = await openRuntime({ backend: "cpu" });
let manager: DataManager | undefined;
let scene = SCENES[0]!;

async function obey(command: Command): Promise<unknown> {
  switch (command.op) {
    case "uniqueId":
      return runtime.createUniqueId().toBase64();
    case "join": {
      const uniqueId = Uint8Array.fromBase64(command.uniqueId);
      const { rank, worldSize } = command;
      const communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs: 20_000 });
      manager = await DataManager.create({ communicator, rehearse: false });
      return null;
    }
    case "store":
      for (const sample of batch(command.ids, command.elements).unpack()) manager!.store(sample);
      return null;
    case "redistribute": {
      const { ids, elements, plan, timeoutMs, killAtPhase } = command;
      const options: RedistributeOptions = { timeoutMs };
      if (killAtPhase !== undefined) {
        options.onProgress = ({ phase }) => {
          if (phase === killAtPhase) Deno.kill(Deno.pid, "SIGKILL");
        };
      }
      const { installed } = await manager!.redistribute(batch(ids, elements).meta(), plan, options);
      return installed;
    }
    case "rebuild":
      await manager!.rebuild({ uniqueId: Uint8Array.fromBase64(command.uniqueId), timeoutMs: command.timeoutMs });
      return null;
    case "check": {
      const parts = new Map(batch(command.ids, command.elements).unpack().map((sample) => [sample.ids[0]!, sample]));
      let right = 0;
      for (const id of manager!.ids) {
        const found = await manager!.get(id).toHost();
        if (JSON.stringify(found.data, hex) !== JSON.stringify(parts.get(id)!.data, hex)) {
          throw new Error(`id ${id} is not what it was`);
        }
        right++;
      }
      return right;
    }
    case "open": {
      scene = SCENES.find(({ name }) => name === command.scene)!;
      const uniqueId = Uint8Array.fromBase64(command.uniqueId);
      const { rank } = command;
      const communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize: scene.before.length });
      manager = await DataManager.create({ communicator, rehearse: false, ...layoutOf(scene) });
      if (command.load) load();
      return null;
    }
    case "setUp":
      await manager!.setupProcessGroups();
      return null;
    case "load":
      load();
      return null;
    case "transfer": {
      const { timeoutMs, moment, signal, faults } = command;
      listen(runtime, (now) => {
        if (now !== moment) return;
        if (signal !== undefined) Deno.kill(Deno.pid, signal);
        if (faults !== undefined) setCpuFaults(native.cpu!, faults);
      });
      try {
        await manager!.redistribute(sceneBatch().meta(), scene.plan, { timeoutMs, verify: scene.verify === true });
      } finally {
        listen(runtime, null);
        setCpuFaults(native.cpu!, "");
      }
      return null;
    }
    case "held": {
      const parts = new Map(sceneBatch().unpack().map((sample) => [sample.ids[0]!, sample]));
      for (const id of manager!.ids) {
        const found = await manager!.get(id).toHost();
        if (JSON.stringify(found.data, hex) !== JSON.stringify(parts.get(id)!.data, hex)) {
          throw new Error(`id ${id} is not what it was`);
        }
      }
      return manager!.ids.sort();
    }
    case "close":
      await manager?.[Symbol.asyncDispose]();
      manager = undefined;
      return resources();
    case "memory":
      return runtime.memoryInfo().freeBytes;
    case "end":
      await manager?.[Symbol.asyncDispose]();
      runtime[Symbol.dispose]();
      return null;
  }
}

function load(): void {
  const ids = scene.before[manager!.rank]!;
  for (const sample of sceneBatch().unpack()) if (ids.includes(sample.ids[0]!)) manager!.store(sample);
}

function hex(_: string, value: unknown): unknown {
  return value instanceof Uint8Array ? value.toHex() : value;
}

if (import.meta.main) await obeyLines(obey);
