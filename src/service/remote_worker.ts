/**
 * A registered worker, as its coordinator knows it.
 *
 * @module
 */

import type { Register, ToCoordinator, ToWorker, WorkerCommand } from "./messages.ts";
import { ProtocolError } from "./protocol.ts";
import { WorkerClient } from "./worker_client.ts";
import { decodeError } from "./wire_error.ts";

/** How far a redistribution is on one rank, in bytes sent and received. */
export interface RankProgress {
  /** Bytes done. */
  readonly bytes: number;
  /** Bytes in all. */
  readonly totalBytes: number;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
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
   * @throws The worker's own error, of the same class; what {@linkcode RemoteWorker.lose} was given, when the worker is lost.
   */
  request(command: WorkerCommand, onProgress?: (progress: RankProgress) => void): Promise<unknown> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject, onProgress });
    this.#send({ type: "request", id, command });
    return promise;
  }

  /** Takes a message of the worker. */
  receive(message: ToCoordinator): void {
    if (message.type === "register") throw new ProtocolError(`rank ${this.rank} registered twice on one connection`);
    const pending = this.#pending.get(message.id);
    if (pending === undefined) {
      throw new ProtocolError(`rank ${this.rank} answered request ${message.id}, which is not open`);
    }
    if (message.type === "progress") {
      pending.onProgress?.({ bytes: message.bytes, totalBytes: message.totalBytes });
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
}
