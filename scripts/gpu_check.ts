/**
 * Checks seqferry on this machine's GPUs, or the same on the CPU stand-in: every way in which bytes move on one rank, the test suite at world size 1, several
 * ranks on one device and on several, speed against C and against torch.distributed, and the hand-over of tensors between processes.
 *
 * ```sh
 * deno run -A scripts/gpu_check.ts [--backend cuda|cpu] [--json FILE]
 * ```
 *
 * It takes Deno and nothing else; a C compiler, and Python with torch, are used where they are there. `docs/gpu_check.md` tells how to read what it prints.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { type CheckResult, Checks } from "./gpu_check/check.ts";
import { checkHandover } from "./gpu_check/handover.ts";
import { checkManyRanks } from "./gpu_check/many_ranks.ts";
import { checkOneRank } from "./gpu_check/one_rank.ts";
import { endProcesses } from "./gpu_check/peer_process.ts";
import { describeMachine, findPlace, LackingError, type Place } from "./gpu_check/place.ts";
import { count, headOf, lineOf, type Report, tableOf } from "./gpu_check/report.ts";
import { rollouts } from "./gpu_check/rollouts.ts";
import { checkSpeed, checkTorch } from "./gpu_check/speed.ts";
import { checkSuite } from "./gpu_check/suite.ts";

const HELP = `Checks seqferry on this machine's GPUs, or the same on the CPU stand-in.

deno run -A scripts/gpu_check.ts [flags]

  --backend cuda|cpu   cuda (the default): libcudart and libnccl on an NVIDIA GPU; cpu: the stand-in, which a C compiler builds
  --json FILE          writes what came of it to a file, too
  --only GROUPS        makes some of the checks only: one-rank, suite, many-ranks, hand-over, speed, torch, separated by commas
  --quick              makes the timings short, and leaves out four ranks: less to be trusted, and over in seconds
  --limit SECONDS      no check is begun after so long (480)
  --check-limit SECONDS  the longest time of one check (90): what takes longer is ended and has failed
  --help               this text

SEQFERRY_CUDART and SEQFERRY_NCCL name the libraries where they are not found by themselves.

Exit codes: 0 all checks held or were skipped, 1 a check failed, 2 wrong flags, 3 a library, a compiler or a device is missing, 130 and 143 a signal.
`;

/** The parts, in their order; by the names that --only takes. */
const PARTS = ["one-rank", "suite", "many-ranks", "hand-over", "speed", "torch"] as const;
type Part = typeof PARTS[number];

interface Options {
  readonly backend: "cuda" | "cpu";
  readonly json: string | undefined;
  readonly only: readonly Part[];
  readonly quick: boolean;
  readonly limitMs: number;
  readonly checkLimitMs: number;
}

/** What a person got wrong. */
class UsageError extends Error {}

function readOptions(args: readonly string[]): Options | "help" {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        backend: { type: "string", default: "cuda" },
        json: { type: "string" },
        only: { type: "string" },
        quick: { type: "boolean", default: false },
        limit: { type: "string", default: "480" },
        "check-limit": { type: "string", default: "90" },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return "help";
  const { backend, json } = values;
  if (backend !== "cuda" && backend !== "cpu") {
    throw new UsageError(`--backend is cuda or cpu, not ${JSON.stringify(backend)}`);
  }
  if (json === "") throw new UsageError("--json is the path of a file, and it is empty");
  const only = values.only?.split(",") ?? [...PARTS];
  for (const part of only) {
    if (!PARTS.includes(part as Part)) {
      throw new UsageError(`--only is a list of ${PARTS.join(", ")}, and ${JSON.stringify(part)} is none of them`);
    }
  }
  const seconds = (flag: "limit" | "check-limit") => {
    const number = Number(values[flag]);
    if (!(number > 0 && number <= 86_400)) {
      throw new UsageError(`--${flag} is a number of seconds above 0, not ${JSON.stringify(values[flag])}`);
    }
    return number * 1000;
  };
  const [limitMs, checkLimitMs] = [seconds("limit"), seconds("check-limit")];
  return { backend, json, only: only as Part[], quick: values.quick, limitMs, checkLimitMs };
}

async function main(args: readonly string[]): Promise<number> {
  let options;
  try {
    options = readOptions(args);
    if (options === "help") {
      print(HELP);
      return 0;
    }
    // Before the checks: after them a path that cannot be written would cost all of them.
    if (options.json !== undefined) Deno.writeTextFileSync(options.json, "");
  } catch (error) {
    complain(error);
    return 2;
  }
  const interrupt = new AbortController();
  const signals = [["SIGINT", 130], ["SIGTERM", 143]] as const;
  const listeners = signals.map(([signal, exitCode]) => ({
    signal,
    listener: () => {
      interrupt.abort(exitCode);
      void endProcesses();
    },
  }));
  for (const { signal, listener } of listeners) Deno.addSignalListener(signal, listener);
  try {
    return await check(options, interrupt.signal);
  } finally {
    await endProcesses();
    for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
  }
}

/** Makes the checks and tells of them; answers the exit code. */
async function check(options: Options, signal: AbortSignal): Promise<number> {
  const started = performance.now();
  const date = new Date().toISOString();
  const machine = await describeMachine();
  const results: CheckResult[] = [];
  const report = (place: Place | null, lacking = ""): Report => {
    const { env: _, ...libraries } = place ?? { env: {} };
    return {
      format: "gpu_check/1",
      date,
      backend: options.backend,
      machine,
      libraries: place === null ? null : libraries as Report["libraries"],
      lacking,
      checks: results,
      ok: count(results, "ok"),
      failed: count(results, "failed"),
      skipped: count(results, "skipped"),
      interrupted: signal.aborted,
      seconds: (performance.now() - started) / 1000,
    };
  };
  const save = (report: Report) => {
    if (options.json !== undefined) Deno.writeTextFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  };
  let place: Place;
  try {
    place = await withinLimit(findPlace(options.backend), options.checkLimitMs);
  } catch (error) {
    save(report(null, (error as Error).message));
    if (signal.aborted) return signal.reason;
    complain(error);
    return error instanceof LackingError ? 3 : 1;
  }
  print(`${headOf(machine, place)}\n`);
  const checks = new Checks({
    tell: (result) => {
      results.push(result);
      print(lineOf(result));
      // After each: should the machine be taken away, what came so far is there.
      save(report(place));
    },
    endProcesses,
    limitMs: options.checkLimitMs,
    until: started + options.limitMs,
    signal,
  });
  await makeAll(checks, place, options);
  const last = report(place);
  save(last);
  const { ok, failed, skipped, seconds, interrupted } = last;
  print(`\n${tableOf(results)}\n`);
  print(
    `${ok} ok, ${failed} failed, ${skipped} skipped in ${seconds.toFixed(0)} s${interrupted ? "; interrupted" : ""}\n`,
  );
  if (interrupted) return signal.reason;
  return failed === 0 ? 0 : 1;
}

async function makeAll(checks: Checks, place: Place, { only, quick }: Options): Promise<void> {
  if (only.includes("one-rank")) await checkOneRank(checks, place);
  if (only.includes("suite")) await checkSuite(checks, place);
  if (only.includes("many-ranks")) await checkManyRanks(checks, place, await rollouts(), quick);
  if (only.includes("hand-over")) await checkHandover(checks, place);
  if (only.includes("speed")) await checkSpeed(checks, place, quick);
  if (only.includes("torch")) await checkTorch(checks, place, quick);
}

/** Opening a library can hang in the driver. */
async function withinLimit<T>(wanted: Promise<T>, limitMs: number): Promise<T> {
  const timer = setTimeout(() => void endProcesses(), limitMs);
  try {
    return await wanted;
  } finally {
    clearTimeout(timer);
  }
}

function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let written = 0; written < bytes.length;) written += Deno.stdout.writeSync(bytes.subarray(written));
}

function complain(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  Deno.stderr.writeSync(new TextEncoder().encode(`gpu_check: ${text}\n`));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
