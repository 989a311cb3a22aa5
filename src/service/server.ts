/**
 * The HTTP side of a worker or a coordinator: one address, one token, and an end that no client can put off.
 *
 * @module
 */

import { Gate, requireToken } from "./auth.ts";
import { within } from "../wait.ts";

/** Where and for whom to serve. */
export interface ServerOptions {
  /** The address to serve on; 127.0.0.1 unless given. */
  readonly hostname?: string | undefined;
  /** The port to serve on; one that is free unless given. */
  readonly port?: number | undefined;
  /** The token that clients show; null for none, on a loopback address only. */
  readonly token: string | null;
}

/** How long after it was given a small answer is surely on its way, in milliseconds. */
const WRITING_MS = 50;

/** Answers requests that pass the gate. */
export class Server {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #cut = new AbortController();
  /** Of each request without an answer, or whose answer is a stream that the client has not taken yet. */
  readonly #underWay = new Set<Promise<void>>();
  #answeredAt = -Infinity;

  /**
   * Begins to serve.
   *
   * @param handle Answers a request that shows the token; knows the address that it comes from.
   * @param onError Answers a request whose handling threw.
   * @throws {SeqferryError} for a token that is missing or unfit; Deno's own error where the address cannot be had.
   */
  constructor(
    { hostname = "127.0.0.1", port = 0, token }: ServerOptions,
    handle: (request: Request, remote: Deno.NetAddr) => Response | Promise<Response>,
    onError: (error: unknown) => Response,
  ) {
    requireToken(token, hostname);
    const gate = new Gate(token);
    this.#server = Deno.serve(
      { hostname, port, onListen() {}, onError, signal: this.#cut.signal },
      (request, info) => {
        const answered = info.completed.catch(() => {}).finally(() => {
          this.#underWay.delete(answered);
          this.#answeredAt = performance.now();
        });
        this.#underWay.add(answered);
        return gate.refusal(request) ?? handle(request, info.remoteAddr);
      },
    );
  }

  /** The address that it serves on. */
  get addr(): Deno.NetAddr {
    return this.#server.addr;
  }

  /** Ends: requests under way may come to their end for so many milliseconds, and then all connections are closed. */
  async end(graceMs: number): Promise<void> {
    await within(graceMs, Promise.all(this.#underWay));
    const writingMs = Math.max(0, this.#answeredAt + WRITING_MS - performance.now());
    await new Promise((resolve) => setTimeout(resolve, writingMs));
    // The server's own shutdown would wait for whoever does not finish a request.
    this.#cut.abort();
    await this.#server.finished;
  }
}

/** Bytes of a body that go from one piece to the next. */
const PIECE_BYTES = 2 ** 20;

/**
 * A body of many bytes, which goes out as the client takes it: {@linkcode Server.end} then knows when the client has
 * all of it.
 */
export function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(at, at + PIECE_BYTES));
      at += PIECE_BYTES;
    },
  });
}
