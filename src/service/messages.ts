/**
 * What coordinator, workers and clients say to each other. Plain data, JSON on the wire.
 *
 * The worker opens a WebSocket to `/control` of the coordinator and registers. From then on the coordinator sends requests and the worker answers
 * each with one result or error; a redistribution also reports progress. Every few seconds the coordinator says that it
 * is there. Tensors never go this way: they travel over HTTP between a client and the worker that owns or needs them.
 *
 * @module
 */

import type { RedistribReport } from "../../mod.ts";
import type { WireError } from "./wire_error.ts";

/** Both sides speak this version or do not speak. */
export const PROTOCOL_VERSION = 2;

/** An opened library. */
export interface LibraryInUse {
  /** Its file. */
  path: string;
  /** As the library counts. */
  version: number;
}

/** A worker's first message. */
export interface Register {
  /** The message's kind. */
  type: "register";
  /** {@linkcode PROTOCOL_VERSION} of the worker. */
  protocol: typeof PROTOCOL_VERSION;
  /** Its rank. */
  rank: number;
  /** The address that it serves on; null where the coordinator is to take the one that it sees. */
  hostname: string | null;
  /** The port that it serves on. */
  port: number;
  /** Its process. */
  pid: number;
  /** Which libraries it has. */
  backend: "cuda" | "cpu";
  /** Its device's ordinal. */
  device: number;
  /** Its libcudart. */
  cudart: LibraryInUse;
  /** Its libnccl. */
  nccl: LibraryInUse;
}

/** A request was done. */
export interface Result {
  /** The message's kind. */
  type: "result";
  /** The request's number. */
  id: number;
  /** What came of it; its type follows from the command. */
  result: unknown;
}

/** A request failed. */
export interface Failure {
  /** The message's kind. */
  type: "error";
  /** The request's number. */
  id: number;
  /** Why. */
  error: WireError;
}

/** How far a transfer is on one rank. */
export interface TransferProgress {
  /** Bytes sent and received so far. */
  bytes: number;
  /** Bytes sent and received in all. */
  totalBytes: number;
  /** Phases done. */
  phase: number;
  /** Phases in all. */
  phases: number;
}

/** A redistribution under way. */
export interface Progress extends TransferProgress {
  /** The message's kind. */
  type: "progress";
  /** The request's number. */
  id: number;
}

/** What a worker says. */
export type ToCoordinator = Register | Result | Failure | Progress;

/** Rank 0 makes the unique id, and lives through init. Result: its 128 bytes in base64. */
export interface CreateUniqueId {
  /** The command. */
  name: "createUniqueId";
}

/** Join the world and make the data manager. Result: null. */
export interface Init {
  /** The command. */
  name: "init";
  /** How many ranks there are. */
  worldSize: number;
  /** What `createUniqueId` answered. */
  uniqueId: string;
  /** A ClusterLayout as JSON, or null. */
  layout?: unknown;
  /** The longest wait. */
  timeoutMs: number;
}

/** Make the replica groups, all ranks together. Result: null. */
export interface SetupProcessGroups {
  /** The command. */
  name: "setupProcessGroups";
  /** The longest wait. */
  timeoutMs: number;
}

/** Redistribute, all ranks together. Result: a `RedistribReport`. */
export interface Redistribute {
  /** The command. */
  name: "redistribute";
  /** A metadata-only SequenceSample as JSON. */
  meta?: unknown;
  /** Steps in the reference's JSON form. */
  plan: unknown[];
  /** Whether digests are checked before anything is installed. */
  verify: boolean;
  /** The longest wait. */
  timeoutMs: number;
}

/** Let ids go. Result: null. */
export interface Remove {
  /** The command. */
  name: "remove";
  /** Unknown ones are passed over. */
  ids: string[];
}

/**
 * Give up one request: its own answer is then an error. One that has been answered, or waits for nobody, is passed
 * over. Result: null.
 */
export interface Abort {
  /** The command. */
  name: "abort";
  /** The request's number. */
  of: number;
  /** Why. */
  reason: WireError;
}

/** End. Result: null, and then the worker closes. */
export interface Shutdown {
  /** The command. */
  name: "shutdown";
}

/** What a worker can be told to do. */
export type WorkerCommand = CreateUniqueId | Init | SetupProcessGroups | Redistribute | Remove | Abort | Shutdown;

/** A command, to be answered. */
export interface Request {
  /** The message's kind. */
  type: "request";
  /** Its number, by which the answer names it. */
  id: number;
  /** What to do. */
  command: WorkerCommand;
}

/** The coordinator does not take this worker. */
export interface Refused {
  /** The message's kind. */
  type: "refused";
  /** Why. */
  reason: string;
}

/** The coordinator is there. Nobody answers: a worker that hears nothing for long takes its coordinator for gone. */
export interface Ping {
  /** The message's kind. */
  type: "ping";
}

/** What a coordinator says. */
export type ToWorker = Request | Refused | Ping;

/** The answer to `GET /samples`. */
export interface Holdings {
  /** Which ids the worker holds. */
  ids: string[];
  /** How many its manager counts. */
  storageSize: number;
}

/** The body of `POST /samples/get`. */
export interface SampleRequest {
  /** Which samples, in this order. */
  ids: string[];
  /** Which keys; all unless given. */
  keys?: string[] | undefined;
}

/** How a worker is: the answer to `GET /health`, also in the middle of a transfer. */
export interface Health {
  /** Its rank. */
  rank: number;
  /** How many ranks there are; null before init. */
  worldSize: number | null;
  /** `failed`: the last transfer failed. */
  state: "starting" | "registered" | "ready" | "moving" | "failed" | "closing";
  /** How many ids it holds. */
  storageSize: number;
  /** The transfer under way, once it has come to its first phase. */
  transfer: TransferProgress | null;
  /** Which libraries it has. */
  backend: "cuda" | "cpu";
  /** Its device's ordinal. */
  device: number;
  /** Its process. */
  pid: number;
}

/** A rank's report of a redistribution. */
export type Report = RedistribReport;
