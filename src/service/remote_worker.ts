/**
 * A registered worker, as its coordinator knows it.
 *
 * @module
 */

import type { Progress, Register, ToCoordinator, ToWorker, WorkerCommand } from "./messages.ts";
import { ProtocolError } from "./protocol.ts";
import { WorkerClient } from "./worker_client.ts";
import { decodeError, encodeError } from "./wire_error.ts";

/** How far a redistribution is on one rank, in bytes sent and received. */
export interface RankProgress {
  /** Bytes done. */
  readonly bytes: number;
  /** Bytes in all. */
  readonly totalBytes: number;
}

/** What goes with a request. */
export interface RequestOptions {
  /**
   * Told as the worker reports. What it throws comes out of the request once the worker has answered, and it is told
   * nothing more.
   */
  readonly onProgress?: (progress: RankProgress) => void;
  /** Has the worker give up when it fires before the answer; the answer is waited for all the same. */
  readonly signal?: AbortSignal;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: ((progress: RankProgress) => void) | undefined;
}

/** Sends commands to one worker and pairs its answers with them. */
export class RemoteWorker {
  /** The rank. */
  readonly rank: number;
  /** What the worker said of itself. */
  readonly registration: Register;
  /** Samples to and from it. */
  readonly samples: WorkerClient;
  /** Resolves when its control connection has closed. */
  readonly gone: Promise<Error>;
  readonly #send: (message: ToWorker) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #gone = Promise.withResolvers<Error>();
  #lost: Error | null = null;
  #nextId = 0;

  /** Takes the registration, the worker's address, the token, and the way to it. */
  constructor(registration: Register, url: string, token: string | null, send: (message: ToWorker) => void) {
    this.rank = registration.rank;
    this.registration = registration;
    this.samples = new WorkerClient(url, token);
    this.gone = this.#gone.promise;
    this.#send = send;
  }

  /**
   * Has the worker do something.
   *
   * @returns What it answered; the one who asks knows its type and checks it.
   * @throws The worker's own error, of the same class; what {@linkcode RemoteWorker.lose} was given, when the worker is
   * lost; {@linkcode SeqferryError} for a command that is too long to be sent.
   */
  async request(command: WorkerCommand, { onProgress, signal }: RequestOptions = {}): Promise<unknown> {
    if (this.#lost !== null) throw this.#lost;
    const id = this.#nextId++;
    this.#send({ type: "request", id, command });
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject, onProgress });
    const giveUp = () => {
      this.request({ name: "abort", of: id, reason: encodeError(signal?.reason) }).catch(() => {});
    };
    signal?.addEventListener("abort", giveUp);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** Takes a message of the worker. */
  receive(message: ToCoordinator): void {
    if (message.type === "register") throw new ProtocolError(`rank ${this.rank} registered twice on one connection`);
    const pending = this.#pending.get(message.id);
    if (pending === undefined) {
      throw new ProtocolError(`rank ${this.rank} answered request ${message.id}, which is not open`);
    }
    if (message.type === "progress") {
      this.#progress(message, pending);
      return;
    }
    this.#pending.delete(message.id);
    if (message.type === "result") pending.resolve(message.result);
    else pending.reject(decodeError(message.error));
  }

  /** The connection has closed: whatever is asked, now or later, fails with this error. */
  lose(error: Error): void {
    this.#lost = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#gone.resolve(error);
  }

  #progress({ id, bytes, totalBytes }: Progress, pending: Pending): void {
    try {
      pending.onProgress?.({ bytes, totalBytes });
    } catch (error) {
      const { reject } = pending;
      this.#pending.set(id, { resolve: () => reject(error), reject, onProgress: undefined });
    }
  }
}
