/**
 * What coordinator and worker say to each other over the control connection, each message checked on arrival.
 *
 * The worker opens a WebSocket to `/control` of the coordinator and registers. From then on the coordinator sends requests and the worker answers
 * each with one response; a redistribution also reports progress. Tensors never go this way: they travel over HTTP between a client and the
 * worker that owns or needs them.
 *
 * @module
 */

import * as v from "npm:valibot@1.5.0";
import { SeqferryError } from "../errors.ts";
import type { WireError } from "./wire_error.ts";

/** Both sides speak this version or do not speak. */
export const PROTOCOL_VERSION = 1;

/** A message that is not of this protocol. */
export class ProtocolError extends SeqferryError {}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.pipe(v.number(), v.minValue(0));
const library = v.strictObject({ path: v.string(), version: count });

const wireError: v.GenericSchema<WireError> = v.strictObject({
  name: v.string(),
  message: v.string(),
  fields: v.record(v.string(), v.unknown()),
  cause: v.optional(v.lazy(() => wireError)),
});

const register = v.strictObject({
  type: v.literal("register"),
  protocol: v.literal(PROTOCOL_VERSION, `the worker speaks another protocol than version ${PROTOCOL_VERSION}`),
  rank: count,
  /** Where the worker serves; null where the coordinator is to take the address that it sees. */
  hostname: v.nullable(v.string()),
  port: v.pipe(count, v.maxValue(65535)),
  pid: count,
  backend: v.picklist(["cuda", "cpu"]),
  device: count,
  cudart: library,
  nccl: library,
});

const report = v.strictObject({
  transferId: v.string(),
  phases: count,
  bytesSent: count,
  bytesReceived: count,
  referenceBytesSent: count,
  referenceBytesReceived: count,
  seconds: amount,
  installed: count,
});

const timeoutMs = amount;
const command = v.variant("name", [
  /** Rank 0 makes the id, and lives through init. Result: 128 bytes in base64. */
  v.strictObject({ name: v.literal("createUniqueId") }),
  /** Joins the world and makes the data manager. `layout` is a ClusterLayout as JSON, or null. */
  v.strictObject({
    name: v.literal("init"),
    worldSize: v.pipe(count, v.minValue(1)),
    uniqueId: v.pipe(v.string(), v.base64()),
    layout: v.unknown(),
    timeoutMs,
  }),
  v.strictObject({ name: v.literal("setupProcessGroups"), timeoutMs }),
  /** `meta` is a metadata-only SequenceSample as JSON, `plan` the reference's JSON form. Result: a report. */
  v.strictObject({
    name: v.literal("redistribute"),
    meta: v.unknown(),
    plan: v.array(v.unknown()),
    verify: v.boolean(),
    timeoutMs,
  }),
  v.strictObject({ name: v.literal("remove"), ids: v.array(v.string()) }),
  /** Gives up what is under way: its own response is then an error. */
  v.strictObject({ name: v.literal("abort"), reason: wireError }),
  v.strictObject({ name: v.literal("shutdown") }),
]);

const toCoordinator = v.variant("type", [
  register,
  v.strictObject({ type: v.literal("result"), id: count, result: v.unknown() }),
  v.strictObject({ type: v.literal("error"), id: count, error: wireError }),
  v.strictObject({
    type: v.literal("progress"),
    id: count,
    bytes: amount,
    totalBytes: amount,
    phase: count,
    phases: count,
  }),
]);

const toWorker = v.variant("type", [
  v.strictObject({ type: v.literal("request"), id: count, command }),
  /** The coordinator does not take this worker. */
  v.strictObject({ type: v.literal("refused"), reason: v.string() }),
]);

/** A worker's first message. */
export type Register = v.InferOutput<typeof register>;
/** What a worker says. */
export type ToCoordinator = v.InferOutput<typeof toCoordinator>;
/** What a coordinator says. */
export type ToWorker = v.InferOutput<typeof toWorker>;
/** What a worker can be told to do. */
export type Command = v.InferOutput<typeof command>;
/** A report of `redistribute`, as it comes over the wire. */
export type WireReport = v.InferOutput<typeof report>;

/** Reads a message to a coordinator. Throws a {@linkcode ProtocolError} that names the field. */
export function parseToCoordinator(json: unknown): ToCoordinator {
  return parse("a message to the coordinator", toCoordinator, json);
}

/** Reads a message to a worker. Throws a {@linkcode ProtocolError} that names the field. */
export function parseToWorker(json: unknown): ToWorker {
  return parse("a message to the worker", toWorker, json);
}

/** Reads the result of `redistribute`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseReport(json: unknown): WireReport {
  return parse("a report", report, json);
}

const uniqueId = v.pipe(v.string(), v.base64());

/** Reads the result of `createUniqueId`. Throws a {@linkcode ProtocolError}. */
export function parseUniqueId(json: unknown): string {
  return parse("a unique id", uniqueId, json);
}

const holdings = v.strictObject({ ids: v.array(v.string()), storageSize: count });

/** What a worker holds: the answer to `GET /samples`. */
export type Holdings = v.InferOutput<typeof holdings>;

/** Reads the answer to `GET /samples`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseHoldings(json: unknown): Holdings {
  return parse("a list of samples", holdings, json);
}

const sampleRequest = v.strictObject({ ids: v.array(v.string()), keys: v.optional(v.array(v.string())) });

/** The body of `POST /samples/get`; all keys where it names none. */
export type SampleRequest = v.InferOutput<typeof sampleRequest>;

/** Reads the body of `POST /samples/get`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseSampleRequest(json: unknown): SampleRequest {
  return parse("a request for samples", sampleRequest, json);
}

/** Reads an error that came over HTTP. Throws a {@linkcode ProtocolError} where it is none. */
export function parseWireError(json: unknown): WireError {
  return parse("an error", wireError, json);
}

const health = v.strictObject({
  rank: count,
  worldSize: v.nullable(count),
  state: v.picklist(["starting", "registered", "ready", "moving", "failed", "closing"]),
  storageSize: count,
  transfer: v.nullable(v.strictObject({ bytes: amount, totalBytes: amount, phase: count, phases: count })),
  backend: v.picklist(["cuda", "cpu"]),
  device: count,
  pid: count,
});

/** How a worker is: the answer to `GET /health`, also in the middle of a transfer. */
export type Health = v.InferOutput<typeof health>;

/** Reads the answer to `GET /health`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseHealth(json: unknown): Health {
  return parse("a worker's health", health, json);
}

function parse<Schema extends v.GenericSchema>(what: string, schema: Schema, json: unknown): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  const path = v.getDotPath(issue);
  throw new ProtocolError(`${what} is not valid${path === null ? "" : ` at ${path}`}: ${issue.message}`);
}
