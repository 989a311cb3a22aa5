/**
 * Several ranks in processes of their own, on one device or on several.
 *
 * @module
 */

import { CAPABILITIES } from "../../ffi/capabilities.ts";
import {
  GlobalStorageTracker,
  parseLayouts,
  RedistribPlanner,
  type RedistribStep,
  type SequenceSample,
} from "../../mod.ts";
import { type Checks, expect, Missed, type Numbers, Skip } from "./check.ts";
import { PeerProcess } from "./peer_process.ts";
import type { Place } from "./place.ts";
import type { Answer } from "./protocol.ts";
import type { Command } from "./rank.ts";

/** From 2.30.3 on NCCL lets ranks share a device, where it is told to; with few thread blocks each, or they do not fit side by side. */
export const SHARING: Readonly<Record<string, string>> = {
  NCCL_MULTI_RANK_GPU_ENABLE: "1",
  NCCL_MIN_CTAS: "1",
  NCCL_MAX_CTAS: "2",
};

/** What NCCL says where it does not let ranks share a device: before 2.30, and from then on. */
export const SHARED_DEVICE = /Duplicate GPU|Multiple Ranks are using the same GPU/;

/** Why an older NCCL cannot have two ranks on a device. */
export function refusal({ nccl }: Place): string {
  return `NCCL ${nccl.text} refuses two ranks on one device; 2.30.3 and later take them`;
}

/** Ranks in processes of their own, and where each is. */
export interface Arrangement {
  /** What the report calls it. */
  readonly group: string;
  readonly worldSize: number;
  deviceOf(rank: number): number;
  /** The environment of the ranks. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether it takes luck: NCCL promises two ranks on a device, and where more do not fit they hang. */
  readonly mayNotFit: boolean;
  /** Why it cannot be had here. */
  readonly lacking: string | null;
}

/** All arrangements: several ranks on one device, and on several; with `quick` two ranks at most. */
export function arrangements(place: Place, quick: boolean): Arrangement[] {
  const { backend, nccl, devices, env } = place;
  const cuda = backend === "cuda";
  const shared = (quick ? [2] : [2, 4]).map((worldSize): Arrangement => ({
    group: `${worldSize} ranks on one device`,
    worldSize,
    deviceOf: () => 0,
    env: cuda ? { ...env, ...SHARING } : env,
    mayNotFit: cuda && worldSize > 2,
    lacking: cuda && nccl.version < CAPABILITIES.multiRankGpu.since ? refusal(place) : null,
  }));
  const worldSize = devices >= 4 && !quick ? 4 : 2;
  return [...shared, {
    group: `${worldSize} ranks on ${worldSize} devices`,
    worldSize,
    deviceOf: (rank) => rank,
    env,
    mayNotFit: false,
    lacking: devices < 2 ? `there is ${devices === 1 ? "one device" : "no device"}` : null,
  }];
}

/** Makes the checks. */
export async function checkManyRanks(
  checks: Checks,
  place: Place,
  batch: SequenceSample,
  quick: boolean,
): Promise<void> {
  for (const arrangement of arrangements(place, quick)) {
    const { group, worldSize, lacking } = arrangement;
    const move = moveOf(batch, worldSize);
    const open = () => {
      if (lacking !== null) throw new Skip(lacking);
      return Ranks.open(place.backend, arrangement);
    };
    await checks.run(group, "rollouts move between layouts, bit for bit", async () => {
      await using ranks = await open();
      return await ranks.moveOnce(move);
    });
    await checks.run(group, "a rank killed in the middle: the others end, are rebuilt, and move all", async () => {
      await using ranks = await open();
      return await ranks.loseOne(move);
    });
  }
}

/** Who has what, who is to have what, and the plan. */
interface Move {
  readonly plan: RedistribStep[];
  readonly before: ReadonlyMap<number, string[]>;
  readonly after: ReadonlyMap<number, string[]>;
}

/** All ranks generate; then pairs of ranks share the ids. */
function moveOf(batch: SequenceSample, worldSize: number): Move {
  const layout = parseLayouts(`actor=pp1,dp${worldSize},tp1 critic=pp1,dp${worldSize / 2},tp2`);
  const tracker = new GlobalStorageTracker(worldSize);
  const share = (part: number, parts: number) => batch.ids.filter((_, i) => i % parts === part);
  const [before, after] = [new Map<number, string[]>(), new Map<number, string[]>()];
  for (let rank = 0; rank < worldSize; rank++) {
    before.set(rank, share(rank, worldSize));
    for (const key of batch.keys) tracker.addData(rank, before.get(rank)!, key, true);
  }
  for (let data = 0; data < worldSize / 2; data++) {
    for (const rank of layout.ranksOf("critic/0", { data })) after.set(rank, share(data, worldSize / 2));
  }
  const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(after, batch.keys, "gather-scatter");
  return { plan, before, after };
}

/** How long the ranks may take to find each other, and a transfer to come through, in milliseconds. */
const PATIENCE_MS = 30_000;
/** How long the survivors of a killed rank wait for it, in milliseconds: over NVLink and shared memory nothing reports its death. */
const LOSS_TIMEOUT_MS = 8_000;

/** The ranks' processes, joined. */
class Ranks implements AsyncDisposable {
  readonly #arrangement: Arrangement;
  readonly #start: (rank: number) => PeerProcess<Command>;
  readonly #processes: PeerProcess<Command>[];

  private constructor(backend: "cuda" | "cpu", arrangement: Arrangement) {
    this.#arrangement = arrangement;
    const { worldSize, env } = arrangement;
    this.#start = (rank) =>
      PeerProcess.deno(`rank ${rank}`, "rank.ts", [backend, String(arrangement.deviceOf(rank))], env);
    this.#processes = Array.from({ length: worldSize }, (_, rank) => this.#start(rank));
  }

  static async open(backend: "cuda" | "cpu", arrangement: Arrangement): Promise<Ranks> {
    const ranks = new Ranks(backend, arrangement);
    try {
      const uniqueId = await ranks.#uniqueId();
      await ranks.#must((rank) => ranks.#join(rank, uniqueId));
      return ranks;
    } catch (error) {
      await ranks[Symbol.asyncDispose]();
      throw error;
    }
  }

  #join(rank: number, uniqueId: string): Command {
    return { op: "join", uniqueId, rank, worldSize: this.#arrangement.worldSize, timeoutMs: PATIENCE_MS };
  }

  async moveOnce({ plan, before, after }: Move): Promise<Numbers> {
    await this.#must((rank) => ({ op: "store", ids: before.get(rank)! }));
    const moved = await this.#must(() => ({ op: "redistribute", plan, timeoutMs: PATIENCE_MS }));
    const checked = await this.#must((rank) => ({ op: "check", ids: after.get(rank) ?? [] }));
    await this.#must(() => ({ op: "end" }));
    const sum = (answers: readonly Answer[]) => answers.reduce((total, { ok }) => total + (ok as number), 0);
    return {
      receivedMiB: sum(moved) / 2 ** 20,
      comparedMiB: sum(checked) / 2 ** 20,
      slowestMs: Math.max(...moved.map(({ ms }) => ms)),
    };
  }

  async loseOne({ plan, before, after }: Move): Promise<Numbers> {
    const lost = this.#processes.length - 1;
    const timeoutMs = LOSS_TIMEOUT_MS;
    await this.#must((rank) => ({ op: "store", ids: before.get(rank)! }));
    const ends = await this.#tell((rank) => ({
      op: "redistribute",
      plan,
      timeoutMs,
      ...rank === lost ? { dieInPhase: 0 } : {},
    }));
    const survivors = ends.filter((_, rank) => rank !== lost);
    for (const [rank, end] of survivors.entries()) {
      expect(end !== null, `rank ${rank} ended with the one that was killed`);
      const name = end.error?.name ?? "no error";
      expect(
        ["PeerLostError", "DeadlineError"].includes(name),
        `rank ${rank} ended with ${name}: ${end.error?.message}`,
      );
    }
    expect(ends[lost] === null, `rank ${lost} was not killed`);
    await this.#processes[lost]![Symbol.asyncDispose]();
    this.#processes[lost] = this.#start(lost);
    const uniqueId = await this.#uniqueId();
    const started = performance.now();
    await this.#must((rank) => rank === lost ? this.#join(rank, uniqueId) : { op: "rebuild", uniqueId });
    const rebuildMs = performance.now() - started;
    // What the survivors hold is as it was before the transfer.
    await this.#must((rank) => ({ op: "check", ids: rank === lost ? [] : before.get(rank)! }));
    await this.#must((rank) => ({ op: "store", ids: before.get(rank)! }));
    await this.#must(() => ({ op: "redistribute", plan, timeoutMs: PATIENCE_MS }));
    await this.#must((rank) => ({ op: "check", ids: after.get(rank) ?? [] }));
    await this.#must(() => ({ op: "end" }));
    const untilErrorMs = Math.max(...survivors.map((end) => end!.ms));
    const byDeadline = survivors.filter((end) => end!.error?.name === "DeadlineError").map((end) =>
      end!.ms - timeoutMs
    );
    return {
      untilErrorMs,
      // What came after the deadline is the abort.
      ...byDeadline.length === 0 ? {} : { abortMs: Math.max(...byDeadline) },
      rebuildMs,
    };
  }

  #uniqueId(): Promise<string> {
    return this.#processes[0]!.must<string>({ op: "uniqueId" });
  }

  #tell(command: (rank: number) => Command): Promise<(Answer | null)[]> {
    return Promise.all(this.#processes.map((process, rank) => process.tell(command(rank))));
  }

  async #must(command: (rank: number) => Command): Promise<Answer[]> {
    const answers = await this.#tell(command);
    for (const [rank, answer] of answers.entries()) {
      if (answer === null) throw await this.#processes[rank]!.endedError();
      if (answer.error === undefined) continue;
      const { name, message } = answer.error;
      const { group, mayNotFit } = this.#arrangement;
      // An older NCCL, or one that was not told, refuses ranks that share a device.
      if (SHARED_DEVICE.test(message)) throw new Skip(message);
      if (mayNotFit && (name === "DeadlineError" || name === "NcclError")) {
        throw new Skip(`${group} do not fit side by side: ${message}`);
      }
      throw new Missed(`rank ${rank}, ${command(rank).op}: ${name}: ${message}`);
    }
    return answers as Answer[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((process) => process[Symbol.asyncDispose]()));
  }
}
