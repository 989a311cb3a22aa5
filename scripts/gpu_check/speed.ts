/**
 * Speed: what seqferry takes for a phase over what C takes for the same calls of CUDA and NCCL, and over what torch.distributed takes for the same messages.
 *
 * @module
 */

import type { Size } from "../bench/cases.ts";
import { compileCalls } from "./c_program.ts";
import { type Checks, expect, median, type Numbers, Skip } from "./check.ts";
import { requirePython } from "./handover.ts";
import { type Arrangement, arrangements, SHARED_DEVICE } from "./many_ranks.ts";
import { PeerProcess, runToEnd } from "./peer_process.ts";
import type { Place } from "./place.ts";
import type { Prepared, SpeedCommand } from "./speed_rank.ts";

/** How much longer than C seqferry may take: host work weighs most where there is little to move. Judged on a GPU alone, and not with `quick`. */
const MOST_OVER_C: Readonly<Partial<Record<Size, number>>> = { S: 1.3, L: 1.05 };
/** Rounds of a block; the sides take turns, block by block, for a machine's speed changes while it is measured. */
const ROUNDS: Readonly<Record<Size, number>> = { S: 100, M: 20, L: 5 };
const BLOCKS = 7;
/** Rounds before the first block: until the compiler of JavaScript has done its part, and the connections are there. */
const WARM_UP: Readonly<Record<Size, number>> = { S: 300, M: 30, L: 3 };

/** Makes the checks against C. With `quick` the sizes are S and M, and the blocks few. */
export async function checkSpeed(checks: Checks, place: Place, quick: boolean): Promise<void> {
  const sizes = sizesOf(quick);
  await inFolder(async (folder) => {
    for (const arrangement of arrangementsOf(place)) {
      const group = `speed, ${arrangement.group}`;
      for (const size of sizes) {
        await checks.run(group, `${size}: the same calls of CUDA and NCCL by C`, async () => {
          requirePlace(arrangement);
          const program = await compileCalls(folder);
          await using ours = await Side.seqferry(place.backend, arrangement, size, folder);
          await using theirs = await Side.c(program, place, arrangement, folder);
          const numbers = await compare(ours, theirs, size, quick, "c");
          const most = MOST_OVER_C[size];
          if (place.backend === "cuda" && !quick && most !== undefined) {
            expect(numbers["ratio"]! <= most, `seqferry takes more than ${most} times as long as C`, numbers);
          }
          return numbers;
        });
      }
      if (arrangement.worldSize > 1) continue;
      await checks.run(group, "host time of one ncclSend or ncclRecv", async () => {
        const program = await compileCalls(folder);
        await using ours = await Side.seqferry(place.backend, arrangement, "S", folder);
        await ours.prepareIssue(folder);
        await using theirs = await Side.c(program, place, arrangement, folder);
        const rounds = quick ? 20 : 200;
        // Until the compiler of JavaScript has done its part.
        await ours.rounds("issue", rounds);
        const seqferryNs = median(await ours.rounds("issue", rounds));
        return { seqferryNs, cNs: median(await theirs.rounds("issue", rounds)) };
      });
      await checks.run(group, "bandwidth of packing, over that of one large copy", async () => {
        await using ours = await Side.seqferry(place.backend, arrangement, sizes[1]!, folder);
        return await ours.bandwidth(quick ? 3 : 10);
      });
    }
  });
}

/** Makes the checks against torch. */
export async function checkTorch(checks: Checks, place: Place, quick: boolean): Promise<void> {
  await inFolder(async (folder) => {
    for (const arrangement of arrangementsOf(place)) {
      for (const size of sizesOf(quick)) {
        await checks.run(`torch, ${arrangement.group}`, `${size}: the same messages by torch.distributed`, async () => {
          requirePlace(arrangement);
          await requireTorch(place.backend);
          await using ours = await Side.seqferry(place.backend, arrangement, size, folder);
          await using theirs = await Side.torch(place, arrangement, folder);
          return await compare(ours, theirs, size, quick, "torch");
        });
      }
    }
  });
}

function sizesOf(quick: boolean): readonly Size[] {
  return quick ? ["S", "M"] : ["S", "L"];
}

/** One rank, and two: on a device each where there are two, else on one. */
function arrangementsOf(place: Place): Arrangement[] {
  const { backend, devices, env } = place;
  const plain = { deviceOf: (rank: number) => rank, env, mayNotFit: false, lacking: null };
  const two = backend === "cuda" && devices >= 2
    ? { ...plain, group: "2 ranks on 2 devices", worldSize: 2 }
    : arrangements(place, true)[0]!;
  return [{ ...plain, group: "1 rank", worldSize: 1 }, two];
}

function requirePlace({ lacking }: Arrangement): void {
  if (lacking !== null) throw new Skip(lacking);
}

/** Runs with a folder that is there as long as it runs. */
async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "gpu-check-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Takes turns with the other side; answers the median times and the median of the blocks' ratios. */
async function compare(ours: Side, theirs: Side, size: Size, quick: boolean, other: "c" | "torch"): Promise<Numbers> {
  const scale = quick ? 0.2 : 1;
  const rounds = Math.max(2, Math.round(ROUNDS[size] * scale));
  const warmUp = Math.max(2, Math.round(WARM_UP[size] * scale));
  await ours.rounds("time", warmUp);
  await theirs.rounds("time", Math.max(2, warmUp >> 2));
  const blocks: { ours: number; theirs: number }[] = [];
  for (let block = 0; block < (quick ? 3 : BLOCKS); block++) {
    const times = { ours: 0, theirs: 0 };
    const sides = [["ours", ours], ["theirs", theirs]] as const;
    for (const [name, side] of block % 2 === 0 ? sides : sides.toReversed()) {
      times[name] = median(await side.rounds("time", rounds));
    }
    blocks.push(times);
  }
  const compared = await ours.verify();
  const { bytes, copies, operations } = ours.prepared;
  expect(compared > 0, "nothing was compared");
  const seqferryMs = median(blocks.map(({ ours }) => ours));
  return {
    ratio: median(blocks.map(({ ours, theirs }) => ours / theirs)),
    seqferryMs,
    [`${other}Ms`]: median(blocks.map(({ theirs }) => theirs)),
    MB: bytes / 1e6,
    GBps: bytes / seqferryMs / 1e6,
    copies,
    operations,
  };
}

/** Throws a {@linkcode Skip} where there is no torch that can take part. */
async function requireTorch(backend: "cuda" | "cpu"): Promise<void> {
  await requirePython();
  const available = backend === "cuda"
    ? "torch.cuda.is_available() and torch.distributed.is_nccl_available()"
    : "torch.distributed.is_gloo_available()";
  const program = `import torch, torch.distributed; print(${available})`;
  const found = await runToEnd("python3", ["-c", program], { timeoutMs: 60_000 });
  if (!found.success) throw new Skip("there is no torch");
  if (found.stdout.trim() !== "True") throw new Skip(`torch has no ${backend === "cuda" ? "CUDA with NCCL" : "gloo"}`);
}

let files = 0;

/** The ranks of one side: seqferry's, C's or torch's. */
class Side implements AsyncDisposable {
  /** What a round is; of rank 0. */
  prepared: Prepared = { bytes: 0, copies: 0, operations: 0 };
  readonly #arrangement: Arrangement;
  readonly #ranks: PeerProcess<unknown>[];
  readonly #isSeqferry: boolean;

  private constructor(arrangement: Arrangement, isSeqferry: boolean, start: (rank: number) => PeerProcess<unknown>) {
    this.#arrangement = arrangement;
    this.#isSeqferry = isSeqferry;
    this.#ranks = Array.from({ length: arrangement.worldSize }, (_, rank) => start(rank));
  }

  /** seqferry's ranks, which also write the calls that the others read. */
  static async seqferry(backend: "cuda" | "cpu", arrangement: Arrangement, size: Size, folder: string): Promise<Side> {
    const { worldSize, deviceOf, env } = arrangement;
    const side = new Side(
      arrangement,
      true,
      (rank) => PeerProcess.deno(`rank ${rank}`, "speed_rank.ts", [backend, String(deviceOf(rank))], env),
    );
    return await side.#opened(async () => {
      const uniqueId = await side.#ranks[0]!.must<string>({ op: "uniqueId" } satisfies SpeedCommand);
      await side.#all((rank): SpeedCommand => ({ op: "join", uniqueId, rank, worldSize }));
      const prepared = await side.#all<Prepared>((rank): SpeedCommand => {
        return { op: "prepare", size, callsFile: callsFile(folder, rank) };
      });
      side.prepared = prepared[0]!;
    });
  }

  /** C's. */
  static async c(program: string, place: Place, arrangement: Arrangement, folder: string): Promise<Side> {
    const { worldSize, deviceOf, env } = arrangement;
    const side = new Side(arrangement, false, (rank) => {
      const numbers = [deviceOf(rank), rank, worldSize].map(String);
      const args = [place.cudart.path, place.nccl.path, ...numbers, callsFile(folder, rank)];
      return new PeerProcess(`C's rank ${rank}`, program, args, env);
    });
    return await side.#opened(async () => {
      const id = await side.#ranks[0]!.must<string>("id");
      await side.#all(() => `join ${id}`);
    });
  }

  /** torch's. */
  static async torch({ backend }: Place, arrangement: Arrangement, folder: string): Promise<Side> {
    const { worldSize, deviceOf, env } = arrangement;
    const meeting = `${folder}/meeting-${files++}`;
    const script = new URL("torch_plan.py", import.meta.url).pathname;
    const side = new Side(arrangement, false, (rank) => {
      const numbers = [deviceOf(rank), rank, worldSize].map(String);
      const args = ["-B", script, backend, ...numbers, meeting, callsFile(folder, rank)];
      return new PeerProcess(`torch's rank ${rank}`, "python3", args, env);
    });
    return await side.#opened(async () => {
      await side.#all(() => "time 1");
    });
  }

  /** Runs rounds on all ranks; answers the longest of each round. */
  async rounds(op: "time" | "issue", rounds: number): Promise<number[]> {
    const times = await this.#all<number[]>(() => this.#isSeqferry ? { op, rounds } : `${op} ${rounds}`);
    return Array.from({ length: rounds }, (_, i) => Math.max(...times.map((each) => each[i]!)));
  }

  /** seqferry's alone: the calls for `issue`, here and in the file for the others. */
  async prepareIssue(folder: string): Promise<void> {
    await this.#all((rank): SpeedCommand => ({ op: "prepareIssue", callsFile: callsFile(folder, rank) }));
  }

  /** seqferry's alone: compares what arrived on every rank. */
  async verify(): Promise<number> {
    const compared = await this.#all<number>((): SpeedCommand => ({ op: "verify" }));
    return compared.reduce((sum, bytes) => sum + bytes);
  }

  /** seqferry's alone: how fast the first rank's device packs. */
  bandwidth(rounds: number): Promise<Numbers> {
    return this.#ranks[0]!.must<Numbers>({ op: "bandwidth", rounds } satisfies SpeedCommand);
  }

  async #opened(open: () => Promise<void>): Promise<this> {
    try {
      await open();
      return this;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      const { message } = error as Error;
      if (SHARED_DEVICE.test(message)) throw new Skip(`${this.#arrangement.group}: ${message}`);
      throw error;
    }
  }

  /** Tells all ranks, and throws the first error of any. */
  async #all<Result = null>(command: (rank: number) => unknown): Promise<Result[]> {
    const settled = await Promise.allSettled(
      this.#ranks.map((process, rank) => process.must<Result>(command(rank))),
    );
    return settled.map((each) => {
      if (each.status === "rejected") throw each.reason;
      return each.value;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#ranks.map((process) => process[Symbol.asyncDispose]()));
  }
}

/** Where a rank's calls are. */
function callsFile(folder: string, rank: number): string {
  return `${folder}/calls-${rank}.txt`;
}
