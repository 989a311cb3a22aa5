/**
 * One rank of several, in a process of its own.
 *
 * @module
 */

import { Communicator, DataManager, openRuntime, type RedistribStep, type RedistributeOptions } from "../../mod.ts";
import { serveCommands } from "./protocol.ts";
import { rollouts, sameSample } from "./rollouts.ts";

/** What a rank can be told. */
export type Command =
  | { op: "uniqueId" }
  | { op: "join"; uniqueId: string; rank: number; worldSize: number; timeoutMs: number }
  | { op: "store"; ids: string[] }
  | { op: "redistribute"; plan: RedistribStep[]; timeoutMs: number; dieInPhase?: number }
  | { op: "rebuild"; uniqueId: string }
  | { op: "check"; ids: string[] }
  | { op: "end" };

if (import.meta.main) {
  const [backend, device] = Deno.args as ["cuda" | "cpu", string];
  const runtime = await openRuntime({ backend, device: Number(device) });
  const batch = await rollouts();
  const parts = new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
  let manager: DataManager | undefined;

  const obey = async (command: Command): Promise<unknown> => {
    switch (command.op) {
      case "uniqueId":
        return runtime.createUniqueId().toBase64();
      case "join": {
        const { rank, worldSize, timeoutMs } = command;
        const uniqueId = Uint8Array.fromBase64(command.uniqueId);
        const communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs });
        manager = await DataManager.create({ communicator });
        return null;
      }
      case "store":
        manager!.clearData();
        for (const id of command.ids) manager!.store(parts.get(id)!);
        return null;
      case "redistribute": {
        const options: RedistributeOptions = { timeoutMs: command.timeoutMs, verify: true };
        const { dieInPhase } = command;
        if (dieInPhase !== undefined) {
          options.onProgress = ({ phase }) => {
            if (phase === dieInPhase) Deno.kill(Deno.pid, "SIGKILL");
          };
        }
        const report = await manager!.redistribute(batch.meta(), command.plan, options);
        return report.bytesReceived;
      }
      case "rebuild":
        await manager!.rebuild({ uniqueId: Uint8Array.fromBase64(command.uniqueId), timeoutMs: 30_000 });
        return null;
      case "check": {
        let bytes = 0;
        for (const id of command.ids) bytes += await sameSample(manager!, parts.get(id)!);
        return bytes;
      }
      case "end":
        await manager?.[Symbol.asyncDispose]();
        runtime[Symbol.dispose]();
        return null;
    }
  };

  await serveCommands(obey);
}
