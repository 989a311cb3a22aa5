/**
 * The order of transfers: rounds in which no rank sends twice and no rank receives twice.
 *
 * @module
 */

/** Ids that go to the same destinations. */
export interface Transfer {
  /** The ranks that receive, as an index into the list of all sets of destinations. */
  readonly dstSet: number;
  /** What they receive. */
  readonly ids: string[];
}

/** The transfers of one key from one source, in the order in which they came up. */
export interface SourceQueue {
  /** The rank that sends. */
  readonly src: number;
  /** The field that travels. */
  readonly key: string;
  /** At least one, all with different destinations. */
  readonly transfers: Transfer[];
}

/** A transfer that has its place in the order. */
export interface ScheduledTransfer {
  /** The rank that sends. */
  readonly src: number;
  /** The field that travels. */
  readonly key: string;
  /** Who receives what. */
  readonly transfer: Transfer;
}

/**
 * Orders the transfers as the reference does: round after round, each source in turn gives its first transfer whose destinations are all
 * still free in this round.
 *
 * @param queues In the order in which they take their turns. They are emptied.
 * @param dstSets All sets of destinations, each different.
 * @param worldSize The number of ranks.
 */
export function scheduleTransfers(
  queues: readonly SourceQueue[],
  dstSets: readonly (readonly number[])[],
  worldSize: number,
): ScheduledTransfer[] {
  const scheduled: ScheduledTransfer[] = [];
  // The round in which a rank last sent; rounds count from 1. How many transfers are still to come from it; how many ranks have any.
  const sentIn = new Int32Array(worldSize);
  const toSend = new Int32Array(worldSize);
  for (const { src, transfers } of queues) toSend[src]! += transfers.length;
  let senders = toSend.reduce((n, transfers) => transfers > 0 ? n + 1 : n, 0);
  const rounds = new DestinationRounds(queues, dstSets, worldSize);

  let waiting = queues;
  for (let round = 1; waiting.length > 0; round++) {
    rounds.begin(round);
    // Ranks that could still send in this round.
    let freeSenders = senders;
    let emptied = false;
    for (const queue of waiting) {
      const { src, transfers } = queue;
      if (sentIn[src] === round) continue;
      const place = rounds.firstFree(transfers);
      if (place < 0) continue;
      const transfer = transfers[place]!;
      transfers.splice(place, 1);
      emptied ||= transfers.length === 0;
      scheduled.push({ src, key: queue.key, transfer });
      sentIn[src] = round;
      if (--toSend[src]! === 0) senders--;
      rounds.take(transfer.dstSet);
      if (--freeSenders === 0 || rounds.full) break;
    }
    if (emptied) waiting = waiting.filter(({ transfers }) => transfers.length > 0);
  }
  return scheduled;
}

/** Which sets of destinations are still free in the present round. */
class DestinationRounds {
  readonly #dstSets: readonly (readonly number[])[];
  /** By rank, the sets that it is in. */
  readonly #setsOf: number[][];
  /** By set, the transfers that are still to come, and the last round in which one of its ranks received. */
  readonly #toCome: Int32Array;
  readonly #takenIn: Int32Array;
  #round = 0;
  /** Sets for which there are transfers to come; those of them that are free in this round. */
  #live = 0;
  #free = 0;

  constructor(queues: readonly SourceQueue[], dstSets: readonly (readonly number[])[], worldSize: number) {
    this.#dstSets = dstSets;
    this.#setsOf = Array.from({ length: worldSize }, () => []);
    for (const [set, ranks] of dstSets.entries()) for (const rank of ranks) this.#setsOf[rank]!.push(set);
    this.#toCome = new Int32Array(dstSets.length);
    this.#takenIn = new Int32Array(dstSets.length);
    for (const { transfers } of queues) for (const { dstSet } of transfers) this.#toCome[dstSet]!++;
    for (const transfers of this.#toCome) if (transfers > 0) this.#live++;
  }

  begin(round: number): void {
    this.#round = round;
    this.#free = this.#live;
  }

  /** Nothing more can be received in this round. */
  get full(): boolean {
    return this.#free === 0;
  }

  /** The place of the first transfer whose destinations are all free, or -1. */
  firstFree(transfers: readonly Transfer[]): number {
    const takenIn = this.#takenIn;
    const round = this.#round;
    for (let i = 0; i < transfers.length; i++) if (takenIn[transfers[i]!.dstSet] !== round) return i;
    return -1;
  }

  /** Notes that the ranks of `dstSet` receive in this round, which takes every set that shares a rank with it. */
  take(dstSet: number): void {
    const takenIn = this.#takenIn;
    const toCome = this.#toCome;
    const round = this.#round;
    for (const rank of this.#dstSets[dstSet]!) {
      for (const set of this.#setsOf[rank]!) {
        if (takenIn[set] === round) continue;
        takenIn[set] = round;
        if (toCome[set]! > 0) this.#free--;
      }
      if (this.#free === 0) break;
    }
    if (--toCome[dstSet]! === 0) this.#live--;
  }
}
