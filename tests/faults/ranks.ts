/**
 * Ranks in processes of their own.
 *
 * @module
 */

import { linesOf } from "../../src/lines.ts";
import { native } from "../native.ts";
import { threadsOf } from "../processes.ts";
import { errorFields } from "./judge.ts";
import type { Command } from "./rank.ts";

/** What a rank answered. */
export interface Answer {
  /** The result, where there was no error. */
  ok?: unknown;
  /** The error's name, message and fields. */
  error?: { name: string; message: string } & Record<string, unknown>;
  /** How long the command took, in milliseconds. */
  ms: number;
}

/** One process that takes the commands of a module: those of `rank.ts` unless told otherwise. */
export class RankProcess<C extends { op: string } = Command> implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;
  /** What it was told and has not answered. */
  #command: C | null = null;

  constructor(module: URL = new URL("rank.ts", import.meta.url), flags: readonly string[] = []) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", ...flags, module.href],
      env: { SEQFERRY_CPU_LIBRARY: native.cudart.path },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#answers = linesOf(this.#child.stdout);
  }

  /** Gives a command; resolves with the answer, or null when the process has ended. */
  async tell(command: C): Promise<Answer | null> {
    this.#command = command;
    try {
      await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    } catch {
      return null;
    }
    const { done, value } = await this.#answers.next();
    this.#command = null;
    return done === true ? null : JSON.parse(value);
  }

  /** Gives a command that must succeed. */
  async must(command: C): Promise<unknown> {
    const answer = await this.tell(command);
    if (answer === null || answer.error !== undefined) throw new Error(`${command.op}: ${JSON.stringify(answer)}`);
    return answer.ok;
  }

  /** The process's number. */
  get pid(): number {
    return this.#child.pid;
  }

  /** What its threads are doing, and what it was told last, if it has not answered. */
  state(): string {
    return `${JSON.stringify(this.#command)} ${threadsOf(this.pid).join(", ")}`;
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#child.status;
    await this.#input.close().catch(() => {});
    while ((await this.#answers.next()).done !== true);
  }
}

/** As many processes as ranks, joined. */
export class RankProcesses implements AsyncDisposable {
  readonly ranks: RankProcess[];

  private constructor(worldSize: number) {
    this.ranks = Array.from({ length: worldSize }, () => new RankProcess());
  }

  /** Starts the processes, and nothing else. */
  static start(worldSize: number): RankProcesses {
    return new RankProcesses(worldSize);
  }

  static async open(worldSize: number): Promise<RankProcesses> {
    const world = RankProcesses.start(worldSize);
    await world.join();
    return world;
  }

  /** A unique id made by a rank. */
  async uniqueId(rank = 0): Promise<string> {
    return await this.ranks[rank]!.must({ op: "uniqueId" }) as string;
  }

  async join(): Promise<void> {
    const uniqueId = await this.uniqueId();
    const worldSize = this.ranks.length;
    await Promise.all(this.ranks.map((process, rank) => process.must({ op: "join", uniqueId, rank, worldSize })));
  }

  /** Tells all ranks, or those named, at once. */
  tell(command: Command | ((rank: number) => Command), ranks = [...this.ranks.keys()]): Promise<(Answer | null)[]> {
    return Promise.all(
      ranks.map((rank) => this.ranks[rank]!.tell(typeof command === "function" ? command(rank) : command)),
    );
  }

  /** What the ranks are doing, a line each. */
  state(): string {
    return this.ranks.map((process, rank) => `rank ${rank}: ${process.state()}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.ranks.map((process) => process[Symbol.asyncDispose]()));
  }
}

/** What the process of a rank does: reads one command a line, and answers one line a command. */
export async function obeyLines<C>(obey: (command: C) => Promise<unknown>): Promise<void> {
  const answer = (value: Answer) => Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
  for await (const line of linesOf(Deno.stdin.readable)) {
    const started = performance.now();
    const ms = () => performance.now() - started;
    try {
      answer({ ok: await obey(JSON.parse(line)), ms: ms() });
    } catch (error) {
      answer({ error: errorFields(error), ms: ms() });
    }
  }
}
