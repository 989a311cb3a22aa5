/**
 * `run`: moves real rollouts through the layouts, on worker processes of this machine, and checks every byte.
 *
 * @module
 */

import {
  type ClusterLayout,
  LayoutError,
  openRuntime,
  parseLayouts,
  type Pattern,
  PlanError,
  SequenceSample,
} from "../../mod.ts";
import { openLibraries } from "../../ffi/open.ts";
import type { Libraries } from "../../ffi/open.ts";
import { AVAILABLE_PATTERNS } from "../plan/planner.ts";
import { newToken } from "../service/auth.ts";
import { Coordinator } from "../service/coordinator.ts";
import type { Command, Flags } from "./args.ts";
import { addComparisons, type Comparison, nothingCompared, Source } from "./compare.ts";
import { DONE, FAILED } from "./exit_code.ts";
import { InputError, messageOf } from "./input_error.ts";
import { Interrupt } from "./interrupt.ts";
import { requireApart, requireWritableFile, requireWritableFolder } from "./outputs.ts";
import { print } from "./print.ts";
import { Progress, standardError } from "./progress.ts";
import { type Input, readInput } from "./read_input.ts";
import { type RunReport, type TransferReport, transferReport, transferTable, verdict } from "./run_report.ts";
import { type Cargo, type Itinerary, planStages, type Stage } from "./stages.ts";
import { bytesText, counted, secondsText } from "./units.ts";
import { VERSION } from "./version.ts";
import { WorkerProcesses } from "./worker_processes.ts";

/** A generation of rollouts on half of the ranks, a critic on the other half, and a trainer on all of them. */
export const DEFAULT_LAYOUTS = "actor=pp1,dp4,tp1 critic@4=pp1,dp2,tp2 trainer=pp2,dp2,tp2";

/** The reference's own pattern, so that what it moves and what is moved here can be compared. */
export const DEFAULT_PATTERN: Pattern = "gather-scatter";

/** Samples go to and from workers in batches of about this many bytes. */
const BATCH_BYTES = 64 * 2 ** 20;

/** The most ranks on one machine; each is a process. */
const MOST_RANKS = 512;

/** How long workers have to give up, or to end, in milliseconds. */
const GRACE_MS = 2_000;

/** How long a signal may come after the end of a worker that got the same signal, in milliseconds. */
const SIGNAL_LAG_MS = 200;

/** The command. */
export const runCommand: Command = {
  name: "run",
  summary:
    "Moves rollouts from one parallel layout to the next, on worker processes of this machine, and checks every byte.",
  flags: {
    input: {
      value: "FILE",
      help: "rollouts as JSON Lines, or a sample as .safetensors; a few rollouts of our own unless given",
    },
    layouts: { value: "TEXT", help: `the layouts in order of travel; "${DEFAULT_LAYOUTS}" unless given` },
    ranks: { value: "N", help: "the number of worker processes; the smallest that fits unless given" },
    pattern: {
      value: "P",
      help: `how plans are made: ${AVAILABLE_PATTERNS.join(", ")}; ${DEFAULT_PATTERN} unless given`,
    },
    output: { value: "DIR", help: "a folder to write what each rank ended with to, as rank-N.safetensors" },
    report: { value: "FILE", help: "a file to write the report to, as JSON" },
    seed: { value: "S", help: "what keys that the input does not hold are made from; 1 unless given" },
    verify: { help: "have the ranks check digests of what arrives, too, before it is installed" },
    timeout: {
      value: "SECONDS",
      help: "the longest that one transfer, or the start of the workers, may take; 60 unless given",
    },
    backend: { value: "B", help: "cpu, cuda or auto; auto unless given" },
  },
  run: async (flags) => {
    const settings = readSettings(flags);
    const job = await prepare(settings);
    return await new Run(settings, job).toTheEnd();
  },
};

/** The flags, read. */
interface Settings {
  readonly input: string | undefined;
  readonly layouts: string;
  readonly ranks: number | undefined;
  readonly pattern: Pattern;
  readonly output: string | undefined;
  readonly report: string | undefined;
  readonly seed: number;
  readonly verify: boolean;
  readonly timeoutMs: number;
  readonly backend: "cpu" | "cuda" | "auto";
}

/** All that can be known before a worker starts. */
interface Job {
  readonly layout: ClusterLayout;
  readonly input: Input;
  readonly source: Source;
  readonly bytesOf: ReadonlyMap<string, number>;
  readonly itinerary: Itinerary;
  readonly libraries: Libraries;
}

function readSettings(flags: Flags): Settings {
  return {
    input: flags.text("input"),
    layouts: flags.text("layouts") ?? DEFAULT_LAYOUTS,
    ranks: flags.integer("ranks", { min: 1, max: MOST_RANKS }),
    pattern: flags.oneOf("pattern", AVAILABLE_PATTERNS) ?? DEFAULT_PATTERN,
    output: flags.text("output"),
    report: flags.text("report"),
    seed: flags.integer("seed", { min: 0, max: Number.MAX_SAFE_INTEGER }) ?? 1,
    verify: flags.has("verify"),
    timeoutMs: 1000 * (flags.positive("timeout") ?? 60),
    backend: flags.oneOf("backend", ["cpu", "cuda", "auto"]) ?? "auto",
  };
}

/** Reads the layouts of a command line that is about moves. Throws an {@linkcode InputError}. */
export function readLayouts(text: string, ranks: number | undefined): ClusterLayout {
  let layout: ClusterLayout;
  try {
    layout = parseLayouts(text, ranks === undefined ? {} : { worldSize: ranks });
  } catch (error) {
    if (error instanceof LayoutError) throw new InputError("--layouts", error.message, { cause: error });
    throw error;
  }
  if (layout.models.length < 2) {
    throw new InputError(
      "--layouts",
      "there is one layout only, and a move takes two; add where the samples are to go",
    );
  }
  if (layout.worldSize > MOST_RANKS) {
    throw new InputError(
      "--layouts",
      `they take ${layout.worldSize} ranks, and ${MOST_RANKS} are the most on one machine`,
    );
  }
  return layout;
}

/** Plans the moves; what cannot be planned is bad input. */
export function readStages(layout: ClusterLayout, cargo: Cargo, pattern: Pattern): Itinerary {
  try {
    return planStages(layout, cargo, pattern);
  } catch (error) {
    if (error instanceof PlanError) throw new InputError("", error.message, { cause: error });
    throw error;
  }
}

/** Everything that can be wrong with the input is found here, before any process starts. */
async function prepare(settings: Settings): Promise<Job> {
  const layout = readLayouts(settings.layouts, settings.ranks);
  const input = await readInput(settings.input, settings.seed);
  if (settings.output !== undefined) await requireWritableFolder("--output", settings.output);
  if (settings.report !== undefined) {
    await requireWritableFile("--report", settings.report);
    if (settings.input !== undefined) await requireApart("--report", settings.report, settings.input);
  }
  const { sample } = input;
  const source = new Source(sample);
  const bytesOf = source.bytesOf();
  const cargo = { ids: sample.ids, keys: sample.keys, bytesOf, meta: sample.meta() };
  const itinerary = readStages(layout, cargo, settings.pattern);
  const libraries = await openLibraries({ backend: settings.backend });
  // A machine without a device tells so here, and not on each of the workers.
  (await openRuntime({ backend: libraries.backend }))[Symbol.dispose]();
  return { layout, input, source, bytesOf, itinerary, libraries };
}

/** One run, from the first worker's start to the last one's end. */
class Run {
  readonly #settings: Settings;
  readonly #job: Job;
  readonly #transfers: TransferReport[] = [];
  readonly #outputs: string[] = [];
  #verified: Comparison = nothingCompared;

  constructor(settings: Settings, job: Job) {
    this.#settings = settings;
    this.#job = job;
  }

  /** Returns the exit code. */
  async toTheEnd(): Promise<number> {
    const { settings, job } = { settings: this.#settings, job: this.#job };
    print(`${job.input.summary}; ${bytesText([...job.bytesOf.values()].reduce((sum, bytes) => sum + bytes, 0))}\n`);
    if (job.input.synthesizedKeys.length > 0) {
      print(
        `synthesized from seed ${settings.seed}, for the input does not hold them: ${
          job.input.synthesizedKeys.join(", ")
        }\n`,
      );
    }
    for (const note of job.input.notes) print(`${note}\n`);
    try {
      await this.#withWorkers();
    } catch (error) {
      await this.#writeReport(error).catch((unwritten) =>
        standardError.write(`the report was not written: ${messageOf(unwritten)}\n`)
      );
      throw error;
    }
    print(`\n${transferTable(this.#transfers)}\n${verdict(this.#verified, job.layout.worldSize)}`);
    for (const output of this.#outputs) print(`wrote ${output}\n`);
    await this.#writeReport(null);
    return this.#verified.wrong === 0 ? DONE : FAILED;
  }

  async #withWorkers(): Promise<void> {
    const { worldSize } = this.#job.layout;
    const token = newToken();
    // Before there are workers: a signal while they are being started stops the run as any other.
    using interrupt = new Interrupt((interrupted) => {
      workers.kill();
      Deno.exit(interrupted.exitCode);
    });
    await using coordinator = Coordinator.listen({ worldSize, token, graceMs: GRACE_MS });
    await using workers = new WorkerProcesses({
      count: worldSize,
      coordinator: coordinator.url,
      token,
      libraries: this.#job.libraries,
      onLine: (rank, line) => standardError.write(`rank ${rank}: ${line}\n`),
    });
    const signal = AbortSignal.any([workers.death, interrupt.signal]);
    try {
      await this.#journey(coordinator, signal);
      workers.expectEnd();
      await coordinator.shutdown();
    } catch (error) {
      // A signal from the terminal goes to the workers too, and their end may be seen before the signal; and a worker's end may be seen on its
      // connections before its process is known to have ended.
      await new Promise((resolve) => setTimeout(resolve, SIGNAL_LAG_MS));
      interrupt.signal.throwIfAborted();
      workers.death.throwIfAborted();
      throw error;
    }
  }

  async #journey(coordinator: Coordinator, signal: AbortSignal): Promise<void> {
    const { timeoutMs } = this.#settings;
    const { layout, itinerary, libraries } = this.#job;
    const starting = new Progress(`starting ${counted(layout.worldSize, "worker")}`);
    const began = performance.now();
    try {
      await coordinator.start(layout, { timeoutMs, signal });
      for (const [rank, ids] of itinerary.shares) await this.#put(coordinator, rank, ids, signal);
    } catch (error) {
      starting.clear();
      throw error;
    }
    const { backend, nccl } = libraries;
    const where = backend === "cpu" ? "the CPU stand-in" : "CUDA";
    starting.done(`on ${where} (${nccl.path}) in ${secondsText((performance.now() - began) / 1000)}`);
    for (const [number, stage] of itinerary.stages.entries()) {
      const checked = await this.#move(coordinator, stage, signal);
      if (checked.wrong > 0) return;
      if (number === itinerary.stages.length - 1) await this.#write(coordinator, stage, signal);
    }
  }

  /** Hands a rank its samples. */
  async #put(coordinator: Coordinator, rank: number, ids: readonly string[], signal: AbortSignal): Promise<void> {
    for (const batch of this.#batches(ids)) {
      const samples = SequenceSample.gather(batch.map((id) => this.#job.source.sample(id)));
      await coordinator.worker(rank).samples.put(samples, { timeoutMs: this.#settings.timeoutMs, signal });
    }
  }

  async #move(coordinator: Coordinator, stage: Stage, signal: AbortSignal): Promise<Comparison> {
    const { timeoutMs, verify } = this.#settings;
    const { sample } = this.#job.input;
    const progress = new Progress(`${stage.from} → ${stage.to}`);
    try {
      const perRank = await coordinator.redistribute(sample, stage.plan, {
        timeoutMs,
        verify,
        signal,
        onProgress: ({ bytes, totalBytes }) => progress.update(bytes, totalBytes),
      });
      const seconds = Math.max(...perRank.map((report) => report.seconds));
      const bytes = perRank.reduce((sum, report) => sum + report.bytesReceived, 0);
      progress.done(`moved ${bytesText(bytes)} in ${secondsText(seconds)}`);
      const checked = await this.#compare(coordinator, stage, signal);
      this.#transfers.push(transferReport(stage, perRank, checked));
      this.#verified = checked;
      return checked;
    } catch (error) {
      progress.clear();
      throw error;
    }
  }

  /** Fetches what each rank holds, and compares it with the source. */
  async #compare(coordinator: Coordinator, stage: Stage, signal: AbortSignal): Promise<Comparison> {
    const waiting = { timeoutMs: this.#settings.timeoutMs, signal };
    const { source } = this.#job;
    let total = nothingCompared;
    for (const [rank, expected] of stage.holds.entries()) {
      const { samples } = coordinator.worker(rank);
      const { ids, storageSize } = await samples.holdings(waiting);
      const held = new Set(ids);
      total = addComparisons(total, source.compareIds(rank, expected, held));
      if (storageSize !== held.size) {
        const what = `it stores ${storageSize} ids, and names ${held.size}`;
        total = addComparisons(total, { tensors: 0, bytes: 0, wrong: 1, differences: [{ rank, id: "", what }] });
      }
      for (const batch of this.#batches([...held.intersection(expected)])) {
        total = addComparisons(total, source.compare(rank, await samples.get(batch, undefined, waiting)));
      }
    }
    return total;
  }

  /** Writes what each rank holds. */
  async #write(coordinator: Coordinator, stage: Stage, signal: AbortSignal): Promise<void> {
    const { output, timeoutMs } = this.#settings;
    if (output === undefined) return;
    for (const [rank, ids] of stage.holds.entries()) {
      const { samples } = coordinator.worker(rank);
      const held = ids.size === 0
        ? noSamples(this.#job.input.sample)
        : await samples.get([...ids], undefined, { timeoutMs, signal });
      const path = `${output.replace(/\/+$/, "") || "/"}/rank-${rank}.safetensors`;
      await Deno.writeFile(path, held.toSafetensors());
      this.#outputs.push(path);
    }
  }

  async #writeReport(error: unknown): Promise<void> {
    const { report: path, seed, pattern, layouts, input: file } = this.#settings;
    if (path === undefined) return;
    const { layout, input, bytesOf, libraries } = this.#job;
    const report: RunReport = {
      verified: this.#verified,
      transfers: this.#transfers,
      ranks: layout.worldSize,
      layout: layout.toJSON(),
      layouts,
      pattern,
      input: {
        file: file ?? "rollouts.jsonl",
        ids: bytesOf.size,
        keys: input.sample.keys,
        bytes: [...bytesOf.values()].reduce((sum, bytes) => sum + bytes, 0),
      },
      seed,
      synthesizedKeys: input.synthesizedKeys,
      versions: {
        seqferry: VERSION,
        deno: Deno.version.deno,
        tokenizer: input.tokenizer,
        backend: libraries.backend,
        cudart: libraries.cudart.version,
        nccl: libraries.nccl.version,
      },
      outputs: this.#outputs,
      error: error === null
        ? null
        : error instanceof Error
        ? { name: error.name, message: error.message }
        : { name: "Error", message: String(error) },
    };
    await Deno.writeTextFile(path, JSON.stringify(report, null, 2) + "\n");
  }

  /** Ids in batches of about {@linkcode BATCH_BYTES}. */
  *#batches(ids: readonly string[]): Generator<string[]> {
    let batch: string[] = [];
    let bytes = 0;
    for (const id of ids) {
      const size = this.#job.bytesOf.get(id) ?? 0;
      if (batch.length > 0 && bytes + size > BATCH_BYTES) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push(id);
      bytes += size;
    }
    if (batch.length > 0) yield batch;
  }
}

/** A sample of no ids, with the keys of another. */
function noSamples({ keys, dtypes, trailingShapes, metadata }: SequenceSample): SequenceSample {
  const perKey = <T>(make: (key: string) => T) => Object.fromEntries(keys.map((key) => [key, make(key)]));
  return new SequenceSample({
    ids: [],
    keys,
    dtypes,
    trailingShapes,
    seqlens: perKey(() => []),
    data: perKey((key) => ({ dtype: dtypes[key]!, shape: [0, ...trailingShapes[key]!], bytes: new Uint8Array() })),
    metadata: Object.fromEntries(Object.keys(metadata).map((name) => [name, []])),
  });
}
