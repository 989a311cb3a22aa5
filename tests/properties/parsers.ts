/**
 * Everything in the project that reads what others wrote, with good inputs to start from.
 *
 * @module
 */

import {
  ClusterLayout,
  GlobalStorageTracker,
  LayoutError,
  parseLayouts,
  parsePlan,
  PlanError,
  planToJSON,
  SampleError,
  SeqferryError,
  SequenceSample,
  type TensorExport,
  validatePlan,
} from "../../mod.ts";
import { type Command, type Flags, parseFlags } from "../../src/commands/args.ts";
import { doctorCommand } from "../../src/commands/doctor.ts";
import { InputError } from "../../src/commands/input_error.ts";
import { planCommand } from "../../src/commands/plan.ts";
import { parseRollouts } from "../../src/commands/rollouts.ts";
import { readLayouts, runCommand } from "../../src/commands/run.ts";
import * as protocol from "../../src/service/protocol.ts";
import { decodeError, encodeError } from "../../src/service/wire_error.ts";
import { Catalogue } from "../../src/transfer/catalogue.ts";
import { lowerPlan } from "../../src/transfer/lower.ts";
import { checkedTensorExport } from "../../src/transfer/tensor_export.ts";
import { batchOf } from "../cluster.ts";
import { SCENES, WORLD_SIZE } from "../faults/scenes.ts";
import { anyBytes, anyValue, below, mutateBytes, mutateText, mutateValue, pick, type Random, WORDS } from "./mutate.ts";

/** One parser under attack. */
export interface Parser {
  readonly name: string;
  /** The errors that it may raise. */
  readonly errors: readonly (abstract new (...args: never[]) => Error)[];
  /** A new input. */
  make(random: Random): unknown;
  /** Reads it, and does with the result what the program would. */
  read(input: unknown): void;
}

const keys = {
  tokens: { dtype: "int64", trailingShape: [] },
  values: { dtype: "bfloat16", trailingShape: [2, 3] },
  mask: { dtype: "bool", trailingShape: [] },
} as const;
const batch = batchOf(["a", "b", "c", "d"], keys);
const meta = batchOf(["a", "b", "c", "d"], {
  hidden: { dtype: "float32", trailingShape: [2] },
  reward: { dtype: "float64", trailingShape: [] },
  empty: { dtype: "uint8", trailingShape: [0] },
}).meta();
const plans = SCENES.map(({ plan }) => planToJSON(plan));
const layoutTexts = [
  "actor=pp1,dp4,tp1 critic@4=pp2,dp1,tp2",
  "a/1=dp2,tp2,pp2",
  "actor=pp1,dp4,tp1 critic@4=pp1,dp2,tp2 trainer=pp2,dp2,tp2",
];
const layouts = layoutTexts.map((text) => parseLayouts(text).toJSON());
const samples = [batch.toJSON(), batch.meta().toJSON(), batchOf([], keys).toJSON()];
const files = [batch.toSafetensors(), batch.meta().toSafetensors(), batchOf([], keys).toSafetensors()];
const rollouts = [
  '{"prompt":"one and one","responses":["two","three"],"rewards":[1,-0.5],"id":"x"}\n',
  '{"prompt":"p","generateds":["g"],"rewards":[0],"id":7,"more":{"a":[1]}}\n\n{"prompt":"q","responses":[""],"rewards":[1e-3]}',
].map((text) => new TextEncoder().encode(text));
const commands: readonly Command[] = [runCommand, planCommand, doctorCommand];
const words = [
  ["--layouts", layoutTexts[0]!, "--ranks", "8"],
  ["--input", "file.jsonl", "--seed=7", "--verify", "--timeout", "1.5"],
  ["--pattern", "bcast", "--json", "--report", "r.json"],
  ["--help"],
];
const tracker = new GlobalStorageTracker(3);
tracker.addData(0, ["a", "b"], "tokens", true);
tracker.addData(2, ["a"], "tokens", false);
tracker.addData(1, ["c"], "values", true);
const handle = new Uint8Array(64).fill(7).toBase64();
const exports: readonly TensorExport[] = [
  { dtype: "int64", shape: [3, 2], byteLength: 48, device: "0000:01:00.0", memory: handle, offset: 256, event: handle },
  { dtype: "bool", shape: [], byteLength: 1, device: "0000:01:00.0", memory: handle, offset: 0, event: null },
];
const library = { path: "libx.so", version: 13000 };
const messages: readonly [parse: (json: unknown) => unknown, good: unknown][] = [
  [protocol.parseToCoordinator, {
    type: "register",
    protocol: 2,
    rank: 0,
    hostname: null,
    port: 1,
    pid: 2,
    backend: "cpu",
    device: 0,
    cudart: library,
    nccl: library,
  }],
  [protocol.parseToCoordinator, { type: "progress", id: 1, bytes: 2, totalBytes: 3, phase: 0, phases: 1 }],
  [protocol.parseToCoordinator, {
    type: "error",
    id: 1,
    error: encodeError(new PlanError("no", { place: "plan[0]" })),
  }],
  [protocol.parseToWorker, {
    type: "request",
    id: 1,
    command: { name: "redistribute", meta: meta.toJSON(), plan: plans[0], verify: true, timeoutMs: 5 },
  }],
  [protocol.parseToWorker, {
    type: "request",
    id: 1,
    command: { name: "init", worldSize: 2, uniqueId: "AAAA", layout: layouts[0], timeoutMs: 5 },
  }],
  [protocol.parseToCoordinator, { type: "result", id: 1, result: { ids: ["a"] } }],
  [protocol.parseToWorker, { type: "request", id: 2, command: { name: "remove", ids: ["a", "b"] } }],
  [protocol.parseToWorker, {
    type: "request",
    id: 3,
    command: { name: "abort", of: 7, reason: encodeError(new SeqferryError("enough")) },
  }],
  [protocol.parseToWorker, { type: "refused", reason: "there is one already" }],
  [protocol.parseReport, {
    transferId: "x",
    phases: 1,
    bytesSent: 1,
    bytesReceived: 1,
    referenceBytesSent: 1,
    referenceBytesReceived: 1,
    seconds: 0.1,
    installed: 1,
  }],
  [protocol.parseHoldings, { ids: ["a"], storageSize: 1 }],
  [protocol.parseSampleRequest, { ids: ["a"], keys: ["b"] }],
  [protocol.parseHealth, {
    rank: 0,
    worldSize: null,
    state: "ready",
    storageSize: 0,
    transfer: null,
    backend: "cpu",
    device: 0,
    pid: 1,
  }],
  [protocol.parseUniqueId, "AAAA"],
  [
    (json) => decodeError(protocol.parseWireError(json)),
    encodeError(new Error("a", { cause: new LayoutError("b", { field: "c", value: 1 }) })),
  ],
];

/** A value or its text, changed before or after it became text; now and then anything. */
function jsonInput(random: Random, good: readonly unknown[]): unknown {
  const value = pick(random, good);
  switch (below(random, 5)) {
    case 0:
      return mutateText(random, JSON.stringify(value));
    case 1:
      return text(mutateValue(random, value));
    case 2:
      return anyValue(random);
    default:
      return mutateValue(random, value);
  }
}

/** JSON text; what is nested too deep for that is left as it is. */
function text(value: unknown): unknown {
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    return value;
  }
}

/** All parsers. */
export const PARSERS: readonly Parser[] = [
  {
    name: "plan",
    errors: [PlanError],
    make: (random) => jsonInput(random, plans),
    read(input) {
      const plan = parsePlan(input);
      if (JSON.stringify(parsePlan(planToJSON(plan))) !== JSON.stringify(plan)) {
        throw new Error("a plan is not what it was");
      }
      validatePlan(plan, { worldSize: WORLD_SIZE, meta });
      const catalogue = new Catalogue(meta);
      for (let rank = 0; rank < WORLD_SIZE; rank++) lowerPlan(plan, catalogue, rank, { worldSize: WORLD_SIZE });
    },
  },
  {
    name: "sample",
    errors: [SampleError],
    make: (random) => jsonInput(random, samples),
    read(input) {
      const sample = SequenceSample.fromJSON(input);
      if (JSON.stringify(SequenceSample.fromJSON(sample.toJSON()).toJSON()) !== JSON.stringify(sample.toJSON())) {
        throw new Error("a sample is not what it was");
      }
    },
  },
  {
    name: "safetensors",
    errors: [SampleError],
    make: (random) => below(random, 20) === 0 ? anyBytes(random) : mutateBytes(random, pick(random, files)),
    read(input) {
      SequenceSample.fromSafetensors(input as Uint8Array).toSafetensors();
    },
  },
  {
    name: "rollouts",
    errors: [InputError],
    make(random) {
      const good = pick(random, rollouts);
      if (below(random, 20) === 0) return anyBytes(random);
      if (below(random, 3) === 0) return mutateBytes(random, good);
      const lines = new TextDecoder().decode(good).split("\n").filter((line) => line !== "").map((line) => {
        const value = mutateValue(random, JSON.parse(line));
        const changed = text(value);
        return below(random, 3) === 0 || typeof changed !== "string" ? mutateText(random, line) : changed;
      });
      return new TextEncoder().encode(lines.join("\n"));
    },
    read(input) {
      parseRollouts(input as Uint8Array, "rollouts.jsonl");
    },
  },
  {
    name: "layout",
    errors: [LayoutError],
    make: (random) => jsonInput(random, layouts),
    read(input) {
      ClusterLayout.fromJSON(input).toJSON();
    },
  },
  {
    name: "layouts",
    errors: [LayoutError],
    make: (random) => mutateText(random, pick(random, layoutTexts)),
    read(input) {
      parseLayouts(input as string).toJSON();
    },
  },
  {
    name: "arguments",
    errors: [InputError],
    make(random) {
      const line = [...pick(random, words), ...(random() < 0.5 ? pick(random, words) : [])];
      for (let changes = below(random, 3); changes > 0; changes--) {
        const at = below(random, line.length + 1);
        if (random() < 0.5) line.splice(at, 1);
        else {line.splice(
            at,
            0,
            `${pick(random, ["--", "-", "--no-verify", "-x", "--ranks=", pick(random, WORDS)])}`,
          );}
        const other = below(random, line.length);
        if (line.length > 0 && random() < 0.5) line[other] = mutateText(random, line[other]!);
      }
      return { command: below(random, commands.length), line };
    },
    read(input) {
      const { command, line } = input as { command: number; line: string[] };
      const flags: Flags = parseFlags(commands[command]!, line);
      flags.integer("ranks", { min: 1, max: 1024 });
      flags.integer("seed", { min: 0, max: 2 ** 31 });
      flags.positive("timeout");
      flags.oneOf("pattern", ["gather-scatter", "bcast", "direct", "auto"]);
      const layouts = flags.text("layouts");
      if (layouts !== undefined) readLayouts(layouts, undefined);
    },
  },
  {
    name: "wire",
    errors: [protocol.ProtocolError],
    make(random) {
      const which = below(random, messages.length);
      return { which, json: below(random, 20) === 0 ? anyValue(random) : mutateValue(random, messages[which]![1]) };
    },
    read(input) {
      const { which, json } = input as { which: number; json: unknown };
      messages[which]![0](json);
    },
  },
  {
    name: "tracker",
    errors: [PlanError],
    make: (random) => jsonInput(random, [tracker.toJSON(), new GlobalStorageTracker(1).toJSON()]),
    read(input) {
      const read = GlobalStorageTracker.fromJSON(input);
      const json = JSON.stringify(read.toJSON());
      if (JSON.stringify(GlobalStorageTracker.fromJSON(json).toJSON()) !== json) {
        throw new Error("a tracker is not what it was");
      }
    },
  },
  {
    name: "tensor export",
    errors: [SeqferryError],
    make: (random) => below(random, 20) === 0 ? anyValue(random) : mutateValue(random, pick(random, exports)),
    read(input) {
      const { byteLength, offset, memory } = checkedTensorExport(input);
      if (!Number.isSafeInteger(offset + byteLength) || memory.byteLength !== 64) {
        throw new Error("it cannot be opened");
      }
    },
  },
];

/** What came of feeding a parser. */
export interface Fed {
  readonly inputs: number;
  /** How many were read without an error. */
  readonly accepted: number;
  /** The longest that one input took, in milliseconds. */
  readonly longestMs: number;
  /** How much the process's memory grew after the first tenth, in bytes. */
  readonly growth: number;
  /** The first few inputs that ended otherwise than they may. */
  readonly failures: readonly { input: unknown; error: unknown }[];
}

/** No input takes longer: a thousand times what they take. */
const LONGEST_MS = 2000;
const MOST_FAILURES = 10;

/** Feeds a parser. */
export function feed(parser: Parser, count: number, random: Random): Fed {
  const failures: { input: unknown; error: unknown }[] = [];
  let accepted = 0;
  let longestMs = 0;
  let memory = 0;
  for (let i = 0; i < count; i++) {
    if (i === Math.floor(count / 10)) memory = residentBytes();
    const input = parser.make(random);
    const started = performance.now();
    let error: unknown = null;
    try {
      parser.read(input);
      accepted++;
    } catch (caught) {
      if (!parser.errors.some((one) => caught instanceof one)) {
        error = caught ?? new Error("nothing was thrown as an error");
      }
    }
    const ms = performance.now() - started;
    longestMs = Math.max(longestMs, ms);
    if (error === null && ms > LONGEST_MS) error = new Error(`it took ${ms} ms`);
    if (error !== null && failures.length < MOST_FAILURES) failures.push({ input, error });
  }
  return { inputs: count, accepted, longestMs, growth: residentBytes() - memory, failures };
}

/** The memory of this process; what can be collected is collected first where the runtime lets itself be told. */
function residentBytes(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().rss;
}
