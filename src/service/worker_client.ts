/**
 * Samples to and from a worker, over HTTP: straight between the one who has or wants them and the worker.
 *
 * @module
 */

import { SequenceSample, type WaitOptions } from "../../mod.ts";
import { Deadline, inTime } from "../wait.ts";
import { bearer } from "./auth.ts";
import type { Health, Holdings } from "./messages.ts";
import { parseHealth, parseHoldings, parseWireError } from "./protocol.ts";
import { decodeError } from "./wire_error.ts";

/** Speaks to one worker. */
export class WorkerClient {
  /** The worker's address: `http://127.0.0.1:40001`. */
  readonly url: string;
  readonly #token: string | null;

  /** Connects with the first request. */
  constructor(url: string, token: string | null) {
    this.url = url;
    this.#token = token;
  }

  /** How the worker is. */
  async health(options: WaitOptions = {}): Promise<Health> {
    return parseHealth(await this.#request("GET", "/health", null, options, (response) => response.json()));
  }

  /** Which ids the worker holds. */
  async holdings(options: WaitOptions = {}): Promise<Holdings> {
    return parseHoldings(await this.#request("GET", "/samples", null, options, (response) => response.json()));
  }

  /**
   * Stores a batch on the worker, id by id.
   *
   * @param batch Its data on the host, or metadata only.
   * @throws {SampleError} for an id that the worker holds already; nothing is stored then.
   */
  async put(batch: SequenceSample, options: WaitOptions = {}): Promise<void> {
    await this.#request("PUT", "/samples", batch.toSafetensors(), options, (response) => response.json());
  }

  /**
   * Fetches samples as one batch, in the order of `ids`.
   *
   * @param ids At least one.
   * @param keys Which keys; all of them unless given.
   * @throws {SampleError} for an id or a key that the worker does not hold.
   */
  async get(ids: readonly string[], keys?: readonly string[], options: WaitOptions = {}): Promise<SequenceSample> {
    const body = new TextEncoder().encode(JSON.stringify(keys === undefined ? { ids } : { ids, keys }));
    const bytes = await this.#request("POST", "/samples/get", body, options, (response) => response.arrayBuffer());
    return SequenceSample.fromSafetensors(new Uint8Array(bytes));
  }

  async #request<T>(
    method: string,
    path: string,
    body: Uint8Array | null,
    options: WaitOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const deadline = new Deadline(options);
    const what = `${method} ${this.url}${path}`;
    deadline.check(what);
    const late = () => new DOMException(`${what} took over ${deadline.timeoutMs} ms`, "TimeoutError");
    const controller = new AbortController();
    const asking = async () => {
      const response = await fetch(this.url + path, {
        method,
        headers: bearer(this.#token),
        signal: controller.signal,
        ...(body === null ? {} : { body: body as Uint8Array<ArrayBuffer> }),
      });
      if (response.ok) return await read(response);
      throw errorOf(`${what} answered ${response.status}`, await response.text());
    };
    try {
      return await inTime(asking(), deadline.remainingMs, late, deadline.signal);
    } catch (error) {
      controller.abort(error);
      throw error;
    }
  }
}

/** The error in a worker's answer, or one that shows the answer where there is none in it. */
function errorOf(what: string, text: string): Error {
  try {
    return decodeError(parseWireError(JSON.parse(text)));
  } catch {
    return new Error(`${what}: ${text.trim().slice(0, 500)}`);
  }
}
