/**
 * Managers that run one random transfer after another, checked to the byte each time.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  Catalogue,
  type ClusterLayout,
  Communicator,
  DataManager,
  lowerPlan,
  type RedistribReport,
  type RedistributeOptions,
  type SequenceSample,
} from "../../mod.ts";
import { FaultyRuntime } from "../faults/faulty.ts";
import { listen } from "../faults/moments.ts";
import type { Transfer } from "./random_plan.ts";

/** Where messages may begin, in bytes: what one may take beyond its own. */
const ALIGNMENT = 256;

/** Ranks in one process. */
export class Arena implements AsyncDisposable {
  readonly runtimes: readonly FaultyRuntime[];
  managers: DataManager[] = [];
  readonly #layout: ClusterLayout | undefined;

  /** Opens the runtimes, and nothing else. */
  constructor(worldSize: number, layout?: ClusterLayout) {
    this.#layout = layout;
    this.runtimes = Array.from({ length: worldSize }, () => new FaultyRuntime());
  }

  /** With a layout the managers set up its replica groups. */
  static async open(worldSize: number, layout?: ClusterLayout): Promise<Arena> {
    const arena = new Arena(worldSize, layout);
    await arena.join();
    return arena;
  }

  /** All ranks join, and make their managers; all of them or none. */
  async join(timeoutMs = 20_000): Promise<void> {
    const uniqueId = this.runtimes[0]!.createUniqueId();
    const worldSize = this.runtimes.length;
    const joining = await Promise.allSettled(this.runtimes.map(async (runtime, rank) => {
      const communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs });
      try {
        return await this.#manage(communicator);
      } catch (error) {
        await communicator[Symbol.asyncDispose]();
        throw error;
      }
    }));
    const managers = joining.flatMap((end) => end.status === "fulfilled" ? [end.value] : []);
    const failed = joining.find((end) => end.status === "rejected");
    if (failed !== undefined) {
      await Promise.all(managers.map((manager) => manager[Symbol.asyncDispose]()));
      throw failed.reason;
    }
    this.managers = managers;
    await Promise.all(this.managers.map((manager) => manager.setupProcessGroups()));
  }

  #manage(communicator: Communicator): Promise<DataManager> {
    const layout = this.#layout;
    return DataManager.create({ communicator, rehearse: false, ...(layout === undefined ? {} : { layout }) });
  }

  /** Disposes the managers; the runtimes stay. */
  async part(): Promise<void> {
    await Promise.all(this.managers.map((manager) => manager[Symbol.asyncDispose]()));
    this.managers = [];
  }

  /** Rebuilds; the rank `anew`, where one is named, was disposed and takes part as one that starts anew, empty. */
  async rebuild(anew: number | null = null): Promise<void> {
    const uniqueId = this.runtimes[0]!.createUniqueId();
    await Promise.all(this.managers.map(async (manager, rank) => {
      if (rank !== anew) return await manager.rebuild({ uniqueId, timeoutMs: 20_000 });
      const worldSize = this.runtimes.length;
      this.managers[rank] = await this.#manage(
        await Communicator.init(this.runtimes[rank]!, { uniqueId, rank, worldSize, timeoutMs: 20_000 }),
      );
    }));
  }

  /** Stores what the ranks, or one of them, have before. */
  load({ before, batch }: Transfer, only?: number): void {
    const parts = partsOf(batch);
    for (const [rank, stored] of before.entries()) {
      if (only !== undefined && rank !== only) continue;
      for (const [id, keys] of stored) this.managers[rank]!.store(parts.get(id)!.select(keys));
    }
  }

  run({ batch, plan }: Transfer, options: RedistributeOptions = {}): Promise<PromiseSettledResult<RedistribReport>[]> {
    return Promise.allSettled(this.managers.map((manager) => manager.redistribute(batch.meta(), plan, options)));
  }

  /** Every rank but `except` holds just these items, every byte of them. */
  async assertHolds(
    batch: SequenceSample,
    expected: readonly ReadonlyMap<string, Iterable<string>>[],
    except: number | null = null,
  ): Promise<void> {
    const parts = partsOf(batch);
    for (const [rank, manager] of this.managers.entries()) {
      if (rank === except) continue;
      const items = [...expected[rank]!].filter(([, keys]) => [...keys].length > 0);
      assertEquals(manager.ids.sort(), items.map(([id]) => id).sort(), `rank ${rank}`);
      for (const [id, keys] of items) {
        const { data, keys: found, seqlens } = await manager.get(id).toHost();
        const part = parts.get(id)!;
        assertEquals([...found].sort(), [...keys].sort(), `rank ${rank}, id ${id}`);
        for (const key of keys) {
          assertEquals(data![key], part.data![key], `rank ${rank}, id ${id}, key ${key}`);
          assertEquals(seqlens[key], part.seqlens[key]);
        }
      }
    }
  }

  /**
   * Runs a transfer and checks what it promised: who holds what, bytes sent and received, and that no rank ever held more than what it had, the peak
   * that its program states, and the alignment of what arrives.
   */
  async assertRuns(transfer: Transfer, options: RedistributeOptions = {}): Promise<void> {
    const { batch, plan, after, worldSize } = transfer;
    this.load(transfer);
    const catalogue = new Catalogue(batch.meta());
    const stored = this.runtimes.map((runtime) => runtime.liveBytes);
    const most = [...stored];
    for (const [rank, runtime] of this.runtimes.entries()) {
      runtime.mostBytes = runtime.liveBytes;
      // What compacts the storage afterwards is no part of the transfer.
      listen(runtime, (moment) => {
        if (moment === "after the commit") most[rank] = runtime.mostBytes;
      });
    }
    const ends = await this.run(transfer, options);
    for (const runtime of this.runtimes) listen(runtime, null);
    for (const [rank, end] of ends.entries()) {
      assert(end.status === "fulfilled", `rank ${rank}: ${(end as PromiseRejectedResult).reason}`);
      const program = lowerPlan(plan, catalogue, rank, { worldSize });
      const messages = program.phases.reduce((total, { sends, receives }) => total + sends.length + receives.length, 0);
      const { bytesSent, bytesReceived } = end.value;
      assertEquals([bytesSent, bytesReceived], [program.bytesSent, program.bytesReceived]);
      const used = most[rank]! - stored[rank]!;
      const allowed = program.peakBytes + (messages + 1) * ALIGNMENT;
      assert(used <= allowed, `rank ${rank} took ${used} bytes, and was to take ${allowed} at most`);
    }
    await this.assertHolds(batch, after);
  }

  clear(): void {
    for (const manager of this.managers) manager.clearData();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.part();
    for (const runtime of this.runtimes) runtime[Symbol.dispose]();
    for (const runtime of this.runtimes) assertEquals(runtime.liveBytes, 0);
  }
}

function partsOf(batch: SequenceSample): Map<string, SequenceSample> {
  return new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
}
