/**
 * One rank of the speed checks, in a process of its own: seqferry's side.
 *
 * @module
 */

import { Communicator, Deadline, openRuntime } from "../../mod.ts";
import { deviceRuntime } from "../../src/device/runtime.ts";
import type { Size } from "../bench/cases.ts";
import { type Numbers, Skip } from "./check.ts";
import { serveCommands } from "./protocol.ts";
import { NO_COPIES, type Operation, Workload } from "./workload.ts";

/** What a rank can be told. */
export type SpeedCommand =
  | { op: "uniqueId" }
  | { op: "join"; uniqueId: string; rank: number; worldSize: number }
  /** Writes the calls to a file; answers {@linkcode Prepared}. */
  | { op: "prepare"; size: Size; callsFile: string }
  /** Answers milliseconds of each round. */
  | { op: "time"; rounds: number }
  /** Writes many small sends and receives to a file, for `issue`. One rank's alone, once it is prepared. */
  | { op: "prepareIssue"; callsFile: string }
  /** Answers nanoseconds for one call, of each round. */
  | { op: "issue"; rounds: number }
  /** Answers how many bytes arrived as they were sent. */
  | { op: "verify" }
  /** Answers how fast the device packs, and how fast it copies. */
  | { op: "bandwidth"; rounds: number };

/** What a round is. */
export interface Prepared {
  readonly bytes: number;
  readonly copies: number;
  readonly operations: number;
}

/** Sends of a group whose calls are timed, and receives; together half of what a group may hold. */
const SMALL_MESSAGES = 256;

if (import.meta.main) {
  const [backend, ordinal] = Deno.args as ["cuda" | "cpu", string];
  const runtime = deviceRuntime(await openRuntime({ backend, device: Number(ordinal) }));
  let communicator: Communicator;
  let workload: Workload;
  let small: Operation[] = [];

  const time = async (rounds: number): Promise<number[]> => {
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const deadline = new Deadline({ timeoutMs: 30_000 });
      const started = performance.now();
      await workload.run(deadline);
      times.push(performance.now() - started);
    }
    return times;
  };

  const issue = async (rounds: number): Promise<number[]> => {
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const deadline = new Deadline({ timeoutMs: 30_000 });
      const group = await communicator.group("many small messages", (calls) => {
        const started = performance.now();
        for (const { kind, address, bytes, peer } of small) {
          if (kind === "send") calls.send(address, bytes, peer);
          else calls.receive(address, bytes, peer);
        }
        times.push((performance.now() - started) * 1e6 / small.length);
      }, deadline);
      await communicator.stream.idle(deadline);
      group.isDone();
    }
    return times;
  };

  const bandwidth = async (rounds: number): Promise<Numbers> => {
    const { copies } = workload;
    if (copies.to.length === 0) throw new Skip("nothing has to be packed");
    const { stream } = communicator;
    const total = Number(copies.bytes.reduce((sum, each) => sum + each, 0n));
    const [whole, other] = [runtime.allocate(total), runtime.allocate(total)];
    const timed = async (enqueue: () => void) => {
      const { symbols } = runtime.libraries.cudart;
      const [start, end] = [timingEvent(), timingEvent()];
      symbols.cudaEventRecord(start, stream.handle);
      enqueue();
      symbols.cudaEventRecord(end, stream.handle);
      await stream.idle(new Deadline({ timeoutMs: 30_000 }));
      const ms = new Float32Array(1);
      const code = symbols.cudaEventElapsedTime(ms, start, end);
      if (code !== 0) throw new Error(`cudaEventElapsedTime answered ${code}`);
      symbols.cudaEventDestroy(start);
      symbols.cudaEventDestroy(end);
      return ms[0]!;
    };
    // The first of each touches memory that nothing has touched before.
    const best = { pack: Infinity, copy: Infinity };
    for (let round = 0; round <= rounds; round++) {
      const copy = await timed(() => stream.copy(other, whole, total));
      const pack = await timed(() => stream.copyBatch(copies));
      if (round === 0) continue;
      best.copy = Math.min(best.copy, copy);
      best.pack = Math.min(best.pack, pack);
    }
    runtime.free(whole, total);
    runtime.free(other, total);
    return {
      copies: copies.to.length,
      MB: total / 1e6,
      packGBps: total / best.pack / 1e6,
      copyGBps: total / best.copy / 1e6,
      packOverCopy: best.copy / best.pack,
    };
  };

  const timingEvent = (): bigint => {
    const out = new BigUint64Array(1);
    runtime.makeCurrent();
    const code = runtime.libraries.cudart.symbols.cudaEventCreateWithFlags(out, 0);
    if (code !== 0) throw new Error(`cudaEventCreateWithFlags answered ${code}`);
    return out[0]!;
  };

  await serveCommands(async (command: SpeedCommand): Promise<unknown> => {
    switch (command.op) {
      case "uniqueId":
        return runtime.createUniqueId().toBase64();
      case "join": {
        const { rank, worldSize } = command;
        const uniqueId = Uint8Array.fromBase64(command.uniqueId);
        communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs: 30_000 });
        return null;
      }
      case "prepare": {
        workload = await Workload.open(communicator, command.size);
        await Deno.writeTextFile(command.callsFile, workload.callsText());
        const { bytes, copies, operations } = workload;
        return { bytes, copies: copies.to.length, operations: operations.length } satisfies Prepared;
      }
      case "prepareIssue":
        small = workload.manySmall(SMALL_MESSAGES);
        await Deno.writeTextFile(command.callsFile, workload.callsText(small, NO_COPIES));
        return null;
      case "time":
        return await time(command.rounds);
      case "issue":
        return await issue(command.rounds);
      case "verify":
        return await workload.verify();
      case "bandwidth":
        return await bandwidth(command.rounds);
    }
  });
}
