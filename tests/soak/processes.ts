/**
 * Rounds of a soak on ranks in processes, which are killed and stopped at random moments of a transfer.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { type Answer, RankProcess } from "../faults/ranks.ts";
import { isAlive } from "../processes.ts";
import { differences, type Figures } from "./figures.ts";
import type { Command } from "./rank.ts";
import { pick, rollOf } from "./roll.ts";
import type { Tally } from "./rounds.ts";

/** How many processes. */
const WORLD_SIZE = 3;
/** Far beyond what a transfer takes: a killed process is seen long before. */
const LONG_MS = 20_000;
/** What a transfer is given that a stopped process, or one that nothing reaches, is to fail. */
const SHORT_MS = 150;
/** How soon survivors know of a killed process, and what a machine with other work may add. */
const SEEN_WITHIN_MS = 1000 + 1500;

/** What happens to one of the processes. */
const FAULTS = [
  "nothing",
  "killed",
  "killed",
  "killed in a copy",
  "stopped",
  "paused",
  "stream stalls",
  "link drops",
] as const;

type Rank = RankProcess<Command>;

/** Processes that run one round after another. */
export class ProcessRounds implements AsyncDisposable {
  #ranks: Rank[] = [];
  readonly #pids: number[] = [];
  /** By rank, what its process held when it was idle first; undefined for one that has just started. */
  readonly #begin: (Figures | undefined)[] = [];
  readonly #seed: number;
  #draw: Command | undefined;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Runs one round. Throws what did not hold; then the next round has new processes. */
  async run(round: number): Promise<{ kind: string } & Partial<Tally>> {
    const roll = rollOf(this.#seed, -1 - round);
    const fault = pick(roll, FAULTS);
    const victim = roll(WORLD_SIZE);
    const kind = `processes: ${fault === "nothing" ? "no fault" : `one is ${fault}`}`
      .replace("is stream", "'s stream").replace("is link", "'s link").replace("one '", "one'");
    const size = pick(roll, [20, 300, 3000, 20_000]);
    try {
      if (this.#ranks.length === 0) await this.#start();
      this.#draw = { op: "draw", seed: this.#seed, round: -1 - round, size, worldSize: WORLD_SIZE };
      await this.#all(this.#draw);
      await this.#all({ op: "load" });
      const { failed, unknown } = await this.#strike(fault, victim, roll(1000));
      await this.#all({ op: "transfer", timeoutMs: LONG_MS, verify: false });
      await this.#all({ op: "holds", what: "after" });
      await this.#all({ op: "clear" });
      await this.#compare();
      return { kind, failed: failed ? 1 : 0, settled: unknown ? 1 : 0 };
    } catch (error) {
      await this.#drop();
      throw new Error(
        `seed ${this.#seed}, process round ${round}, ${kind}, rank ${victim}: ${
          error instanceof Error ? error.stack : error
        }`,
        { cause: error },
      );
    }
  }

  async #start(): Promise<void> {
    this.#ranks = Array.from({ length: WORLD_SIZE }, () => this.#process());
    this.#begin.length = 0;
    const uniqueId = await this.#ranks[0]!.must({ op: "uniqueId" }) as string;
    await this.#each((rank) => ({ op: "join", uniqueId, rank, worldSize: WORLD_SIZE }));
  }

  #process(): Rank {
    const process = new RankProcess<Command>(new URL("rank.ts", import.meta.url), ["--v8-flags=--expose-gc"]);
    this.#pids.push(process.pid);
    return process;
  }

  /** Runs the transfer with the fault, and settles what comes of it. */
  async #strike(fault: typeof FAULTS[number], victim: number, moment: number) {
    const ranks = this.#ranks;
    const short = fault === "stopped" || fault === "stream stalls" || fault === "link drops";
    const faults = fault === "killed in a copy"
      ? `*>${victim}:1B=kill`
      : fault === "stream stalls"
      ? `group@${victim}:${1 + moment % 5}=hang`
      : fault === "link drops"
      ? `*>${victim}:${1 + moment % 5}=hang`
      : undefined;
    const answering = ranks.map((process, rank) =>
      process.tell({
        op: "transfer",
        timeoutMs: short ? SHORT_MS : LONG_MS,
        verify: moment % 3 === 0,
        ...(rank === victim && faults !== undefined ? { faults } : {}),
      })
    );
    await new Promise((resolve) => setTimeout(resolve, moment / 100));
    const struck = performance.now();
    if (fault === "killed") ranks[victim]!.signal("SIGKILL");
    if (fault === "stopped" || fault === "paused") ranks[victim]!.signal("SIGSTOP");
    if (fault === "paused") setTimeout(() => ranks[victim]!.signal("SIGCONT"), moment / 10);
    const others = answering.filter((_, rank) => rank !== victim);
    const survivors = await Promise.all(others);
    const seen = performance.now() - struck;
    if (fault === "stopped") {
      // It wakes after the others have given up, and half of the time after they have come together again.
      if (moment % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      ranks[victim]!.signal("SIGCONT");
    }
    const own = await answering[victim]!;
    const answers = [...survivors.slice(0, victim), own, ...survivors.slice(victim)];
    // One that was killed may have answered before.
    const lost = own === null || fault === "killed" ? victim : null;
    if (lost !== null) assert(seen < SEEN_WITHIN_MS, `the death of rank ${victim} was seen after ${seen} ms`);
    const unknown = judge(answers, lost);
    // What a rank that is gone had committed, nobody knows.
    const done = answers.some((answer, rank) => rank !== lost && answer?.error === undefined);
    const failed = lost !== null || answers.some((answer) => answer?.error !== undefined);
    await this.#each(
      (rank) => ({ op: "holds", what: answers[rank]!.error === undefined ? "after" : "before" }),
      lost,
    );
    if (!failed) return { failed, unknown };
    if (lost !== null) {
      await ranks[lost]![Symbol.asyncDispose]();
      ranks[lost] = this.#process();
      this.#begin[lost] = undefined;
    }
    const uniqueId = await ranks[lost === 0 ? 1 : 0]!.must({ op: "uniqueId" }) as string;
    await this.#each((rank) =>
      rank === lost
        ? { op: "join", uniqueId, rank, worldSize: WORLD_SIZE }
        : { op: "rebuild", uniqueId, timeoutMs: LONG_MS }
    );
    if (lost !== null) await ranks[lost]!.must(this.#draw!);
    await this.#each((rank) => ({ op: "holds", what: rank === lost ? "nothing" : done ? "after" : "before" }));
    if (lost !== null) await ranks[lost]!.must({ op: "load" });
    return { failed, unknown };
  }

  #all(command: Command): Promise<unknown[]> {
    return this.#each(() => command);
  }

  /** Tells all ranks but one, at once; all must obey. */
  #each(command: (rank: number) => Command, except: number | null = null): Promise<unknown[]> {
    return Promise.all(
      this.#ranks.map((process, rank) => rank === except ? Promise.resolve(null) : process.must(command(rank))),
    );
  }

  /** An idle process holds what it held when it was idle first. */
  async #compare(): Promise<void> {
    await this.#each((rank) => this.#begin[rank] === undefined ? { op: "warmUp" } : { op: "clear" });
    const limit = performance.now() + 5000;
    while (true) {
      const now = await this.#all({ op: "figures" }) as Figures[];
      const wrong = now.flatMap((figures, rank) => differences(this.#begin[rank] ??= figures, figures));
      if (wrong.length === 0) return;
      if (performance.now() > limit) throw new Error(wrong.join("; "));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #drop(): Promise<void> {
    await Promise.all(this.#ranks.splice(0).map((process) => process[Symbol.asyncDispose]()));
  }

  /** Ends the processes in order: none is left, and none has left anything on its device. */
  async end(): Promise<void> {
    if (this.#ranks.length > 0) {
      for (const figures of await this.#all({ op: "end" }) as Figures[]) {
        assertEquals([figures.liveBytes, figures.liveAllocations, figures.liveCommunicators], [0, 0, 0]);
      }
    }
    await this.#drop();
    assertEquals(this.#pids.filter(isAlive), [], "processes that are left");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drop();
  }
}

/** Whether the answers are those that the semantics allow. Answers whether some rank could not learn the outcome. */
function judge(answers: readonly (Answer | null)[], lost: number | null): boolean {
  const story = JSON.stringify(answers);
  const errors = answers.flatMap((answer) => answer?.error === undefined ? [] : [answer.error]);
  const done = answers.some((answer) => answer !== null && answer.error === undefined);
  for (const { name, outcome, rank } of errors) {
    assert(["DeadlineError", "PeerLostError"].includes(name), story);
    assert(outcome === "unknown" || (outcome === "unchanged" && !done), story);
    if (name === "PeerLostError") assertEquals(rank, lost, story);
    else assert(lost === null, `a lost peer was taken for a slow one: ${story}`);
  }
  return errors.some(({ outcome }) => outcome === "unknown");
}
