/**
 * A process that gives a tensor to another and takes one, for the tests of tensor exports. One JSON command a line, one JSON answer a line.
 *
 * @module
 */

import { Communicator, DataManager, openRuntime } from "../../mod.ts";
import { linesOf } from "../../src/lines.ts";
import {
  type ExportedTensor,
  exportTensor,
  importTensor,
  type TensorExport,
} from "../../src/transfer/tensor_export.ts";
import { batchOf } from "../cluster.ts";

/** What the process can be told. */
export type GiverCommand =
  | { op: "give"; id: string }
  | { op: "takeBack" }
  | { op: "take"; description: TensorExport }
  | { op: "freeBytes" }
  | { op: "end" };

if (import.meta.main) {
  const runtime = await openRuntime({ backend: "cpu" });
  const communicator = await Communicator.init(runtime, { uniqueId: runtime.createUniqueId(), rank: 0, worldSize: 1 });
  const manager = await DataManager.create({ communicator, rehearse: false });
  const keys = { hidden: { dtype: "bfloat16", trailingShape: [300] } } as const;
  for (const sample of batchOf(["a", "b"], keys).unpack()) manager.store(sample);
  let exported: ExportedTensor | undefined;

  const obey = async (command: GiverCommand): Promise<unknown> => {
    switch (command.op) {
      case "give":
        exported = exportTensor(manager.get(command.id).data!["hidden"]!);
        return exported.description;
      case "takeBack":
        exported?.[Symbol.dispose]();
        return null;
      case "take": {
        using tensor = await importTensor(runtime, command.description, { timeoutMs: 5000 });
        return (await tensor.toHost()).bytes.toBase64();
      }
      case "freeBytes":
        return runtime.memoryInfo().freeBytes;
      case "end":
        await manager[Symbol.asyncDispose]();
        runtime[Symbol.dispose]();
        return null;
    }
  };

  for await (const line of linesOf(Deno.stdin.readable)) {
    const answer = await obey(JSON.parse(line)).then((ok) => ({ ok }), (error) => ({ error: String(error) }));
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(answer)}\n`));
  }
}
