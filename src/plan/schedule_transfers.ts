/**
 * The order of transfers: rounds in which no rank sends twice and no rank receives twice.
 *
 * @module
 */

import { NumberSet } from "./number_set.ts";
import { countsOf, startsOf } from "./stretches.ts";

/**
 * Transfers by number. Each queue has those of one source, no two with the same destinations; they follow each other, in the order in which they are to be
 * given.
 */
export interface TransferQueues {
  /** By queue, the rank that sends. Queues are in the order in which they take their turns. */
  readonly sources: readonly number[];
  /** By queue, the number of its first transfer; one more, where the last end. */
  readonly firstTransfer: Int32Array;
  /** By transfer, its queue. */
  readonly queueOf: Int32Array;
  /** By transfer, the ranks that receive, as an index into the list of all sets of destinations. */
  readonly dstSetOf: Int32Array;
}

/**
 * Orders the transfers as the reference does: round after round, each source in turn gives its first transfer whose destinations are all
 * still free in this round.
 *
 * Late in a round most ranks have received, and most queues have nothing that fits. When asking them has cost as much as asking every set of
 * destinations would, the sets are asked, and the rest of the round goes to the queues that have one of those that are free.
 *
 * @param queues The transfers.
 * @param dstSets All sets of destinations, each different and none empty.
 * @param worldSize The number of ranks.
 * @returns The transfers' numbers in order.
 */
export function scheduleTransfers(
  queues: TransferQueues,
  dstSets: readonly (readonly number[])[],
  worldSize: number,
): Int32Array {
  const { sources, firstTransfer } = queues;
  const filing = fileSets(dstSets, worldSize);
  const waiting = new WaitingTransfers(queues, filing);
  const destinations = new Destinations(filing, waiting);
  const scheduled = new Int32Array(waiting.setOf.length);
  let scheduledCount = 0;
  // The round in which a rank last sent; rounds count from 1. How many transfers are still to come from it; how many ranks have any.
  const sentIn = new Int32Array(worldSize);
  const toSend = new Int32Array(worldSize);
  for (const [q, src] of sources.entries()) toSend[src]! += firstTransfer[q + 1]! - firstTransfer[q]!;
  let senders = toSend.reduce((n, transfers) => transfers > 0 ? n + 1 : n, 0);

  let turns: readonly number[] = sources.map((_, q) => q).filter((q) => !waiting.isEmpty(q));
  for (let round = 1; turns.length > 0; round++) {
    destinations.begin(round);
    // Ranks that could still send in this round.
    let freeSenders = senders;
    let emptied = false;
    /** Sends a transfer; false when nothing more can be sent in this round. */
    const send = (q: number, place: number): boolean => {
      const src = sources[q]!;
      const t = waiting.take(q, place);
      emptied ||= waiting.isEmpty(q);
      scheduled[scheduledCount++] = t;
      sentIn[src] = round;
      if (--toSend[src]! === 0) senders--;
      destinations.take(waiting.setOf[t]!);
      return --freeSenders > 0 && destinations.freeSets > 0;
    };
    let fruitless = 0;
    let able: Int32Array | undefined;
    for (let turn = 0; turn < turns.length; turn++) {
      const q = turns[turn]!;
      if (sentIn[sources[q]!] === round) continue;
      const place = waiting.firstPlace(q, destinations);
      if (place >= 0) {
        if (!send(q, place)) break;
        continue;
      }
      fruitless += waiting.count(q);
      if (fruitless < PATIENCE * destinations.freeSets + worldSize) continue;
      fruitless = 0;
      able = destinations.transfersAble(firstTransfer[q + 1]!, turns.length - turn);
      if (able !== undefined) break;
    }
    for (const t of able ?? []) {
      const q = waiting.queueOf[t]!;
      if (sentIn[sources[q]!] === round || !destinations.isFree(waiting.setOf[t]!)) continue;
      if (!send(q, waiting.placeOf(q, t))) break;
    }
    if (emptied) turns = turns.filter((q) => !waiting.isEmpty(q));
  }
  return scheduled;
}

/** How much asking the queues in vain may cost before the sets are asked, in relation to what that costs. */
const PATIENCE = 0.5;

/** How many transfers that may be sent it pays to look at for each queue that need not be asked then. */
const FEW = 4;

/** Which part of the sets filed under a rank should have something to come. */
const MOSTLY = 0.75;

/** How many ranks are looked at together. */
const AT_ONCE = 8;

/**
 * The sets of destinations, each filed under that of its ranks that is in the most sets: once that rank has received, all sets filed under it are known to be
 * taken. They get new numbers, so that those filed under one rank follow each other.
 */
interface Filing {
  /** By the set's index as it was given, its number. */
  readonly numberOf: Int32Array;
  /** By rank, where the numbers of the sets filed under it begin; one more, where the last end. */
  readonly firstSet: Int32Array;
  /** By number, where a set's ranks begin in `ranks`; one more, where the last end. */
  readonly firstRank: Int32Array;
  /** The ranks of all sets; of each the one it is filed under first. */
  readonly ranks: Int32Array;
}

function fileSets(dstSets: readonly (readonly number[])[], worldSize: number): Filing {
  const wantedBy = new Int32Array(worldSize);
  for (const ranks of dstSets) for (const rank of ranks) wantedBy[rank]!++;
  const under = Int32Array.from(dstSets, (ranks) => ranks.reduce((a, b) => wantedBy[b]! > wantedBy[a]! ? b : a));
  const firstSet = startsOf(countsOf(under, worldSize));
  const next = firstSet.slice();
  const numberOf = under.map((rank) => next[rank]!++);
  const sizes = new Int32Array(dstSets.length);
  for (const [i, ranks] of dstSets.entries()) sizes[numberOf[i]!] = ranks.length;
  const firstRank = startsOf(sizes);
  const ranks = new Int32Array(firstRank.at(-1)!);
  for (const [i, set] of dstSets.entries()) {
    let at = firstRank[numberOf[i]!]!;
    ranks[at++] = under[i]!;
    for (const rank of set) if (rank !== under[i]) ranks[at++] = rank;
  }
  return { numberOf, firstSet, firstRank, ranks };
}

/** What is still to be sent: of each queue a stretch of the order, in which its transfers stand. */
class WaitingTransfers {
  /** By transfer, its set of destinations by number, and its queue. */
  readonly setOf: Int32Array;
  readonly queueOf: Int32Array;
  readonly #sent: Uint8Array;
  readonly #order: Int32Array;
  /** By queue, where what waits begins and ends in the order. */
  readonly #begin: Int32Array;
  readonly #end: Int32Array;

  constructor({ firstTransfer, queueOf, dstSetOf }: TransferQueues, { numberOf }: Filing) {
    this.setOf = dstSetOf.map((set) => numberOf[set]!);
    this.queueOf = queueOf;
    this.#sent = new Uint8Array(dstSetOf.length);
    this.#order = dstSetOf.map((_, t) => t);
    this.#begin = firstTransfer.slice(0, -1);
    this.#end = firstTransfer.slice(1);
  }

  /** How many transfers wait in queue `q`. */
  count(q: number): number {
    return this.#end[q]! - this.#begin[q]!;
  }

  /** Whether none does. */
  isEmpty(q: number): boolean {
    return this.#end[q] === this.#begin[q];
  }

  /** Whether transfer `t` does not wait any more. */
  isSent(t: number): boolean {
    return this.#sent[t] === 1;
  }

  /** The place of the first transfer of queue `q` whose destinations are all free, or -1. */
  firstPlace(q: number, destinations: Destinations): number {
    const end = this.#end[q]!;
    for (let place = this.#begin[q]!; place < end; place++) {
      if (destinations.isFree(this.setOf[this.#order[place]!]!)) return place;
    }
    return -1;
  }

  /** The place of transfer `t`, which waits in queue `q`. */
  placeOf(q: number, t: number): number {
    let low = this.#begin[q]!;
    for (let high = this.#end[q]!; low < high;) {
      const middle = (low + high) >>> 1;
      if (this.#order[middle]! < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes the transfer at `place` out. */
  take(q: number, place: number): number {
    const order = this.#order;
    const t = order[place]!;
    // Those before it move up; they were looked at to find it, so that this costs no more than that did.
    const begin = this.#begin[q]!;
    for (let i = place; i > begin; i--) order[i] = order[i - 1]!;
    this.#begin[q] = begin + 1;
    this.#sent[t] = 1;
    return t;
  }
}

/** Which sets of destinations are still free in the present round. Sets go by their number in the filing. */
class Destinations {
  /** How many sets there may be that are free and wait: those filed under ranks that are free. */
  freeSets = 0;
  readonly #waiting: WaitingTransfers;
  readonly #ranks: Int32Array;
  readonly #firstRank: Int32Array;
  /** By set, its transfers: those up to `#transferEnd`. Some may have been sent. */
  readonly #transfers: Int32Array;
  readonly #firstTransfer: Int32Array;
  readonly #transferEnd: Int32Array;
  /** By set, the transfers that are still to come. */
  readonly #toCome: Int32Array;
  /** The sets filed under rank after rank, some of which may have nothing to come. By rank where they begin and end, and how many have something to come. */
  readonly #filed: Int32Array;
  readonly #firstSet: Int32Array;
  readonly #filedEnd: Int32Array;
  readonly #filedWaiting: Int32Array;
  /** Beside `#filed`, the second and the third of the set's ranks; where it has none, the number of ranks. */
  readonly #nextTwo: Int32Array;
  #setsWaiting = 0;
  #round = 0;
  /** By rank, whether it has received in this round. One more, which never does. */
  readonly #received: Uint8Array;
  /** By set, the last round in which it was found to be taken. */
  readonly #takenIn: Int32Array;
  /** For the transfers that can be sent. */
  readonly #able: NumberSet;

  constructor({ firstSet, firstRank, ranks }: Filing, waiting: WaitingTransfers) {
    this.#waiting = waiting;
    this.#ranks = ranks;
    this.#firstRank = firstRank;
    const sets = firstRank.length - 1;
    const worldSize = firstSet.length - 1;
    const { setOf } = waiting;
    this.#toCome = countsOf(setOf, sets);
    this.#firstTransfer = startsOf(this.#toCome);
    this.#transferEnd = this.#firstTransfer.slice(0, sets);
    this.#transfers = new Int32Array(setOf.length);
    for (let t = 0; t < setOf.length; t++) this.#transfers[this.#transferEnd[setOf[t]!]!++] = t;
    this.#filed = this.#toCome.map((_, set) => set);
    this.#firstSet = firstSet;
    this.#filedEnd = firstSet.slice(1);
    this.#nextTwo = new Int32Array(2 * sets).fill(worldSize);
    for (let set = 0; set < sets; set++) {
      const begin = firstRank[set]! + 1;
      const end = Math.min(begin + 2, firstRank[set + 1]!);
      for (let i = begin; i < end; i++) this.#nextTwo[2 * set + i - begin] = ranks[i]!;
    }
    this.#filedWaiting = new Int32Array(worldSize);
    for (let set = 0; set < sets; set++) if (this.#toCome[set]! > 0) this.#filedWaiting[ranks[firstRank[set]!]!]!++;
    for (const sets of this.#filedWaiting) this.#setsWaiting += sets;
    this.#received = new Uint8Array(worldSize + 1);
    this.#takenIn = new Int32Array(sets);
    this.#able = new NumberSet(setOf.length);
  }

  begin(round: number): void {
    this.#round = round;
    this.#received.fill(0);
    this.freeSets = this.#setsWaiting;
  }

  /** Whether none of the set's ranks has received in this round. */
  isFree(set: number): boolean {
    if (this.#takenIn[set] === this.#round) return false;
    if (this.#areFree(this.#firstRank[set]!, this.#firstRank[set + 1]!)) return true;
    this.#takenIn[set] = this.#round;
    return false;
  }

  /** Whether these ranks have not received. Looks at several before it decides, for there is no foreseeing which has. */
  #areFree(begin: number, end: number): boolean {
    const received = this.#received;
    const ranks = this.#ranks;
    for (let i = begin; i < end;) {
      let any = 0;
      for (const stop = Math.min(i + AT_ONCE, end); i < stop; i++) any |= received[ranks[i]!]!;
      if (any !== 0) return false;
    }
    return true;
  }

  /** Notes that the ranks of `set` receive in this round. */
  take(set: number): void {
    const first = this.#firstRank[set]!;
    const end = this.#firstRank[set + 1]!;
    for (let i = first; i < end; i++) {
      const rank = this.#ranks[i]!;
      this.#received[rank] = 1;
      this.freeSets -= this.#filedWaiting[rank]!;
    }
    if (--this.#toCome[set]! > 0) return;
    this.#filedWaiting[this.#ranks[first]!]!--;
    this.#setsWaiting--;
  }

  /**
   * The transfers from number `first` on to sets that are free, ascending; undefined when there are more than a few for each of the `queues` that are still
   * to be asked.
   */
  transfersAble(first: number, queues: number): Int32Array | undefined {
    const free: number[] = [];
    let transfers = 0;
    for (let rank = 0; rank < this.#filedEnd.length; rank++) {
      if (this.#received[rank] === 1) continue;
      transfers += this.#findFree(rank, free);
      if (transfers > FEW * queues) return undefined;
    }
    const able = this.#able;
    for (const set of free) {
      let end = this.#firstTransfer[set]!;
      for (let i = end; i < this.#transferEnd[set]!; i++) {
        const t = this.#transfers[i]!;
        if (this.#waiting.isSent(t)) continue;
        this.#transfers[end++] = t;
        if (t >= first) able.add(t);
      }
      this.#transferEnd[set] = end;
    }
    return able.takeAll();
  }

  /** Adds those of the sets filed under a free rank that are free and have something to come. Returns how many transfers are to come to them. */
  #findFree(rank: number, free: number[]): number {
    const received = this.#received;
    const nextTwo = this.#nextTwo;
    const first = this.#firstSet[rank]!;
    if (this.#filedWaiting[rank]! < MOSTLY * (this.#filedEnd[rank]! - first)) this.#tidy(rank);
    const end = this.#filedEnd[rank]!;
    let transfers = 0;
    // Most fail at these two, so that no more is read of them.
    for (let i = first; i < end; i++) {
      if ((received[nextTwo[2 * i]!]! | received[nextTwo[2 * i + 1]!]!) !== 0) continue;
      const set = this.#filed[i]!;
      if (this.#toCome[set] === 0 || !this.#areFree(this.#firstRank[set]! + 3, this.#firstRank[set + 1]!)) continue;
      free.push(set);
      transfers += this.#toCome[set]!;
    }
    return transfers;
  }

  /** Drops the sets filed under a rank that have nothing to come. */
  #tidy(rank: number): void {
    let end = this.#firstSet[rank]!;
    for (let i = end; i < this.#filedEnd[rank]!; i++) {
      if (this.#toCome[this.#filed[i]!] === 0) continue;
      this.#filed[end] = this.#filed[i]!;
      this.#nextTwo[2 * end] = this.#nextTwo[2 * i]!;
      this.#nextTwo[2 * end + 1] = this.#nextTwo[2 * i + 1]!;
      end++;
    }
    this.#filedEnd[rank] = end;
  }
}
