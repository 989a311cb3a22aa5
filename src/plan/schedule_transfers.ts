/**
 * The order of transfers: rounds in which no rank sends twice and no rank receives twice.
 *
 * @module
 */

/** Ids that go to the same destinations. */
export interface Transfer {
  /** The ranks that receive, ascending. */
  readonly dsts: readonly number[];
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
 * @param worldSize The number of ranks.
 */
export function scheduleTransfers(queues: readonly SourceQueue[], worldSize: number): ScheduledTransfer[] {
  const scheduled: ScheduledTransfer[] = [];
  // The round in which a rank last sent or received; rounds count from 1.
  const sentIn = new Int32Array(worldSize);
  const receivedIn = new Int32Array(worldSize);
  // How many transfers are still to come from, and to, each rank; and for how many ranks there are any.
  const toSend = new Int32Array(worldSize);
  const toReceive = new Int32Array(worldSize);
  for (const { src, transfers } of queues) {
    toSend[src]! += transfers.length;
    for (const { dsts } of transfers) for (const dst of dsts) toReceive[dst]!++;
  }
  let senders = count(toSend);
  let receivers = count(toReceive);

  let waiting = queues;
  for (let round = 1; waiting.length > 0; round++) {
    // Ranks that could still send, or receive, in this round: at 0 there is nothing more to find in it.
    let freeSenders = senders;
    let freeReceivers = receivers;
    let emptied = false;
    for (const { src, key, transfers } of waiting) {
      if (sentIn[src] === round) continue;
      const place = firstFree(transfers, receivedIn, round);
      if (place < 0) continue;
      const transfer = transfers[place]!;
      transfers.splice(place, 1);
      emptied ||= transfers.length === 0;
      scheduled.push({ src, key, transfer });
      sentIn[src] = round;
      if (--toSend[src]! === 0) senders--;
      for (const dst of transfer.dsts) {
        receivedIn[dst] = round;
        if (--toReceive[dst]! === 0) receivers--;
      }
      freeSenders--;
      freeReceivers -= transfer.dsts.length;
      if (freeSenders === 0 || freeReceivers === 0) break;
    }
    if (emptied) waiting = waiting.filter(({ transfers }) => transfers.length > 0);
  }
  return scheduled;
}

/** The first transfer none of whose destinations has received in this round, or -1. */
function firstFree(transfers: readonly Transfer[], receivedIn: Int32Array, round: number): number {
  for (let i = 0; i < transfers.length; i++) {
    const { dsts } = transfers[i]!;
    let d = 0;
    while (d < dsts.length && receivedIn[dsts[d]!] !== round) d++;
    if (d === dsts.length) return i;
  }
  return -1;
}

function count(numbers: Int32Array): number {
  return numbers.reduce((n, value) => value > 0 ? n + 1 : n, 0);
}
