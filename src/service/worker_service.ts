/**
 * One rank as a service.
 *
 * Over the control connection it takes commands from its coordinator; over HTTP clients bring and fetch samples, and anyone with the token asks
 * how it is:
 *
 * | request | body | answer |
 * |---|---|---|
 * | `GET /health` | | {@linkcode Health}, also in the middle of a transfer |
 * | `PUT /samples` | a batch as safetensors | the ids stored, id by id; all of them or none |
 * | `GET /samples` | | {@linkcode Holdings} |
 * | `POST /samples/get` | `{ids, keys?}` | a batch as safetensors |
 *
 * The worker lives as long as its coordinator: when the control connection closes, or nothing comes over it for long,
 * so does the worker.
 *
 * @module
 */

import {
  ClusterLayout,
  Communicator,
  DataManager,
  ManagerBusyError,
  openRuntime,
  parsePlan,
  type Runtime,
  SampleError,
  SeqferryError,
  SequenceSample,
} from "../../mod.ts";
import { openLibraries } from "../../ffi/open.ts";
import { Deadline, within } from "../wait.ts";
import { bearer, requireToken } from "./auth.ts";
import { ControlSocket } from "./control_socket.ts";
import {
  type Failure,
  type Health,
  type Init,
  PROTOCOL_VERSION,
  type Redistribute,
  type Register,
  type Result,
  type ToCoordinator,
  type WorkerCommand,
} from "./messages.ts";
import { parseSampleRequest, parseToWorker, ProtocolError } from "./protocol.ts";
import { Server, streamOf } from "./server.ts";
import { SilenceWatch } from "./silence.ts";
import { decodeError, encodeError } from "./wire_error.ts";

/** What a worker is started with. */
export interface WorkerServiceOptions {
  /** The coordinator's address: `http://127.0.0.1:4000`. */
  readonly coordinator: URL;
  /** This worker's rank. */
  readonly rank: number;
  /** Which libraries; "auto" unless given. */
  readonly backend?: "auto" | "cuda" | "cpu";
  /** The device's ordinal, modulo the number of devices; the rank unless given. */
  readonly localRank?: number;
  /** The address to serve on; 127.0.0.1 unless given. */
  readonly hostname?: string;
  /** The port to serve on; one that is free unless given. */
  readonly port?: number;
  /** As in {@linkcode DataManagerOptions.rehearse}. */
  readonly rehearse?: boolean;
  /** The token that both the coordinator and this worker's clients use; null for none, on a loopback address only. */
  readonly token: string | null;
  /**
   * How long nothing may come from the coordinator before it counts as gone, in milliseconds; 30,000 unless given. It
   * says something every 10 s.
   */
  readonly silenceMs?: number;
}

/** How a worker ended. */
export interface WorkerEnd {
  /** Whether it was told to, with nothing under way. */
  readonly orderly: boolean;
  /** In words. */
  readonly reason: string;
}

/** The default of {@linkcode WorkerServiceOptions.silenceMs}. */
const SILENCE_MS = 30_000;
/** The longest wait for what is under way when a worker closes, in milliseconds. */
const CLOSING_GRACE_MS = 3_000;

/** One rank as a service. */
export class WorkerService implements AsyncDisposable {
  /** Resolves when the worker has closed; never rejects. */
  readonly ended: Promise<WorkerEnd>;
  readonly #rank: number;
  readonly #runtime: Runtime;
  readonly #rehearse: boolean;
  readonly #server: Server;
  readonly #control: ControlSocket;
  readonly #silence: SilenceWatch;
  readonly #end = Promise.withResolvers<WorkerEnd>();
  /** Of each request that waits for peers, by its number. */
  readonly #underWay = new Map<number, AbortController>();
  #manager: DataManager | null = null;
  #worldSize: number | null = null;
  #state: "starting" | "registered" | "ready" | "failed" = "starting";
  /** How many redistributions are under way or wait for their turn. */
  #moving = 0;
  #joining = false;
  #closing: Promise<void> | null = null;
  #transfer: Health["transfer"] = null;

  private constructor(options: WorkerServiceOptions, runtime: Runtime) {
    const { rank, token, coordinator, hostname = "127.0.0.1", port = 0 } = options;
    this.#rank = rank;
    this.#rehearse = options.rehearse ?? true;
    this.#runtime = runtime;
    this.ended = this.#end.promise;
    this.#server = new Server({ hostname, port, token }, (request) => this.#serve(request), answerError);
    const url = new URL("/control", coordinator);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, { headers: bearer(token) });
    const gone = (reason: string) =>
      void this.close(`the coordinator at ${coordinator.origin} is gone: ${reason}`, false);
    this.#control = new ControlSocket(socket, {
      heard: () => this.#silence.heard(),
      message: (json) => this.#receive(json),
      closed: gone,
    });
    const silenceMs = options.silenceMs ?? SILENCE_MS;
    this.#silence = new SilenceWatch(silenceMs, () => gone(`it said nothing for ${silenceMs / 1000} s`));
    socket.onopen = () => {
      this.#state = "registered";
      this.#send(this.#registration(hostname));
    };
  }

  /**
   * Opens the libraries, serves, and registers with the coordinator. What goes wrong from then on comes out of {@linkcode WorkerService.ended}.
   *
   * @throws {LibraryNotFoundError} and {@linkcode CudaError} as `openRuntime` does; {@linkcode SeqferryError} for a token that is missing or unfit.
   */
  static async start(options: WorkerServiceOptions): Promise<WorkerService> {
    // Before the libraries are opened, which may take long.
    requireToken(options.token, options.hostname ?? "127.0.0.1");
    const backend = options.backend ?? "auto";
    const device = await deviceOf(options.localRank ?? options.rank, backend);
    const runtime = await openRuntime({ backend, device });
    try {
      return new WorkerService(options, runtime);
    } catch (error) {
      runtime[Symbol.dispose]();
      throw error;
    }
  }

  /** The port it serves on. */
  get port(): number {
    return this.#server.addr.port;
  }

  /**
   * Ends the worker: gives up what is under way, lets all data go, closes connection and server; within a grace,
   * whatever happens. Who calls it again waits for the same end.
   */
  close(reason: string, orderly: boolean): Promise<void> {
    return this.#closing ??= this.#close(reason, orderly);
  }

  /** As {@linkcode WorkerService.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close("the worker was disposed", true);
  }

  async #close(reason: string, orderly: boolean): Promise<void> {
    const deadline = new Deadline({ timeoutMs: CLOSING_GRACE_MS });
    this.#silence[Symbol.dispose]();
    const idle = this.#underWay.size === 0;
    const why = new SeqferryError(`the worker of rank ${this.#rank} is closing: ${reason}`);
    for (const controller of this.#underWay.values()) controller.abort(why);
    let end: WorkerEnd = { orderly: orderly && idle, reason };
    try {
      await within(deadline.remainingMs, this.#letGo());
    } catch (error) {
      end = { orderly: false, reason: `${reason}; and then: ${encodeError(error).message}` };
    }
    this.#control.close(reason);
    await this.#server.end(deadline.remainingMs);
    this.#end.resolve(end);
  }

  async #letGo(): Promise<void> {
    await this.#manager?.[Symbol.asyncDispose]();
    this.#runtime[Symbol.dispose]();
  }

  #registration(hostname: string): Register {
    const { backend, device, cudart, nccl } = this.#runtime;
    const unspecified = hostname === "0.0.0.0" || hostname === "::";
    return {
      type: "register",
      protocol: PROTOCOL_VERSION,
      rank: this.#rank,
      hostname: unspecified ? null : hostname,
      port: this.port,
      pid: Deno.pid,
      backend,
      device,
      cudart,
      nccl,
    };
  }

  #send(message: ToCoordinator): void {
    this.#control.send(message);
  }

  #receive(json: unknown): void {
    const message = parseToWorker(json);
    if (message.type === "ping") return;
    if (message.type === "refused") {
      void this.close(`the coordinator refused this worker: ${message.reason}`, false);
      return;
    }
    const { id, command } = message;
    const obeying = this.#closing === null
      ? this.#obey(id, command)
      : Promise.reject(new SeqferryError(`the worker of rank ${this.#rank} is closing`));
    obeying.then(
      (result) => this.#answer({ type: "result", id, result }),
      (error) => this.#answer({ type: "error", id, error: encodeError(error) }),
    ).then(() => {
      if (command.name === "shutdown") void this.close("the coordinator said so", true);
    });
  }

  /** Answers a request; with an error where the answer is too long to be sent. */
  #answer(message: Result | Failure): void {
    try {
      this.#send(message);
    } catch (error) {
      this.#send({ type: "error", id: message.id, error: encodeError(error) });
    }
  }

  /** Does what a command says; its result goes back as JSON. */
  #obey(id: number, command: WorkerCommand): Promise<unknown> {
    switch (command.name) {
      case "createUniqueId":
        return promised(() => this.#runtime.createUniqueId().toBase64());
      case "init":
        return this.#cancellable(id, (signal) => this.#init(command, signal));
      case "setupProcessGroups":
        return this.#cancellable(id, async (signal) => {
          await this.#ready().setupProcessGroups({ timeoutMs: command.timeoutMs, signal });
          return null;
        });
      case "redistribute":
        return this.#cancellable(id, (signal) => this.#redistribute(id, command, signal));
      case "remove":
        return promised(() => {
          this.#ready().remove(command.ids);
          return null;
        });
      case "abort":
        return promised(() => {
          this.#underWay.get(command.of)?.abort(decodeError(command.reason));
          return null;
        });
      case "shutdown":
        return Promise.resolve(null);
    }
  }

  /**
   * Joins a world, and leaves the one before where that has come to nothing; data that is held would be lost with it.
   */
  async #init(command: Init, signal: AbortSignal): Promise<null> {
    if (this.#joining) throw new SeqferryError(`rank ${this.#rank} is joining a world already`);
    const held = this.#manager?.storageSize ?? 0;
    if (held > 0) {
      throw new SeqferryError(
        `rank ${this.#rank} holds ${held} ids in the world that it is in: remove them before it joins another`,
      );
    }
    const { worldSize, timeoutMs } = command;
    const layout = command.layout === null ? undefined : ClusterLayout.fromJSON(command.layout);
    const waiting = { timeoutMs, signal };
    let communicator: Communicator | undefined;
    this.#joining = true;
    try {
      await this.#leave();
      this.#worldSize = worldSize;
      const uniqueId = Uint8Array.fromBase64(command.uniqueId);
      communicator = await Communicator.init(this.#runtime, { uniqueId, rank: this.#rank, worldSize, ...waiting });
      this.#manager = await DataManager.create({
        communicator,
        rehearse: this.#rehearse,
        ...(layout === undefined ? {} : { layout }),
        ...waiting,
      });
      this.#state = "ready";
      return null;
    } catch (error) {
      communicator?.abort();
      await communicator?.ended();
      this.#worldSize = null;
      throw error;
    } finally {
      this.#joining = false;
    }
  }

  async #leave(): Promise<void> {
    const manager = this.#manager;
    this.#manager = null;
    this.#worldSize = null;
    this.#state = "registered";
    await manager?.[Symbol.asyncDispose]();
  }

  async #redistribute(id: number, command: Redistribute, signal: AbortSignal): Promise<unknown> {
    const manager = this.#ready();
    const { timeoutMs, verify } = command;
    const meta = SequenceSample.fromJSON(command.meta);
    const plan = parsePlan(command.plan);
    this.#moving++;
    try {
      const report = await manager.redistribute(meta, plan, {
        timeoutMs,
        verify,
        signal,
        onProgress: (done) => {
          this.#transfer = { ...done };
          this.#send({ type: "progress", id, ...done });
        },
      });
      this.#state = "ready";
      return report;
    } catch (error) {
      this.#state = "failed";
      throw error;
    } finally {
      this.#moving--;
      this.#transfer = null;
    }
  }

  /** Runs a command that waits for peers, so that `abort` reaches it. */
  async #cancellable<T>(id: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#underWay.set(id, controller);
    try {
      return await run(controller.signal);
    } finally {
      this.#underWay.delete(id);
    }
  }

  #ready(): DataManager {
    if (this.#manager === null) throw new SeqferryError(`rank ${this.#rank} has not joined its world yet`);
    return this.#manager;
  }

  #serve(request: Request): Promise<Response> | Response {
    const { pathname } = new URL(request.url);
    switch (`${request.method} ${pathname}`) {
      case "GET /health":
        return Response.json(this.#health());
      case "GET /samples":
        return Response.json({ ids: this.#heldIds(), storageSize: this.#manager?.storageSize ?? 0 });
      case "PUT /samples":
        return this.#putSamples(request);
      case "POST /samples/get":
        return this.#getSamples(request);
      default:
        return answerError(new SampleError(`there is no ${request.method} ${pathname} here`), 404);
    }
  }

  #health(): Health {
    return {
      rank: this.#rank,
      worldSize: this.#worldSize,
      state: this.#closing !== null ? "closing" : this.#moving > 0 ? "moving" : this.#state,
      storageSize: this.#manager?.storageSize ?? 0,
      transfer: this.#transfer,
      backend: this.#runtime.backend,
      device: this.#runtime.device,
      pid: Deno.pid,
    };
  }

  #heldIds(): string[] {
    return this.#manager?.ids ?? [];
  }

  async #putSamples(request: Request): Promise<Response> {
    const manager = this.#ready();
    const batch = SequenceSample.fromSafetensors(new Uint8Array(await request.arrayBuffer()));
    for (const id of batch.ids) {
      if (manager.hasData(id)) {
        throw new SampleError(`rank ${this.#rank} holds the id ${JSON.stringify(id)} already`);
      }
    }
    const stored: string[] = [];
    try {
      for (const sample of batch.unpack()) {
        manager.store(sample);
        stored.push(...sample.ids);
      }
    } catch (error) {
      if (stored.length > 0) manager.remove(stored);
      throw error;
    }
    return Response.json({ stored });
  }

  async #getSamples(request: Request): Promise<Response> {
    const manager = this.#ready();
    const { ids, keys } = parseSampleRequest(await request.json());
    for (const id of ids) {
      if (!manager.hasData(id)) {
        throw new SampleError(`rank ${this.#rank} does not hold the id ${JSON.stringify(id)}`);
      }
    }
    if (ids.length === 0) throw new SampleError("a request for samples names at least one id");
    const samples = await Promise.all(ids.map((id) => {
      const sample = manager.get(id);
      return (keys === undefined ? sample : sample.select(keys)).toHost();
    }));
    const bytes = SequenceSample.gather(samples).toSafetensors();
    const headers = { "content-type": "application/octet-stream", "content-length": `${bytes.length}` };
    return new Response(streamOf(bytes), { headers });
  }
}

/** The device for a local rank: ranks go round the devices there are. */
async function deviceOf(localRank: number, backend: "auto" | "cuda" | "cpu"): Promise<number> {
  const { cudart } = await openLibraries({ backend });
  const devices = new Int32Array(1);
  // A failure here comes back, with its name, from the first call on the device.
  const code = cudart.symbols.cudaGetDeviceCount(devices);
  return code === 0 && devices[0]! > 0 ? localRank % devices[0]! : 0;
}

/** An error as an answer: its class and fields go with it. */
function answerError(error: unknown, status = statusOf(error)): Response {
  return Response.json(encodeError(error), { status });
}

function statusOf(error: unknown): number {
  if (error instanceof ManagerBusyError) return 409;
  if (error instanceof SampleError || error instanceof ProtocolError || error instanceof SyntaxError) return 400;
  return 500;
}

/** Runs at once; what it throws comes out of the promise. */
function promised<T>(run: () => T): Promise<T> {
  return new Promise((resolve) => resolve(run()));
}
