/**
 * Every error class of seqferry. This file imports only a type, and every room may import it.
 *
 * Each error carries fields beside its sentence, so that a program can act on it without reading text.
 *
 * @module
 */

import type { FlightEntry } from "./flight.ts";

/** The base of all errors that seqferry raises on purpose. `name` is the class's name. */
export class SeqferryError extends Error {
  /** On errors of a transfer: what this rank had done so far, oldest first. */
  declare flight?: readonly FlightEntry[];
  /** On errors that end a transfer: what is known of this rank's storage. */
  declare readonly outcome?: Outcome;

  /** Takes the sentence, and the error it follows from where there is one. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A call into libcudart answered a code other than `cudaSuccess`. */
export class CudaError extends SeqferryError {
  /** The C function, e.g. `cudaMalloc`. */
  readonly call: string;
  /** The `cudaError_t` it answered. */
  readonly code: number;
  /** The code's name in the header, e.g. `cudaErrorMemoryAllocation`. */
  readonly codeName: string;

  /** `detail` is the meaning of the code, or what the library said. */
  constructor(call: string, code: number, codeName: string, detail: string, options?: ErrorOptions) {
    super(`${call} answered ${codeName} (${code}): ${detail}`, options);
    this.call = call;
    this.code = code;
    this.codeName = codeName;
  }
}

/** A call into libnccl, or a communicator's asynchronous state, answered a code other than `ncclSuccess` or `ncclInProgress`. */
export class NcclError extends SeqferryError {
  /** The C function, e.g. `ncclSend`. */
  readonly call: string;
  /** The `ncclResult_t` it answered. */
  readonly code: number;
  /** The code's name in the header, e.g. `ncclRemoteError`. */
  readonly codeName: string;
  /** The library's own last error text at that moment; empty where it had none. */
  readonly lastError: string;

  /** `detail` is the meaning of the code. */
  constructor(call: string, code: number, codeName: string, detail: string, lastError: string, options?: ErrorOptions) {
    super(`${call} answered ${codeName} (${code}): ${detail}${lastError === "" ? "" : `; ${lastError}`}`, options);
    this.call = call;
    this.code = code;
    this.codeName = codeName;
    this.lastError = lastError;
  }
}

/** A native library (or the compiler that would build the CPU stand-in) could not be found or opened. */
export class LibraryNotFoundError extends SeqferryError {
  /** What was looked for, e.g. `libnccl`. */
  readonly library: string;
  /** Every place tried, in order, each with what happened there. */
  readonly tried: readonly string[];

  /** `advice` says what to install or to set. */
  constructor(library: string, tried: readonly string[], advice: string, options?: ErrorOptions) {
    super(
      `${library} was not found. ${advice}${
        tried.length === 0 ? "" : ` Tried:\n${tried.map((line) => `  ${line}`).join("\n")}`
      }`,
      options,
    );
    this.library = library;
    this.tried = tried;
  }
}

/** A topology, a model shard, or a cluster layout that cannot be. */
export class LayoutError extends SeqferryError {
  /** What is wrong, as a path: `dims[1]`, `models[0].ranks[3]`, `layouts[1]`; undefined where no one field is to blame. */
  readonly field: string | undefined;
  /** The value found there. */
  readonly value: unknown;

  /** Takes the sentence, and beside it the field and its value. */
  constructor(message: string, options: ErrorOptions & { field?: string; value?: unknown } = {}) {
    super(message, options);
    this.field = options.field;
    this.value = options.value;
  }
}

/** A sample that is not valid, or an operation on samples that cannot be done. */
export class SampleError extends SeqferryError {
  /** What is wrong, as a path: `seqlens.rewards[3][0]`, `data.values`, `header.values.shape`; undefined where no one field is to blame. */
  readonly field: string | undefined;
  /** The value found there. */
  readonly value: unknown;

  /** Takes the sentence, and beside it the field and its value. */
  constructor(message: string, options: ErrorOptions & { field?: string; value?: unknown } = {}) {
    super(message, options);
    this.field = options.field;
    this.value = options.value;
  }
}

/** A plan that is not valid, or that cannot be derived. Fields that the error is not about are undefined. */
export class PlanError extends SeqferryError {
  /** Where, as a path: `plan[3].dsts[1]`, `dests`, `keys[0]`. */
  readonly place: string | undefined;
  /** The sample it is about. */
  readonly id: string | undefined;
  /** The key it is about. */
  readonly key: string | undefined;
  /** The rank it is about. */
  readonly rank: number | undefined;

  /** Takes the sentence, and beside it the facts. */
  constructor(
    message: string,
    options: ErrorOptions & { place?: string; id?: string; key?: string; rank?: number } = {},
  ) {
    super(message, options);
    this.place = options.place;
    this.id = options.id;
    this.key = options.key;
    this.rank = options.rank;
  }
}

/** The manager is in the middle of a transfer; what was asked for would pull the ground from under it. */
export class ManagerBusyError extends SeqferryError {}

/** The object was disposed or its communicator aborted; what was asked for needs a live one. */
export class ClosedError extends SeqferryError {}

/** One reason of one rank for refusing a transfer. */
export interface Refusal {
  /** The rank that refuses. */
  readonly rank: number;
  /** A sentence. */
  readonly reason: string;
  /** The sample it is about, where it is about one. */
  readonly id?: string;
  /** The key it is about, where it is about one. */
  readonly key?: string;
}

/** The ranks agreed not to start a transfer. Raised on all ranks alike, before the first byte; the message carries every refusal. */
export class RedistributeRefusedError extends SeqferryError {
  /** Every rank's reasons, in the order of ranks. */
  readonly refusals: readonly Refusal[];

  /** Builds the sentence out of the refusals. */
  constructor(refusals: readonly Refusal[], options?: ErrorOptions) {
    super(
      `the transfer was refused before anything moved: ${
        refusals.map((refusal) => `rank ${refusal.rank}: ${refusal.reason}`).join("; ")
      }`,
      options,
    );
    this.refusals = refusals;
  }
}

/** What arrived is not what was sent. Raised on all ranks alike, at commit; nothing was installed, and the communicator is whole. */
export class VerificationError extends SeqferryError {
  /** Which (id, key) differs on which rank. */
  readonly mismatches: readonly Refusal[];

  /** Builds the sentence out of the mismatches. */
  constructor(mismatches: readonly Refusal[], options?: ErrorOptions) {
    super(
      `nothing was installed, for what arrived is not what was sent: ${
        mismatches.map((mismatch) => `rank ${mismatch.rank}: ${mismatch.reason}`).join("; ")
      }`,
      options,
    );
    this.mismatches = mismatches;
  }
}

/** Whether a failed transfer surely left this rank's storage as it was, or may have been committed elsewhere. */
export type Outcome = "unchanged" | "unknown";

/**
 * A wait passed its deadline, or its AbortSignal fired (then `cause` is the signal's reason). The communicator was aborted, unless nothing had been asked of a
 * peer yet.
 */
export class DeadlineError extends SeqferryError {
  /** The phase of the transfer, from 0; -1 outside the phases (agreement, commit, set-up). */
  readonly phase: number;
  /** The ranks that had not done their part, as far as this rank can tell; sorted. */
  readonly outstanding: readonly number[];
  /** What is known of this rank's storage. */
  override readonly outcome: Outcome;

  /** Takes the sentence and the three facts. */
  constructor(
    message: string,
    facts: { phase: number; outstanding: readonly number[]; outcome: Outcome },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.phase = facts.phase;
    this.outstanding = facts.outstanding;
    this.outcome = facts.outcome;
  }
}

/** A peer is gone: its process ended or its connection broke. The communicator was aborted. */
export class PeerLostError extends SeqferryError {
  /** The rank that was lost, or null where the library did not say. */
  readonly rank: number | null;
  /** As in {@linkcode DeadlineError}. */
  readonly phase: number;
  /** What is known of this rank's storage. */
  override readonly outcome: Outcome;

  /** Takes the sentence and the three facts. */
  constructor(
    message: string,
    facts: { rank: number | null; phase: number; outcome: Outcome },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.rank = facts.rank;
    this.phase = facts.phase;
    this.outcome = facts.outcome;
  }
}
