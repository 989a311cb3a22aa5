/**
 * The fault matrix within one process: every fault that needs no process of its own, on every rank, at every moment of every kind of step.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  Communicator,
  DataManager,
  type RedistribStep,
  type RedistributeOptions,
  type SequenceSample,
} from "../../mod.ts";
import { type Answer, FaultyRuntime } from "./faulty.ts";
import { type End, errorFields, judge, judgeSettled } from "./judge.ts";
import { endsInTime } from "./limit.ts";
import { listen } from "./moments.ts";
import { resources } from "./resources.ts";
import { after, layoutOf, type Scene, sceneBatch, SCENES, WORLD_SIZE } from "./scenes.ts";

/** One cell of the matrix. */
export interface Cell {
  readonly where: "one process";
  readonly name: string;
  run(): Promise<void>;
}

/** A fault at one moment on one rank. */
interface Fault {
  readonly name: string;
  /** Whether it makes sense at a moment. */
  fits(moment: string): boolean;
  /** Makes it happen. */
  strike(rank: Rank, timeoutMs: number): void | Promise<void>;
  /** Whether an error is the one that the victim should raise. */
  raises(error: NonNullable<End["error"]>): boolean;
  /** Whether it was met; that it was armed is enough unless given. */
  met?(rank: Rank): boolean;
}

interface Rank {
  readonly runtime: FaultyRuntime;
  manager: DataManager;
  controller: AbortController;
}

/** Long enough for a healthy transfer on a busy machine, short enough to be waited for hundreds of times. */
const TIMEOUT_MS = 500;
const REASON = "the user went home";

const codeFault = (call: string, code: number, fits: RegExp, says = call): Fault => ({
  name: `${call} answers ${code}`,
  fits: (moment) => fits.test(moment),
  strike: ({ runtime }) => runtime.arm(call, { code }),
  met: ({ runtime }) => runtime.hasFired(call),
  raises: ({ name, call: named, code: told }) =>
    code === 6
      ? name === "PeerLostError"
      : (name === "NcclError" || name === "CudaError") && (says === "" || named === says) && told === code,
});

const BEFORE_AGREEMENT = /^before the /;
const BEFORE_PHASE = /^before phase /;

/** The faults that strike at a moment. */
const FAULTS: readonly Fault[] = [
  {
    name: "its AbortSignal fires",
    fits: () => true,
    strike: ({ controller }) => controller.abort(new Error(REASON)),
    raises: ({ name, cause }) => name === "DeadlineError" && cause === REASON,
  },
  {
    name: "it is held beyond its deadline",
    fits: (moment) => !moment.startsWith("after phase"),
    strike: (_, timeoutMs) => new Promise((resolve) => setTimeout(resolve, timeoutMs + 200)),
    raises: ({ name }) => name === "DeadlineError" || name === "PeerLostError",
  },
  {
    name: "its caller throws",
    fits: (moment) => moment.startsWith("after phase"),
    strike: () => {
      throw new Error(REASON);
    },
    raises: ({ message }) => message === REASON,
  },
  {
    name: "its stream stalls",
    fits: (moment) => moment.startsWith("in "),
    strike: ({ runtime }) => {
      runtime.arm("cudaEventQuery", { code: 600, times: Infinity });
      runtime.arm("cudaStreamQuery", { code: 600, times: Infinity });
    },
    met: ({ runtime }) => runtime.hasFired("cudaEventQuery") || runtime.hasFired("cudaStreamQuery"),
    raises: ({ name }) => name === "DeadlineError",
  },
  codeFault("ncclGroupStart", 3, /^before /),
  codeFault("ncclGroupEnd", 1, /^before /),
  codeFault("cudaEventRecord", 700, /^before /),
  codeFault("ncclAllGather", 2, BEFORE_AGREEMENT),
  codeFault("ncclSend", 2, BEFORE_PHASE),
  codeFault("ncclRecv", 3, BEFORE_PHASE),
  codeFault("ncclBroadcast", 4, BEFORE_PHASE),
  codeFault("cudaMemcpyAsyncToHost", 700, /^in the /, "cudaMemcpyAsync"),
  codeFault("cudaEventQuery", 700, /^in /),
  codeFault("ncclCommGetAsyncError", 2, /^in /, ""),
  codeFault("ncclCommGetAsyncError", 6, /^in /, ""),
];

/** Four managers with what a scene stores on them. */
class World implements AsyncDisposable {
  readonly ranks: Rank[] = [];
  readonly batch: SequenceSample = sceneBatch();

  private constructor(readonly scene: Scene) {}

  static async open(scene: Scene): Promise<World> {
    const world = new World(scene);
    const runtimes = Array.from({ length: WORLD_SIZE }, () => new FaultyRuntime());
    const uniqueId = runtimes[0]!.createUniqueId();
    const communicators = await Promise.all(
      runtimes.map((runtime, rank) => Communicator.init(runtime, { uniqueId, rank, worldSize: WORLD_SIZE })),
    );
    for (const [rank, communicator] of communicators.entries()) {
      const manager = await DataManager.create({ communicator, rehearse: false, ...layoutOf(scene) });
      world.ranks.push({ runtime: runtimes[rank]!, manager, controller: new AbortController() });
      world.load(rank);
    }
    await Promise.all(world.ranks.map(({ manager }) => manager.setupProcessGroups()));
    return world;
  }

  /** Stores on a rank what the scene says. */
  load(rank: number): void {
    for (const sample of this.batch.unpack()) {
      if (this.scene.before[rank]!.includes(sample.ids[0]!)) this.ranks[rank]!.manager.store(sample);
    }
  }

  /** Runs the plan on all ranks but those that are absent. */
  transfer(
    options: { timeoutMs?: number; absent?: number; plan?: (rank: number) => RedistribStep[] } = {},
  ): Promise<End[]> {
    const { timeoutMs = 20_000, absent, plan = () => this.scene.plan } = options;
    return Promise.all(this.ranks.map(async ({ manager, controller: { signal } }, rank): Promise<End> => {
      const started = performance.now();
      const ms = () => performance.now() - started;
      try {
        if (rank === absent) return { error: { name: "absent", message: "" }, ms: 0 };
        const settings: RedistributeOptions = { timeoutMs, signal, verify: this.scene.verify === true };
        await manager.redistribute(this.batch.meta(), plan(rank), settings);
        return { ms: ms() };
      } catch (error) {
        return { error: errorFields(error), ms: ms() };
      }
    }));
  }

  /** By rank, the ids held, in order; every byte of them is looked at. */
  async held(): Promise<string[][]> {
    const parts = new Map(this.batch.unpack().map((sample) => [sample.ids[0]!, sample]));
    return await Promise.all(this.ranks.map(async ({ manager }) => {
      for (const id of manager.ids) assertEquals((await manager.get(id).toHost()).data, parts.get(id)!.data);
      return manager.ids.sort();
    }));
  }

  async rebuild(timeoutMs = 20_000): Promise<void> {
    const uniqueId = this.ranks[0]!.runtime.createUniqueId();
    await Promise.all(this.ranks.map(({ manager }) => manager.rebuild({ uniqueId, timeoutMs })));
  }

  /** Everything is well again: the plan runs, and everyone has what they should. */
  async assertWorks(): Promise<void> {
    for (const rank of this.ranks) {
      rank.runtime.disarm();
      rank.controller = new AbortController();
    }
    for (const { error } of await this.transfer()) assertEquals(error, undefined);
    assertEquals(await this.held(), after(this.scene));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.ranks.map(({ manager }) => manager[Symbol.asyncDispose]()));
    for (const { runtime } of this.ranks) {
      listen(runtime, null);
      runtime[Symbol.dispose]();
      assertEquals(runtime.liveBytes, 0, "device bytes that seqferry accounts for");
    }
  }
}

/** The moments of a scene on each rank, in order, found by running it. */
export async function momentsOf(scene: Scene): Promise<string[][]> {
  const moments: string[][] = Array.from({ length: WORLD_SIZE }, () => []);
  await using world = await World.open(scene);
  world.ranks.forEach(({ runtime }, rank) => listen(runtime, (moment) => void moments[rank]!.push(moment)));
  await world.assertWorks();
  return moments.map((list) => [...new Set(list)]);
}

async function strikeAt(
  scene: Scene,
  fault: Fault,
  victim: number,
  moment: string,
  timeoutMs = TIMEOUT_MS,
): Promise<void> {
  await using world = await World.open(scene);
  const rank = world.ranks[victim]!;
  let struck = false;
  listen(rank.runtime, (now) => {
    if (now !== moment || struck) return;
    struck = true;
    return fault.strike(rank, timeoutMs);
  });
  const ends = await world.transfer({ timeoutMs });
  const fired = struck && (fault.met?.(rank) ?? true);
  rank.runtime.disarm();
  listen(rank.runtime, null);
  // On a machine that had no time for this process the deadline came before the moment.
  if (!struck && timeoutMs === TIMEOUT_MS) return await strikeAt(scene, fault, victim, moment, 10 * TIMEOUT_MS);
  const held = await world.held();
  judge({ scene, victim, timeoutMs, ends, held, fired }, (error) => fault.raises(error));
  assert(struck, `${moment} never came`);
  await world.rebuild();
  judgeSettled({ scene, ends }, await world.held());
  await world.assertWorks();
}

/** Faults that all ranks learn of at the agreement: nothing has moved, and the communicator is whole. */
async function refused(
  scene: Scene,
  victim: number,
  spoil: (world: World) => ((rank: number) => RedistribStep[]) | undefined,
  reason: RegExp,
): Promise<void> {
  await using world = await World.open(scene);
  const before = await world.held();
  const plan = spoil(world);
  const spoilt = await world.held();
  const ends = await world.transfer({ timeoutMs: 10_000, ...(plan === undefined ? {} : { plan }) });
  for (const { error } of ends) {
    assertEquals(error?.name, "RedistributeRefusedError", JSON.stringify(ends));
    const refusals = error!.refusals as { rank: number; reason: string }[];
    assert(refusals.length > 0);
    for (const refusal of refusals) {
      assertEquals(refusal.rank, victim, JSON.stringify(refusals));
      assert(reason.test(refusal.reason), refusal.reason);
    }
  }
  assertEquals(await world.held(), spoilt);
  for (const id of before[victim]!.filter((id) => !spoilt[victim]!.includes(id))) {
    world.ranks[victim]!.manager.store(world.batch.unpack().find((sample) => sample.ids[0] === id)!);
  }
  await world.assertWorks();
}

async function absent(scene: Scene, victim: number): Promise<void> {
  await using world = await World.open(scene);
  const ends = await world.transfer({ timeoutMs: TIMEOUT_MS, absent: victim });
  const held = await world.held();
  judge({ scene, victim, timeoutMs: TIMEOUT_MS, ends, held, fired: true }, ({ name }) => name === "absent");
  for (const [rank, { error }] of ends.entries()) {
    if (rank === victim) continue;
    assertEquals([error?.name, error?.outstanding, error?.outcome], ["DeadlineError", [victim], "unchanged"]);
  }
  await world.rebuild();
  await world.assertWorks();
}

/** A rebuild that one rank does not take part in, or fails in, can be done again. */
async function rebuildFails(
  scene: Scene,
  victim: number,
  call: string | null,
  { code = 0, after = 0 }: Partial<Answer> = {},
): Promise<void> {
  await using world = await World.open(scene);
  const uniqueId = world.ranks[0]!.runtime.createUniqueId();
  if (call !== null) world.ranks[victim]!.runtime.arm(call, { code, after });
  const ends = await Promise.allSettled(
    world.ranks.map(({ manager }, rank) =>
      rank === victim && call === null ? Promise.resolve() : manager.rebuild({ uniqueId, timeoutMs: TIMEOUT_MS })
    ),
  );
  for (const [rank, end] of ends.entries()) {
    if (rank === victim && call === null) continue;
    // After its peers had its greeting they may be done.
    if (rank !== victim && after > 0 && end.status === "fulfilled") continue;
    assert(end.status === "rejected", `rank ${rank} rebuilt without rank ${victim}`);
    const { name } = end.reason as Error;
    if (rank === victim) assert(name === "CudaError" || name === "NcclError", `${end.reason}`);
    else assert(name === "DeadlineError" || name === "PeerLostError", `${end.reason}`);
  }
  world.ranks[victim]!.runtime.disarm();
  assertEquals(await world.held(), scene.before.map((ids) => [...ids].sort()));
  await world.rebuild();
  await world.assertWorks();
}

/** All cells, in an order of their own. */
export async function allCells(): Promise<Cell[]> {
  const cells: Omit<Cell, "where">[] = [];
  for (const scene of SCENES) {
    const moments = await momentsOf(scene);
    for (let victim = 0; victim < WORLD_SIZE; victim++) {
      const where = `${scene.name}, rank ${victim}`;
      for (const moment of moments[victim]!) {
        for (const fault of FAULTS) {
          if (!fault.fits(moment)) continue;
          cells.push({
            name: `${where}, ${moment}: ${fault.name}`,
            run: () => strikeAt(scene, fault, victim, moment),
          });
        }
      }
      cells.push({ name: `${where} is absent`, run: () => absent(scene, victim) });
      cells.push({
        name: `${where} is absent from a rebuild`,
        run: () => rebuildFails(scene, victim, null),
      });
      for (
        const [call, after] of [
          ["cudaMalloc", 0],
          ["cudaMalloc", 1],
          ["ncclCommInitRankConfig", 0],
          ["cudaStreamCreateWithFlags", 0],
          ["cudaEventCreateWithFlags", 0],
          ["cudaHostRegister", 0],
          ["cudaHostRegister", 1],
        ] as const
      ) {
        cells.push({
          name: `${where}, in a rebuild: call ${after + 1} of ${call} answers 2`,
          run: () => rebuildFails(scene, victim, call, { code: 2, after }),
        });
      }
      const other = scene.plan.map((step) => ({ ...step, keys: ["reward"] })) as RedistribStep[];
      if (scene.before[victim]!.length === 0 || victim !== 0) {
        cells.push({
          name: `${where} has another plan`,
          run: () => refused(scene, victim, () => (rank) => rank === victim ? other : scene.plan, /differ/),
        });
      }
      const sent = sentBy(scene, victim);
      if (sent !== undefined) {
        cells.push({
          name: `${where} lacks an id`,
          run: () =>
            refused(scene, victim, ({ ranks }) => {
              ranks[victim]!.manager.remove([sent]);
              return undefined;
            }, new RegExp(`"${sent}"`)),
        });
      }
      if (after(scene)[victim]!.length > scene.before[victim]!.length) {
        cells.push({
          name: `${where} is out of device memory`,
          run: () =>
            refused(scene, victim, ({ ranks }) => {
              ranks[victim]!.runtime.arm("cudaMalloc", { code: 2 });
              return undefined;
            }, /not enough device memory/),
        });
      }
    }
  }
  return cells.map((cell) => ({ where: "one process", ...cell }));
}

/** An id that a rank sends from its storage. */
function sentBy({ plan: [step], before }: Scene, rank: number): string | undefined {
  const ids = step!.commType === "gather" || step!.commType === "exchange"
    ? step!.srcs.includes(rank) ? step!.ids[step!.srcs.indexOf(rank)]! : []
    : step!.root === rank
    ? step!.ids.flat()
    : [];
  return ids.find((id) => before[rank]!.includes(id));
}

/** Runs cells, some at a time; after each lot nothing may be left on the device. Answers the failures. */
export async function runCells(
  cells: readonly Cell[],
  options: { atOnce?: number; onLot?: (done: number) => void } = {},
): Promise<{ cell: string; error: unknown }[]> {
  const { atOnce = 6, onLot } = options;
  const failures: { cell: string; error: unknown }[] = [];
  for (let start = 0; start < cells.length; start += atOnce) {
    const lot = cells.slice(start, start + atOnce);
    const before = resources();
    const ends = await Promise.allSettled(lot.map((cell) => endsInTime(cell.run())));
    ends.forEach((end, i) => {
      if (end.status === "rejected") failures.push({ cell: lot[i]!.name, error: end.reason });
    });
    // Frees come through on the thread pool.
    const end = performance.now() + 2000;
    while (JSON.stringify(resources()) !== JSON.stringify(before) && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    try {
      assertEquals(resources(), before);
    } catch (error) {
      failures.push({ cell: `left behind by ${lot.map(({ name }) => name).join(" | ")}`, error });
    }
    onLot?.(start + lot.length);
  }
  return failures;
}
