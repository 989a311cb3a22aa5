/**
 * What one rank does in a transfer, as plain data.
 *
 * A program has phases. In a phase a rank first exchanges point-to-point messages with its peers (one group of sends and receives), then takes
 * part in broadcasts within replica groups. What a rank received in a phase it can pass on in a later one, or in the broadcasts of the same one.
 * What stands behind a fence of the plan (an exchange without sources) is in later phases than all before it, so that a planner can bound what leaves in one.
 * The programs of all ranks fit together: each send has its receive in the same phase, with the same items in the same order.
 *
 * Items are numbers of the {@linkcode Catalogue}; a message is the bytes of its items one after another, in ascending order, without padding.
 *
 * @module
 */

/** Bytes from this rank to a peer, or from a peer to this rank. */
export interface Message {
  /** The other rank. */
  readonly peer: number;
  /** The items, ascending. Items without bytes travel in no message, but are received all the same. */
  readonly items: Uint32Array;
  /** The sum of their sizes. */
  readonly bytes: number;
}

/** One broadcast within a replica group that this rank belongs to. */
export interface GroupBroadcast {
  /** Which replica group, by its position in the list that the plan was lowered with. */
  readonly group: number;
  /** The rank (of the world) that has the bytes. */
  readonly root: number;
  /** As in {@linkcode Message}. */
  readonly items: Uint32Array;
  /** As in {@linkcode Message}. */
  readonly bytes: number;
}

/** One phase of one rank. */
export interface Phase {
  /** By distance from this rank, upwards and around. */
  readonly sends: readonly Message[];
  /** By distance from this rank, downwards and around, so that both ends of a message have it at the same distance. */
  readonly receives: readonly Message[];
  /** In the order in which all members of the groups issue them. */
  readonly broadcasts: readonly GroupBroadcast[];
  /** The positions in the plan of the steps that this rank serves here, ascending. */
  readonly steps: readonly number[];
}

/** A plan lowered for one rank. */
export interface Program {
  /** The rank whose program this is. */
  readonly rank: number;
  /** As many on every rank, also where a rank has nothing to do in one. */
  readonly phases: readonly Phase[];
  /** The items that the plan takes this rank to have stored before, ascending. */
  readonly required: Uint32Array;
  /** The items that are installed on this rank at commit, ascending. */
  readonly received: Uint32Array;
  /** Bytes that leave this rank. A broadcast within a group counts once for its root. */
  readonly bytesSent: number;
  /** Bytes that arrive at this rank. */
  readonly bytesReceived: number;
  /** The most bytes that any phase may have to pack together before they leave. */
  readonly stagingBytes: number;
  /**
   * The most device bytes that the transfer takes on this rank beside what is stored, but for the rounding of messages: what arrives, and the packing.
   * `maxPeakBytes` of `RedistribPlanner.derivePlan` bounds it on every rank where no replica group broadcasts.
   */
  readonly peakBytes: number;
}
