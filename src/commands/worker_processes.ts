/**
 * The worker processes of a run on this machine.
 *
 * Each gets the narrowest permissions that serve: this machine's loopback address, the libraries' files, and the variables that name them. Should
 * the run itself be killed, its workers lose their control connections and end by themselves.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";
import type { Libraries } from "../../ffi/open.ts";
import { linesOf } from "../lines.ts";
import { LAUNCH_VARIABLES } from "../service/launch_environment.ts";
import { within } from "../wait.ts";

/** A worker process ended before it was told to. */
export class WorkerDiedError extends SeqferryError {
  /** Its rank. */
  readonly rank: number;
  /** How the process ended. */
  readonly status: Deno.CommandStatus;

  /** `lastWords` is its last line on standard error; empty where there was none. */
  constructor(rank: number, status: Deno.CommandStatus, lastWords: string) {
    const how = status.signal === null ? `with exit code ${status.code}` : `by ${status.signal}`;
    super(`the worker of rank ${rank} ended ${how}${lastWords === "" ? "" : `: ${lastWords}`}`);
    this.rank = rank;
    this.status = status;
  }
}

/** How to start workers. */
export interface SpawnOptions {
  /** How many; their ranks count from 0. */
  readonly count: number;
  /** Their coordinator. */
  readonly coordinator: string;
  /** Their token. */
  readonly token: string;
  /** The libraries that they are to open, as this process opened them. */
  readonly libraries: Libraries;
  /** Told each line of a worker on standard error; {@linkcode WorkerProcesses.death} fires with what it throws. */
  readonly onLine: (rank: number, line: string) => void;
}

/** What a worker runs. */
const WORKER_URL = new URL("../worker.ts", import.meta.url);

/** Processes that end with their owner. */
export class WorkerProcesses implements AsyncDisposable {
  readonly #children: readonly Deno.ChildProcess[];
  readonly #ended: Promise<unknown>;
  readonly #death = new AbortController();
  #stopping = false;

  /** Starts them. */
  constructor(options: SpawnOptions) {
    const { permissions, environment } = scope(options.libraries);
    const where = WORKER_URL.protocol === "file:" ? [] : [`--allow-import=${WORKER_URL.host}`];
    this.#children = Array.from({ length: options.count }, (_, rank) =>
      new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--quiet", "--no-prompt", ...where, ...permissions, WORKER_URL.href],
          ...["--coordinator", options.coordinator, "--rank", String(rank), "--local-rank", String(rank)],
          ...["--backend", options.libraries.backend, "--no-rehearse"],
        ],
        env: { ...environment, SEQFERRY_TOKEN: options.token },
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).spawn());
    this.#ended = Promise.all(this.#children.map((child, rank) => this.#watch(child, rank, options.onLine)));
  }

  /** Fires with a {@linkcode WorkerDiedError} when a process ends untold, and with what `onLine` throws. */
  get death(): AbortSignal {
    return this.#death.signal;
  }

  /** From now on workers may end. */
  expectEnd(): void {
    this.#stopping = true;
  }

  /** Ends the processes: those that are still there are asked to, and after the grace, in milliseconds, killed. */
  async stop(graceMs: number): Promise<void> {
    this.expectEnd();
    this.#signal("SIGTERM");
    if (await within(graceMs, this.#ended) === undefined) this.kill();
    await this.#ended;
  }

  /** Kills what is left, at once. */
  kill(): void {
    this.expectEnd();
    this.#signal("SIGKILL");
  }

  /** As {@linkcode WorkerProcesses.stop}, with a grace of 4 seconds: a worker takes 3 at most to close. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(4_000);
  }

  #signal(signal: Deno.Signal): void {
    for (const child of this.#children) {
      try {
        child.kill(signal);
      } catch {
        // It has ended already.
      }
    }
  }

  async #watch(child: Deno.ChildProcess, rank: number, onLine: (rank: number, line: string) => void): Promise<void> {
    let lastWords = "";
    const reading = (async () => {
      try {
        for await (const line of linesOf(child.stderr)) {
          if (line.trim() === "") continue;
          lastWords = line.replace(/^worker of rank \d+: /, "");
          onLine(rank, lastWords);
        }
      } catch (error) {
        this.#death.abort(error);
      }
    })();
    const status = await child.status;
    await reading;
    if (!this.#stopping && !this.#death.signal.aborted) this.#death.abort(new WorkerDiedError(rank, status, lastWords));
  }
}

/** What a worker may do, and the variables that tell it where the libraries are. */
function scope(libraries: Libraries): { permissions: string[]; environment: Record<string, string> } {
  const { backend, cudart, nccl } = libraries;
  const environment: Record<string, string> = backend === "cpu"
    ? { SEQFERRY_CPU_LIBRARY: cudart.path }
    : { SEQFERRY_CUDART: cudart.path, SEQFERRY_NCCL: nccl.path };
  const paths = [...new Set([cudart.path, nccl.path])];
  // The scope of --allow-ffi is of paths; a library that the loader found by its bare name needs it unscoped.
  const scoped = paths.every((path) => path.startsWith("/") && !path.includes(","));
  const variables = [...Object.keys(environment), "SEQFERRY_TOKEN", ...LAUNCH_VARIABLES];
  return {
    permissions: [
      "--allow-net=127.0.0.1",
      scoped ? `--allow-ffi=${paths.join(",")}` : "--allow-ffi",
      `--allow-env=${variables.join(",")}`,
    ],
    environment,
  };
}
