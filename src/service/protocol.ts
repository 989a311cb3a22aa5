/**
 * Checking what comes over the wire: each message and each body is of exactly the form in `messages.ts`, or a {@linkcode ProtocolError}.
 *
 * @module
 */

import * as v from "npm:valibot@1.5.0";
import { SeqferryError } from "../errors.ts";
import {
  type Health,
  type Holdings,
  PROTOCOL_VERSION,
  type Report,
  type SampleRequest,
  type ToCoordinator,
  type ToWorker,
} from "./messages.ts";
import type { WireError } from "./wire_error.ts";

/** A message that is not of this protocol. */
export class ProtocolError extends SeqferryError {}

/** Reads a message to a coordinator. Throws a {@linkcode ProtocolError} that names the field. */
export function parseToCoordinator(json: unknown): ToCoordinator {
  return parse("a message to the coordinator", toCoordinator, json);
}

/** Reads a message to a worker. Throws a {@linkcode ProtocolError} that names the field. */
export function parseToWorker(json: unknown): ToWorker {
  return parse("a message to the worker", toWorker, json);
}

/** Reads the result of `redistribute`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseReport(json: unknown): Report {
  return parse("a report", report, json);
}

/** Reads the result of `createUniqueId`. Throws a {@linkcode ProtocolError}. */
export function parseUniqueId(json: unknown): string {
  return parse("a unique id", base64, json);
}

/** Reads the answer to `GET /samples`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseHoldings(json: unknown): Holdings {
  return parse("a list of samples", holdings, json);
}

/** Reads the body of `POST /samples/get`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseSampleRequest(json: unknown): SampleRequest {
  return parse("a request for samples", sampleRequest, json);
}

/** Reads an error that came over HTTP. Throws a {@linkcode ProtocolError} where it is none. */
export function parseWireError(json: unknown): WireError {
  return parse("an error", wireError, json);
}

/** Reads the answer to `GET /health`. Throws a {@linkcode ProtocolError} that names the field. */
export function parseHealth(json: unknown): Health {
  return parse("a worker's health", health, json);
}

function parse<Value>(what: string, schema: v.GenericSchema<unknown, Value>, json: unknown): Value {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  const path = v.getDotPath(issue);
  throw new ProtocolError(`${what} is not valid${path === null ? "" : ` at ${path}`}: ${issue.message}`);
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.pipe(v.number(), v.minValue(0));
const base64 = v.pipe(v.string(), v.base64());
const backend = v.picklist(["cuda", "cpu"]);
const library = v.strictObject({ path: v.string(), version: count });
const progress = { bytes: amount, totalBytes: amount, phase: count, phases: count };

const wireError: v.GenericSchema<unknown, WireError> = v.strictObject({
  name: v.string(),
  message: v.string(),
  fields: v.record(v.string(), v.unknown()),
  cause: v.optional(v.lazy(() => wireError)),
});

const toCoordinator: v.GenericSchema<unknown, ToCoordinator> = v.variant("type", [
  v.strictObject({
    type: v.literal("register"),
    protocol: v.literal(PROTOCOL_VERSION, `the worker speaks another protocol than version ${PROTOCOL_VERSION}`),
    rank: count,
    hostname: v.nullable(v.string()),
    port: v.pipe(count, v.maxValue(65535)),
    pid: count,
    backend,
    device: count,
    cudart: library,
    nccl: library,
  }),
  v.strictObject({ type: v.literal("result"), id: count, result: v.unknown() }),
  v.strictObject({ type: v.literal("error"), id: count, error: wireError }),
  v.strictObject({ type: v.literal("progress"), id: count, ...progress }),
]);

const command = v.variant("name", [
  v.strictObject({ name: v.literal("createUniqueId") }),
  v.strictObject({
    name: v.literal("init"),
    worldSize: v.pipe(count, v.minValue(1)),
    uniqueId: base64,
    layout: v.unknown(),
    timeoutMs: amount,
  }),
  v.strictObject({ name: v.literal("setupProcessGroups"), timeoutMs: amount }),
  v.strictObject({
    name: v.literal("redistribute"),
    meta: v.unknown(),
    plan: v.array(v.unknown()),
    verify: v.boolean(),
    timeoutMs: amount,
  }),
  v.strictObject({ name: v.literal("remove"), ids: v.array(v.string()) }),
  v.strictObject({ name: v.literal("abort"), of: count, reason: wireError }),
  v.strictObject({ name: v.literal("shutdown") }),
]);

const toWorker: v.GenericSchema<unknown, ToWorker> = v.variant("type", [
  v.strictObject({ type: v.literal("request"), id: count, command }),
  v.strictObject({ type: v.literal("refused"), reason: v.string() }),
  v.strictObject({ type: v.literal("ping") }),
]);

/** Fields that a newer worker reports beside these go through. */
const report: v.GenericSchema<unknown, Report> = v.looseObject({
  transferId: v.string(),
  phases: count,
  bytesSent: count,
  bytesReceived: count,
  referenceBytesSent: count,
  referenceBytesReceived: count,
  seconds: amount,
  installed: count,
});

const holdings: v.GenericSchema<unknown, Holdings> = v.strictObject({ ids: v.array(v.string()), storageSize: count });

const sampleRequest: v.GenericSchema<unknown, SampleRequest> = v.strictObject({
  ids: v.array(v.string()),
  keys: v.optional(v.array(v.string())),
});

const health: v.GenericSchema<unknown, Health> = v.strictObject({
  rank: count,
  worldSize: v.nullable(count),
  state: v.picklist(["starting", "registered", "ready", "moving", "failed", "closing"]),
  storageSize: count,
  transfer: v.nullable(v.strictObject(progress)),
  backend,
  device: count,
  pid: count,
});
