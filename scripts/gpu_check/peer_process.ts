/**
 * The processes of the check. Everything native happens in one of them, so that neither a hang nor a crash there takes the check with it.
 *
 * @module
 */

import { linesOf } from "../../src/lines.ts";
import { Missed, Skip } from "./check.ts";
import { ANSWER, type Answer } from "./protocol.ts";

/** How many of a process's last lines are kept for the report. */
const LAST_LINES = 6;

/** How long a killed process may take to go, in milliseconds. One that is inside the driver may never go, and nobody waits for it. */
const KILL_MS = 5000;

const alive = new Set<ChildHandle>();

/** Kills all processes that are there, and resolves when they are gone, or soon. */
export async function endProcesses(): Promise<void> {
  await Promise.all([...alive].map((handle) => handle.kill()));
}

/** What is common to all processes of the check: they can be killed, and their last words are kept. */
class ChildHandle {
  readonly child: Deno.ChildProcess;
  readonly status: Promise<Deno.CommandStatus>;
  readonly #lines: string[] = [];

  constructor(command: Deno.Command) {
    this.child = command.spawn();
    alive.add(this);
    this.status = this.child.status.finally(() => alive.delete(this));
  }

  keep(line: string): void {
    if (line.trim() === "") return;
    this.#lines.push(line.trimEnd());
    if (this.#lines.length > LAST_LINES) this.#lines.shift();
  }

  /** How it ended, and its last lines, as the end of a sentence. */
  async lastWords(): Promise<string> {
    const { code, signal } = await this.status;
    const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
    return this.#lines.length === 0 ? how : `${how}; last it said: ${this.#lines.join(" | ")}`;
  }

  /** Kills it; answers whether it is gone. */
  async kill(): Promise<boolean> {
    try {
      this.child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const given = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), KILL_MS));
    const gone = await Promise.race([this.status.then(() => true), given]);
    clearTimeout(timer);
    return gone;
  }
}

/** A program that obeys one JSON command a line and answers as {@linkcode ANSWER} says. Ending it kills it. */
export class PeerProcess<Command> implements AsyncDisposable {
  readonly #handle: ChildHandle;
  readonly #name: string;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncGenerator<Answer>;
  readonly #errors: Promise<void>;

  /** Starts a program; `name` is what the report calls it. */
  constructor(name: string, program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#name = name;
    const handle = new ChildHandle(
      new Deno.Command(program, { args: [...args], env, stdin: "piped", stdout: "piped", stderr: "piped" }),
    );
    this.#handle = handle;
    const { child } = handle;
    this.#input = child.stdin.getWriter();
    this.#answers = this.#read(child.stdout);
    this.#errors = (async () => {
      for await (const line of linesOf(child.stderr)) handle.keep(line);
    })();
  }

  /** Starts a Deno script of this folder. */
  static deno<Command>(
    name: string,
    script: string,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
  ): PeerProcess<Command> {
    const url = new URL(script, import.meta.url).href;
    return new PeerProcess(name, Deno.execPath(), ["run", "-A", "--quiet", "--no-check", url, ...args], env);
  }

  /** The process's id. */
  get pid(): number {
    return this.#handle.child.pid;
  }

  /** Whether it is there. */
  get isAlive(): boolean {
    return alive.has(this.#handle);
  }

  /** Gives a command; null when the process ends instead of answering. */
  async tell<Result>(command: Command): Promise<Answer<Result> | null> {
    try {
      await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    } catch {
      return null;
    }
    const { done, value } = await this.#answers.next();
    return done ? null : value as Answer<Result>;
  }

  /** Gives a command, and answers its result. Throws {@linkcode Missed} for an error and for an end, {@linkcode Skip} where the process says so. */
  async must<Result>(command: Command): Promise<Result> {
    const answer = await this.tell<Result>(command);
    if (answer === null) throw await this.endedError();
    if (answer.error === undefined) return answer.ok as Result;
    const { name, message, numbers } = answer.error;
    if (name === "Skip") throw new Skip(message);
    throw new Missed(`${this.#name}: ${name === "Missed" ? "" : `${name}: `}${message}`, numbers);
  }

  /** The error to raise for a process that has ended and was not to. */
  async endedError(): Promise<Missed> {
    await this.#errors;
    return new Missed(`${this.#name} ended ${await this.#handle.lastWords()}`);
  }

  async *#read(stdout: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Answer> {
    for await (const line of linesOf(stdout)) {
      // What another library was printing when the answer came may stand before it on the line.
      const at = line.indexOf(ANSWER);
      if (at >= 0) yield JSON.parse(line.slice(at + ANSWER.length));
      else this.#handle.keep(line);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!await this.#handle.kill()) return;
    await this.#input.close().catch(() => {});
    await this.#errors;
    await this.#answers.return(undefined);
    // Where nothing was ever read, the generator never took the stream.
    await this.#handle.child.stdout.cancel().catch(() => {});
  }
}

/** Runs a program to its end, and answers what it printed; it is killed with the others, or when its own time is up. Throws where there is no such program. */
export async function runToEnd(
  program: string,
  args: readonly string[],
  { timeoutMs, ...options }: { env?: Readonly<Record<string, string>>; cwd?: URL; timeoutMs?: number } = {},
): Promise<{ success: boolean; stdout: string; stderr: string }> {
  const handle = new ChildHandle(
    new Deno.Command(program, { args: [...args], ...options, stdin: "null", stdout: "piped", stderr: "piped" }),
  );
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => handle.kill(), timeoutMs);
  const [stdout, stderr, status] = await Promise.all([
    new Response(handle.child.stdout).text(),
    new Response(handle.child.stderr).text(),
    handle.status,
  ]);
  clearTimeout(timer);
  return { success: status.success, stdout, stderr };
}
