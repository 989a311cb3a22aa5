/**
 * The coordinator: where workers find each other, and the one that tells them what to do together.
 *
 * Workers register by rank. When all are there, rank 0 makes the unique id, and all get it with the world's size and the layout. No tensor passes
 * through here. A worker whose control connection closes is lost: what the others have under way is given up at once, without waiting for a
 * deadline.
 *
 * @module
 */

import {
  type ClusterLayout,
  DeadlineError,
  PeerLostError,
  planToJSON,
  type RedistribReport,
  type RedistribStep,
  RedistributeRefusedError,
  SeqferryError,
  type SequenceSample,
  VerificationError,
  type WaitOptions,
} from "../../mod.ts";
import { beforeStart, Deadline, inTime, within } from "../wait.ts";
import { MAX_RANKS } from "../layout/process_topology.ts";
import { ControlSocket } from "./control_socket.ts";
import type { Register } from "./messages.ts";
import { parseReport, parseToCoordinator, parseUniqueId } from "./protocol.ts";
import { type RankProgress, RemoteWorker } from "./remote_worker.ts";
import { Server, type ServerOptions } from "./server.ts";
import { encodeError } from "./wire_error.ts";

/** What a coordinator is started with. */
export interface CoordinatorOptions extends ServerOptions {
  /** How many ranks there will be. */
  readonly worldSize: number;
  /**
   * How long workers have to answer once they were told to give up or to end, and clients to take their answers, in
   * milliseconds; 5000 unless given.
   */
  readonly graceMs?: number;
  /**
   * How often workers are told that their coordinator is there, in milliseconds; 10,000 unless given. They end after
   * 30 s without a word.
   */
  readonly pingMs?: number;
}

/** What a redistribution of all ranks takes. */
export interface CollectiveOptions extends WaitOptions {
  /** Checks each tensor by a digest before it is installed; false unless given. */
  readonly verify?: boolean;
  /**
   * Told as ranks report: bytes of all ranks, sent and received. What it throws does not end the transfer, and is
   * thrown when that has come to its end; it is told nothing more of that rank.
   */
  readonly onProgress?: (done: { bytes: number; totalBytes: number }) => void;
}

/** Ranks that answer after this many milliseconds more, when one has failed, are told to give up. */
const STRAGGLER_MS = 1_000;
/** The default of {@linkcode CoordinatorOptions.graceMs}. */
const GRACE_MS = 5_000;
/** The default of {@linkcode CoordinatorOptions.pingMs}. */
const PING_MS = 10_000;
/** A worker that does not answer the WebSocket's own pings for this many seconds is lost. */
const IDLE_SECONDS = 30;

/** Rendezvous and command of one world of workers. */
export class Coordinator implements AsyncDisposable {
  /** Where workers find it: `http://127.0.0.1:4000`. */
  readonly url: string;
  /** How many ranks there are to be. */
  readonly worldSize: number;
  readonly #token: string | null;
  readonly #graceMs: number;
  readonly #server: Server;
  readonly #workers: (RemoteWorker | undefined)[];
  readonly #sockets = new Set<ControlSocket>();
  readonly #pinging: ReturnType<typeof setInterval>;
  /** Resolves when all have registered. */
  #complete = Promise.withResolvers<void>();
  #started = false;
  #closing = false;

  private constructor(options: CoordinatorOptions) {
    const { worldSize, token } = options;
    this.worldSize = worldSize;
    this.#token = token;
    this.#graceMs = options.graceMs ?? GRACE_MS;
    this.#workers = new Array<RemoteWorker | undefined>(worldSize).fill(undefined);
    this.#server = new Server(
      options,
      (request, remote) => this.#serve(request, remote),
      (error) => new Response(`${encodeError(error).message}\n`, { status: 500 }),
    );
    this.#pinging = setInterval(() => {
      for (const socket of this.#sockets) socket.send({ type: "ping" });
    }, options.pingMs ?? PING_MS);
    const { addr } = this.#server;
    this.url = `http://${hostText(addr.hostname)}:${addr.port}`;
  }

  /**
   * Begins to serve.
   *
   * @throws {SeqferryError} for a token that is missing or unfit; Deno's own error where the address cannot be had.
   */
  static listen(options: CoordinatorOptions): Coordinator {
    const { worldSize } = options;
    if (!Number.isSafeInteger(worldSize) || worldSize < 1 || worldSize > MAX_RANKS) {
      throw new SeqferryError(`worldSize is an integer from 1 to ${MAX_RANKS}, not ${worldSize}`);
    }
    return new Coordinator(options);
  }

  /** The worker of a rank that has registered. */
  worker(rank: number): RemoteWorker {
    const worker = this.#workers[rank];
    if (worker === undefined) throw new SeqferryError(`no worker of rank ${rank} has registered`);
    return worker;
  }

  /**
   * The ranks without a worker, ascending. Before the world has started, a worker that is lost leaves its rank to
   * another; later its rank stays taken.
   */
  missingRanks(): number[] {
    return [...this.#workers.keys()].filter((rank) => this.#workers[rank] === undefined);
  }

  /**
   * Waits until all ranks have registered, and their workers are there.
   *
   * @throws {SeqferryError} that names the missing ranks, when the deadline passes; the signal's reason, when it fires.
   */
  async registered(options: WaitOptions = {}): Promise<void> {
    const deadline = new Deadline(options);
    const late = () =>
      new SeqferryError(
        `within ${deadline.timeoutMs} ms no worker registered for rank ${this.missingRanks().join(", ")}`,
      );
    await inTime(this.#complete.promise, deadline.remainingMs, late, deadline.signal);
  }

  /**
   * Brings all registered ranks into one world: rank 0 makes the unique id, all join, and the process groups are set
   * up. After a failure it can be called again: workers that had joined leave that world, and refuse to where they hold
   * samples already.
   *
   * @param layout Which model shard sits on which rank, or null.
   * @throws {SeqferryError} for a world that has started. As {@linkcode Coordinator.registered} until all are there; then
   * {@linkcode DeadlineError} when the deadline passes or the signal fires, {@linkcode PeerLostError} when a worker is lost, and what
   * `Communicator.init` and `DataManager.setupProcessGroups` throw.
   */
  async start(layout: ClusterLayout | null, options: WaitOptions = {}): Promise<void> {
    if (this.#started) throw new SeqferryError("the world has started already");
    const deadline = new Deadline(options);
    await this.registered(options);
    const workers = this.#all();
    const [uniqueId] = await this.#together(
      "making the unique id",
      workers.slice(0, 1),
      deadline,
      async (worker, { signal }) => parseUniqueId(await worker.request({ name: "createUniqueId" }, { signal })),
    );
    const init = {
      name: "init" as const,
      worldSize: this.worldSize,
      uniqueId: uniqueId!,
      layout: layout?.toJSON() ?? null,
    };
    await this.#together(
      "joining the world",
      workers,
      deadline,
      (worker, { timeoutMs, signal }) => worker.request({ ...init, timeoutMs }, { signal }),
    );
    await this.#together(
      "setting up the process groups",
      workers,
      deadline,
      (worker, { timeoutMs, signal }) => worker.request({ name: "setupProcessGroups", timeoutMs }, { signal }),
    );
    this.#started = true;
  }

  /**
   * Redistributes on all ranks.
   *
   * @param meta Ids, keys, dtypes, shapes and lengths of what moves.
   * @param plan The steps.
   * @returns By rank what it did.
   * @throws What `DataManager.redistribute` throws; {@linkcode PeerLostError} when a worker is lost. A {@linkcode DeadlineError} says
   * "unchanged" where all ranks do, and its cause is the reason of a signal that fired; where all ranks had come to the
   * end by then, their reports are returned.
   */
  async redistribute(
    meta: SequenceSample,
    plan: readonly RedistribStep[],
    options: CollectiveOptions = {},
  ): Promise<RedistribReport[]> {
    const command = {
      name: "redistribute" as const,
      meta: meta.meta().toJSON(),
      plan: planToJSON(plan),
      verify: options.verify ?? false,
    };
    const done = Array.from({ length: this.worldSize }, () => ({ bytes: 0, totalBytes: 0 }));
    const report = (rank: number, progress: RankProgress) => {
      done[rank] = progress;
      options.onProgress?.({
        bytes: done.reduce((sum, { bytes }) => sum + bytes, 0),
        totalBytes: done.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
      });
    };
    const deadline = new Deadline(options);
    return await this.#together("the transfer", this.#all(), deadline, async (worker, { timeoutMs, signal }) => {
      const onProgress = (progress: RankProgress) => report(worker.rank, progress);
      return parseReport(await worker.request({ ...command, timeoutMs }, { signal, onProgress }));
    });
  }

  /** Tells all workers to end. Resolves when all connections have closed, or after the grace. */
  async shutdown(): Promise<void> {
    this.#closing = true;
    const workers = this.#workers.filter((worker) => worker !== undefined);
    const ending = workers.map(async (worker) => {
      await worker.request({ name: "shutdown" }).catch(() => {});
      await worker.gone;
    });
    await within(this.#graceMs, Promise.all(ending));
  }

  /** Closes all connections, which ends the workers, and the server; waits for no client beyond the grace. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    clearInterval(this.#pinging);
    for (const socket of this.#sockets) socket.close("the coordinator ends");
    await this.#server.end(this.#graceMs);
  }

  #serve(request: Request, remote: Deno.NetAddr): Response {
    const { pathname } = new URL(request.url);
    if (pathname === "/health" && request.method === "GET") {
      return Response.json({ worldSize: this.worldSize, missingRanks: this.missingRanks() });
    }
    if (pathname !== "/control") return new Response(`there is no ${pathname} here\n`, { status: 404 });
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return new Response("/control is a WebSocket\n", { status: 426, headers: { upgrade: "websocket" } });
    }
    let upgrade: Deno.WebSocketUpgrade;
    try {
      upgrade = Deno.upgradeWebSocket(request, { idleTimeout: IDLE_SECONDS });
    } catch (error) {
      return new Response(`this is no request for a WebSocket: ${encodeError(error).message}\n`, { status: 400 });
    }
    const { socket, response } = upgrade;
    let worker: RemoteWorker | undefined;
    const control = new ControlSocket(socket, {
      message: (json) => {
        const message = parseToCoordinator(json);
        if (worker !== undefined) worker.receive(message);
        else if (message.type === "register") worker = this.#register(message, control, remote.hostname);
        else control.close("the first message of a worker is its registration");
      },
      closed: (reason) => {
        this.#sockets.delete(control);
        if (worker !== undefined) this.#lose(worker, reason);
      },
    });
    this.#sockets.add(control);
    return response;
  }

  #register(message: Register, control: ControlSocket, seenAt: string): RemoteWorker | undefined {
    const { rank } = message;
    const refuse = (reason: string): undefined => {
      control.send({ type: "refused", reason });
      control.close(reason);
    };
    if (this.#closing) return refuse("the coordinator is closing");
    if (rank >= this.worldSize) return refuse(`its rank is ${rank}, and there are ${this.worldSize} ranks`);
    if (this.#workers[rank] !== undefined) return refuse(`there is a worker of rank ${rank} already`);
    const url = `http://${hostText(message.hostname ?? seenAt)}:${message.port}`;
    const worker = new RemoteWorker(message, url, this.#token, (request) => control.send(request));
    this.#workers[rank] = worker;
    if (this.missingRanks().length === 0) this.#complete.resolve();
    return worker;
  }

  #lose(worker: RemoteWorker, reason: string): void {
    const lost = new PeerLostError(`the worker of rank ${worker.rank} is gone: ${reason}`, {
      rank: worker.rank,
      phase: -1,
      outcome: "unknown",
    });
    worker.lose(lost);
    if (this.#started) return;
    if (this.missingRanks().length === 0) this.#complete = Promise.withResolvers();
    this.#workers[worker.rank] = undefined;
  }

  /** The workers of all ranks, in their order. */
  #all(): RemoteWorker[] {
    return Array.from({ length: this.worldSize }, (_, rank) => this.worker(rank));
  }

  /**
   * Runs a collective on some workers; when one fails, those that have not answered give up. The error is the one that
   * says most.
   *
   * @param run Is told how long the worker may take, and the signal that has it give up.
   */
  async #together<T>(
    what: string,
    workers: readonly RemoteWorker[],
    deadline: Deadline,
    run: (worker: RemoteWorker, waiting: Required<WaitOptions>) => Promise<T>,
  ): Promise<T[]> {
    const { signal } = deadline;
    try {
      deadline.check(what);
    } catch (error) {
      throw beforeStart(what, error);
    }
    // JSON has no Infinity.
    const timeoutMs = Math.min(deadline.remainingMs, Number.MAX_SAFE_INTEGER);
    const givingUp = new AbortController();
    const unanswered = new Set(workers.map(({ rank }) => rank));
    const errors: unknown[] = [];
    const running = workers.map((worker) =>
      run(worker, { timeoutMs, signal: givingUp.signal }).catch((error) => {
        errors.push(error);
        throw error;
      }).finally(() => unanswered.delete(worker.rank))
    );
    const all = Promise.all(running);
    const late = () => endedEarly(what, `did not end within ${deadline.timeoutMs} ms`, unanswered, errors);
    try {
      // The ranks have the same deadline, and know more: they go first.
      return await inTime(all, deadline.remainingMs + STRAGGLER_MS, late, signal);
    } catch (reason) {
      const settled = Promise.allSettled(running);
      const urgent = reason instanceof PeerLostError || signal?.aborted === true;
      if (!urgent) await within(STRAGGLER_MS, settled);
      givingUp.abort(reason);
      await within(this.#graceMs, settled);
      if (unanswered.size === 0 && errors.length === 0) return await all;
      if (signal?.aborted === true) {
        const why = `was given up: ${encodeError(signal.reason).message}`;
        throw endedEarly(what, why, unanswered, errors, { cause: signal.reason });
      }
      if (unanswered.size > 0) throw urgent ? reason : silent(what, [...unanswered], reason);
      throw mostTelling(errors, reason);
    }
  }
}

/** The error of a collective that ended before all ranks had answered; its outcome is that of the ranks together. */
function endedEarly(
  what: string,
  why: string,
  unanswered: ReadonlySet<number>,
  errors: readonly unknown[],
  options?: ErrorOptions,
): DeadlineError {
  const outstanding = [...unanswered];
  const answers = outstanding.length === 0
    ? ""
    : `; there was no answer from the worker of rank ${outstanding.join(", ")}`;
  const known = outstanding.length === 0 &&
    !errors.some((error) => error instanceof SeqferryError && error.outcome === "unknown");
  const phase = errors.find((error) => error instanceof DeadlineError)?.phase ?? -1;
  return new DeadlineError(`${what} ${why}${answers}`, {
    phase,
    outstanding,
    outcome: known ? "unchanged" : "unknown",
  }, options);
}

/** Ranks that do not even answer that they gave up are the cause of the others' failure, rather than those that these name. */
function silent(what: string, outstanding: readonly number[], first: unknown): DeadlineError {
  const facts = first instanceof DeadlineError ? first : { phase: -1, outcome: "unknown" as const };
  return new DeadlineError(
    `${what}: the worker of rank ${outstanding.join(", ")} does not answer; and elsewhere: ${
      encodeError(first).message
    }`,
    { phase: facts.phase, outstanding, outcome: facts.outcome },
    { cause: first },
  );
}

/** A verdict that all ranks share goes first, then the loss of a worker, then whatever failed first. */
function mostTelling(errors: readonly unknown[], first: unknown): unknown {
  return errors.find((error) => error instanceof RedistributeRefusedError || error instanceof VerificationError) ??
    errors.find((error) => error instanceof PeerLostError) ?? first;
}

/** An address as it stands in a URL. */
function hostText(hostname: string): string {
  return hostname.includes(":") && !hostname.startsWith("[") ? `[${hostname}]` : hostname;
}
