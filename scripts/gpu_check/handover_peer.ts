/**
 * Either side of the hand-over check as a Deno process; speaks what `scripts/python/handover_peer.py` speaks.
 *
 * @module
 */

import {
  Communicator,
  DataManager,
  type ExportedTensor,
  exportTensor,
  importTensor,
  openRuntime,
  SequenceSample,
  type TensorExport,
} from "../../mod.ts";
import { serveCommands } from "./protocol.ts";
import { rollouts } from "./rollouts.ts";

/** What a side can be told. */
export type HandoverCommand =
  /** Opens another's tensor; answers {@linkcode Opened}. */
  | { op: "open"; description: TensorExport }
  /** Opens another's tensor, stores it without a copy, reads it out of the store; answers {@linkcode Opened}. Deno only. */
  | { op: "store"; description: TensorExport }
  /** Answers a {@linkcode TensorExport} of bytes 0, 1, 2, ... modulo 251. */
  | { op: "give" }
  /** Answers a {@linkcode Given} for each key of one of the rollouts. Deno only. */
  | { op: "giveRollout"; index: number }
  /** What was given may go. */
  | { op: "close" };

/** What became of an opened tensor. */
export interface Opened {
  /** Of its bytes. */
  readonly sha256: string;
  /** Whether they came by way of a torch tensor. */
  readonly torch: boolean;
  /** How long the opening took, in milliseconds. */
  readonly openMs: number;
}

/** A tensor of a rollout, and what its bytes are. */
export interface Given {
  readonly key: string;
  readonly description: TensorExport;
  readonly sha256: string;
}

/** Bytes of what `give` gives. */
export const GIVEN_BYTES = 1 << 20;

/** The bytes that `give` gives. */
export function givenBytes(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: GIVEN_BYTES }, (_, i) => i % 251);
}

/** A digest in hexadecimal. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes))).toHex();
}

if (import.meta.main) {
  const runtime = await openRuntime({ backend: Deno.args[0] as "cuda" | "cpu" });
  const communicator = await Communicator.init(runtime, { uniqueId: runtime.createUniqueId(), rank: 0, worldSize: 1 });
  const manager = await DataManager.create({ communicator, rehearse: false });
  let given: ExportedTensor[] = [];

  const sampleOf = (id: string, data: NonNullable<SequenceSample["data"]>[string]) =>
    new SequenceSample({
      ids: [id],
      keys: ["bytes"],
      dtypes: { bytes: "uint8" },
      trailingShapes: { bytes: [] },
      seqlens: { bytes: [[GIVEN_BYTES]] },
      data: { bytes: data },
    });

  const open = async (description: TensorExport): Promise<Opened> => {
    const started = performance.now();
    using tensor = await importTensor(runtime, description);
    const openMs = performance.now() - started;
    return { sha256: await sha256((await tensor.toHost()).bytes), torch: false, openMs };
  };

  const store = async (description: TensorExport): Promise<Opened> => {
    const started = performance.now();
    const free = runtime.memoryInfo().freeBytes;
    const tensor = await importTensor(runtime, description);
    manager.store(sampleOf("taken", tensor));
    tensor[Symbol.dispose]();
    const openMs = performance.now() - started;
    const taken = free - runtime.memoryInfo().freeBytes;
    if (taken >= GIVEN_BYTES) throw new Error(`${taken} bytes of device memory were taken: it is a copy`);
    const sample = await manager.get("taken").toHost();
    manager.remove(["taken"]);
    return { sha256: await sha256((sample.data!["bytes"] as { bytes: Uint8Array }).bytes), torch: false, openMs };
  };

  const giveRollout = async (index: number): Promise<Given[]> => {
    const sample = (await rollouts()).unpack()[index]!;
    manager.store(sample);
    const stored = manager.get(sample.ids[0]!);
    return await Promise.all(sample.keys.map(async (key) => {
      const exported = exportTensor(stored.data![key]!);
      given.push(exported);
      const { bytes } = sample.data![key] as { bytes: Uint8Array };
      return { key, description: exported.description, sha256: await sha256(bytes) };
    }));
  };

  const give = (): TensorExport => {
    const bytes = givenBytes();
    manager.store(sampleOf("given", { dtype: "uint8", shape: [bytes.length], bytes }));
    const exported = exportTensor(manager.get("given").data!["bytes"]!);
    given.push(exported);
    return exported.description;
  };

  await serveCommands(async (command: HandoverCommand): Promise<unknown> => {
    switch (command.op) {
      case "open":
        return await open(command.description);
      case "store":
        return await store(command.description);
      case "give":
        return give();
      case "giveRollout":
        return await giveRollout(command.index);
      case "close":
        for (const exported of given) exported[Symbol.dispose]();
        given = [];
        manager.clearData();
        return null;
    }
  });
}
