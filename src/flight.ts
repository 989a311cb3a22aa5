/**
 * The flight record: what a rank enqueued, started and finished, and when, in a bounded ring.
 *
 * Every error of a transfer carries its rank's record. The records of all ranks, put side by side, tell who is missing, who is late, and who issued something
 * else than its peer expected. Pure.
 *
 * @module
 */

/** What an entry is about: the agreement, a phase, the verification, the commit, or a collective outside of transfers. */
export type FlightStage = "agreement" | "phase" | "verification" | "commit" | "set-up";

/** One event on one rank. */
export interface FlightEntry {
  /** Milliseconds since 1970, with fractions, on this machine's clock. */
  readonly at: number;
  /** The number of the transfer, as this rank counts: the same on all ranks once they have agreed. */
  readonly transfer: number;
  /** Which part of the transfer. */
  readonly stage: FlightStage;
  /** The phase's number, from 0; -1 outside the phases. */
  readonly phase: number;
  /** Handed to the library; accepted by it; passed by the stream; or given up. */
  readonly event: "enqueued" | "started" | "finished" | "failed";
  /** The positions in the plan of the steps that this rank serves in the phase. */
  readonly steps?: readonly number[];
  /** The keys that this rank moves in the phase. */
  readonly keys?: readonly string[];
  /** Bytes to each peer. */
  readonly sends?: readonly { readonly peer: number; readonly bytes: number }[];
  /** Bytes from each peer. */
  readonly receives?: readonly { readonly peer: number; readonly bytes: number }[];
  /** The error's sentence, where there was one. */
  readonly error?: string;
}

/** How many entries a rank keeps, unless told otherwise. */
export const FLIGHT_CAPACITY = 256;

/** A ring of entries: the newest push out the oldest. */
export class FlightRecorder {
  readonly #ring: FlightEntry[] = [];
  readonly #capacity: number;
  #next = 0;

  /** An empty record for `capacity` entries. */
  constructor(capacity: number = FLIGHT_CAPACITY) {
    this.#capacity = capacity;
  }

  /** Adds an entry, with the time. */
  record(entry: Omit<FlightEntry, "at">): void {
    this.#ring[this.#next % this.#capacity] = { ...entry, at: performance.timeOrigin + performance.now() };
    this.#next++;
  }

  /** What is kept, oldest first. */
  entries(): FlightEntry[] {
    if (this.#next <= this.#capacity) return [...this.#ring];
    const start = this.#next % this.#capacity;
    return [...this.#ring.slice(start), ...this.#ring.slice(0, start)];
  }
}

/** How far one rank got in a transfer. */
export interface FlightPosition {
  /** The rank. */
  readonly rank: number;
  /** Its last entry of the transfer; null where it has none. */
  readonly last: FlightEntry | null;
  /** No entry at all; behind the furthest; or as far as anyone. */
  readonly state: "missing" | "late" | "furthest";
}

/** A message of which the two ends have different ideas. */
export interface FlightDifference {
  /** The phase. */
  readonly phase: number;
  /** Who sends. */
  readonly from: number;
  /** Who receives. */
  readonly to: number;
  /** What the sender issued, in bytes; null where it issued no such send. */
  readonly sent: number | null;
  /** What the receiver issued, in bytes; null where it issued no such receive. */
  readonly received: number | null;
}

/** The records of several ranks, side by side, for one transfer. */
export interface FlightComparison {
  /** Which transfer: the last that any rank knows of. */
  readonly transfer: number;
  /** By rank. */
  readonly positions: readonly FlightPosition[];
  /** Messages in phases that both ends have reached, and of which they have different ideas. */
  readonly differences: readonly FlightDifference[];
  /** The same in words: one line for each rank that is missing or late, and for each difference. */
  readonly sentences: readonly string[];
}

/** Puts the records of ranks side by side. A rank whose record could not be had is missing: give it as an empty list. */
export function compareFlights(records: ReadonlyMap<number, readonly FlightEntry[]>): FlightComparison {
  const transfer = Math.max(0, ...[...records.values()].flatMap((entries) => entries.map((entry) => entry.transfer)));
  const ofTransfer = new Map(
    [...records].sort(([a], [b]) => a - b).map((
      [rank, entries],
    ) => [rank, entries.filter((e) => e.transfer === transfer)]),
  );
  const furthest = Math.max(-1, ...[...ofTransfer.values()].map((entries) => progressOf(entries)));
  const positions = [...ofTransfer].map(([rank, entries]): FlightPosition => {
    const last = entries.at(-1) ?? null;
    return { rank, last, state: last === null ? "missing" : progressOf(entries) < furthest ? "late" : "furthest" };
  });
  const differences = differencesOf(ofTransfer);
  return { transfer, positions, differences, sentences: [...positions.flatMap(late), ...differences.map(differing)] };
}

/**
 * A number that grows as a transfer goes on; a failure does not count as progress. What has finished counts first: phases are enqueued before those ahead of
 * them have finished.
 */
function progressOf(entries: readonly FlightEntry[]): number {
  const stages: FlightStage[] = ["set-up", "agreement", "phase", "verification", "commit"];
  const most = 1e6;
  const furthest = (of: readonly FlightEntry[]) =>
    Math.max(-1, ...of.map(({ stage, phase }) => stages.indexOf(stage) * most + phase + 1));
  const finished = entries.filter(({ event }) => event === "finished");
  const issued = entries.filter(({ event }) => event === "enqueued" || event === "started");
  return furthest(finished) * stages.length * most + furthest(issued);
}

function differencesOf(records: ReadonlyMap<number, readonly FlightEntry[]>): FlightDifference[] {
  const issued = new Map<string, FlightEntry>();
  for (const [rank, entries] of records) {
    for (const entry of entries) {
      if (entry.stage === "phase" && entry.event === "enqueued") issued.set(`${rank} ${entry.phase}`, entry);
    }
  }
  const differences: FlightDifference[] = [];
  const compare = (phase: number, from: number, to: number) => {
    const sender = issued.get(`${from} ${phase}`);
    const receiver = issued.get(`${to} ${phase}`);
    if (sender === undefined || receiver === undefined) return;
    const sent = sender.sends?.find(({ peer }) => peer === to)?.bytes ?? null;
    const received = receiver.receives?.find(({ peer }) => peer === from)?.bytes ?? null;
    if (sent !== received) differences.push({ phase, from, to, sent, received });
  };
  for (const [rank, entries] of records) {
    for (const { stage, event, phase, sends = [], receives = [] } of entries) {
      if (stage !== "phase" || event !== "enqueued") continue;
      for (const { peer } of sends) compare(phase, rank, peer);
      for (const { peer } of receives) {
        // A pair that the sender has too was compared from there.
        const sender = issued.get(`${peer} ${phase}`);
        if (sender?.sends?.some((send) => send.peer === rank) !== true) compare(phase, peer, rank);
      }
    }
  }
  return differences;
}

function late({ rank, last, state }: FlightPosition): string[] {
  if (state === "furthest") return [];
  if (last === null) return [`rank ${rank} is missing: it has no entry of this transfer`];
  const where = last.stage === "phase" ? `phase ${last.phase}` : `the ${last.stage}`;
  const what = last.steps === undefined || last.steps.length === 0
    ? ""
    : ` (steps ${last.steps.join(", ")}; keys ${last.keys?.join(", ")}; ${bytesOf(last.sends)} bytes out, ${
      bytesOf(last.receives)
    } in)`;
  return [`rank ${rank} is late: ${where} is ${last.event}${what}`];
}

function differing({ phase, from, to, sent, received }: FlightDifference): string {
  return `phase ${phase}: rank ${from} sends ${sent ?? "no"} bytes to rank ${to}, which receives ${
    received ?? "no"
  } bytes`;
}

function bytesOf(messages: FlightEntry["sends"] = []): number {
  return messages.reduce((total, { bytes }) => total + bytes, 0);
}
