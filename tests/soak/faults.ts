/**
 * What a round of a soak does to a transfer: one fault, on one rank, at some moment.
 *
 * @module
 */

import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import type { RedistribReport, RedistribStep, RedistributeOptions } from "../../mod.ts";
import { listen } from "../faults/moments.ts";
import { native } from "../native.ts";
import type { Arena } from "../properties/arena.ts";
import type { Roll, Transfer } from "../properties/random_plan.ts";
import { pick } from "./roll.ts";

/** How the calls of all ranks ended. */
export type Ends = PromiseSettledResult<RedistribReport>[];

/** Where a fault strikes. */
export interface Target {
  readonly arena: Arena;
  readonly transfer: Transfer;
  readonly victim: number;
  readonly roll: Roll;
}

/** One kind of round. */
export interface Kind {
  readonly name: string;
  /** Of so many rounds, compared with the other kinds. */
  readonly weight: number;
  /** Runs the transfer with the fault. */
  run(target: Target): Promise<Ends>;
  /** Whether the victim's manager is gone afterwards. */
  readonly disposes?: true;
}

/** What callers and signals give as their reason. */
export const REASON = "the user went home";

/** Far beyond what a transfer takes. */
const LONG_MS = 20_000;
/** What a transfer that something is to stop is given. */
const SHORT_MS = [20, 40, 60];

/** By function of the libraries what it may answer; `ncclCommGetAsyncError` is the state that it tells. */
const CODES: readonly [call: string, code: number][] = [
  ["ncclGroupStart", 3],
  ["ncclGroupEnd", 1],
  ["ncclSend", 2],
  ["ncclRecv", 3],
  ["ncclBroadcast", 4],
  ["ncclAllGather", 2],
  ["ncclCommGetAsyncError", 2],
  ["ncclCommGetAsyncError", 6],
  ["cudaEventRecord", 700],
  ["cudaEventQuery", 700],
  ["cudaStreamQuery", 700],
  ["cudaStreamWaitEvent", 700],
  ["cudaMemcpyAsync", 700],
  ["cudaMemcpyAsyncToHost", 700],
  ["cudaMalloc", 2],
];

/** Does something at a random moment on the victim. */
function atSomeMoment({ arena, victim, roll }: Target, strike: () => void | Promise<void>): void {
  let left = roll(9);
  listen(arena.runtimes[victim]!, () => left-- === 0 ? strike() : undefined);
}

/** Runs the transfer on all ranks; `own` are the victim's options and plan. */
function run(
  { arena, transfer, victim, roll }: Target,
  timeoutMs: number,
  own: { plan?: RedistribStep[]; options?: RedistributeOptions } = {},
): Promise<Ends> {
  const verify = roll(3) === 0;
  const meta = transfer.batch.meta();
  return Promise.allSettled(
    arena.managers.map((manager, rank) =>
      manager.redistribute(meta, rank === victim ? own.plan ?? transfer.plan : transfer.plan, {
        timeoutMs,
        verify,
        ...(rank === victim ? own.options : {}),
      })
    ),
  );
}

async function withRules(rules: string, running: () => Promise<Ends>): Promise<Ends> {
  setCpuFaults(native.cpu!, rules);
  try {
    return await running();
  } finally {
    setCpuFaults(native.cpu!, "");
  }
}

/** All kinds of rounds within one process. */
export const KINDS: readonly Kind[] = [
  { name: "no fault", weight: 40, run: (target) => run(target, LONG_MS) },
  {
    name: "a call fails",
    weight: 14,
    run(target) {
      const [call, code] = pick(target.roll, CODES);
      atSomeMoment(target, () => target.arena.runtimes[target.victim]!.arm(call, { code }));
      // Whoever waits for a rank that failed gives up at its deadline.
      return run(target, pick(target.roll, SHORT_MS));
    },
  },
  {
    name: "a stream stalls",
    weight: 4,
    run: (target) =>
      withRules(
        `group@${target.victim}:${1 + target.roll(6)}=hang`,
        () => run(target, pick(target.roll, SHORT_MS)),
      ),
  },
  {
    name: "a link drops",
    weight: 4,
    run: (target) =>
      withRules(
        `*>${target.victim}:${pick(target.roll, ["1", "2", "3", "8", "1B", "500B", "5000B"])}=hang`,
        () => run(target, pick(target.roll, SHORT_MS)),
      ),
  },
  {
    name: "a link is slow",
    weight: 4,
    run: (target) =>
      withRules(
        `*>${target.victim}:${pick(target.roll, ["*=delay 2", "*=rate 3000000", "20%=delay 5"])}`,
        () => run(target, LONG_MS),
      ),
  },
  {
    name: "a group or message fails",
    weight: 4,
    run: (target) =>
      withRules(
        `${pick(target.roll, ["group@", "*>"])}${target.victim}:${1 + target.roll(6)}=ncclSystemError`,
        () => run(target, pick(target.roll, SHORT_MS)),
      ),
  },
  {
    name: "a signal fires",
    weight: 7,
    run(target) {
      const controller = new AbortController();
      atSomeMoment(target, () => controller.abort(new Error(REASON)));
      return run(target, pick(target.roll, SHORT_MS), { options: { signal: controller.signal } });
    },
  },
  {
    name: "a rank is held beyond its deadline",
    weight: 3,
    run(target) {
      const ms = pick(target.roll, SHORT_MS);
      atSomeMoment(target, () => new Promise((resolve) => setTimeout(resolve, 1.5 * ms)));
      return run(target, ms);
    },
  },
  {
    name: "a caller throws",
    weight: 3,
    run: (target) =>
      run(target, pick(target.roll, SHORT_MS), {
        options: {
          onProgress: () => {
            throw new Error(REASON);
          },
        },
      }),
  },
  {
    name: "a rank is absent",
    weight: 2,
    run: ({ arena, transfer, victim, roll }) => {
      const meta = transfer.batch.meta();
      const timeoutMs = pick(roll, SHORT_MS);
      return Promise.allSettled(
        arena.managers.map((manager, rank) =>
          rank === victim ? Promise.reject(new Error(REASON)) : manager.redistribute(meta, transfer.plan, { timeoutMs })
        ),
      );
    },
  },
  {
    name: "a plan differs",
    weight: 4,
    run(target) {
      const { transfer: { plan }, roll } = target;
      const other = pick(roll, [
        [],
        plan.slice(1),
        [...plan, ...plan],
        plan.map((step) => ({ ...step, keys: [...step.keys, "nothing"] })),
        plan.map((step) => ({ ...step, root: 99 })),
      ]) as RedistribStep[];
      return run(target, LONG_MS, { plan: other });
    },
  },
  {
    name: "an id is missing",
    weight: 3,
    run(target) {
      const { arena, victim, roll } = target;
      const { ids } = arena.managers[victim]!;
      if (ids.length > 0) arena.managers[victim]!.remove([pick(roll, ids)]);
      return run(target, LONG_MS);
    },
  },
  {
    name: "the device is full",
    weight: 4,
    run: (target) =>
      withRules(
        `${pick(target.roll, ["memory", `memory@${target.victim}`])}:${pick(target.roll, [0, 512, 4096])}B=2`,
        () => run(target, LONG_MS),
      ),
  },
  {
    name: "a rank is disposed",
    weight: 4,
    disposes: true,
    async run(target) {
      const { arena, victim } = target;
      const manager = arena.managers[victim]!;
      let ending: Promise<void> | undefined;
      atSomeMoment(target, () => void (ending ??= manager[Symbol.asyncDispose]()));
      const ends = await run(target, pick(target.roll, SHORT_MS));
      await (ending ?? manager[Symbol.asyncDispose]());
      return ends;
    },
  },
];
