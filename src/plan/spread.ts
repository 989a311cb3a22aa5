/**
 * Who passes what on to whom, so that no link carries much more than it has to.
 *
 * @module
 */

import type { LackClass, LackingNode, Shape } from "./lack.ts";
import type { LinkBounds } from "./link_bounds.ts";

/** What travels the same way. */
export interface Piece {
  /** Who has and who lacks it. */
  readonly shape: Shape;
  /** The sum of the sizes. */
  bytes: number;
  /** Where its hops begin in {@linkcode Spread.hops}, counted in hops. It has as many as its shape has lacking ranks. */
  readonly firstHop: number;
}

/** Ids of one class in a piece. */
export interface Portion {
  /** The class. */
  readonly of: LackClass;
  /** The first of its ids, and the one after its last, by their place in the class's array. */
  readonly begin: number;
  /** See `begin`. */
  readonly end: number;
  /** The piece. */
  readonly piece: Piece;
}

/** How often something may be passed on. */
export interface HopLimits {
  /** The most hops from node to node until something is in every node. 1: its holders send to every node. */
  readonly betweenNodes: number;
  /** The most hops within a node until something is in every rank of it. 1: whoever has it first sends to all others. */
  readonly withinNode: number;
}

/** The ways of all pieces. */
export interface Spread {
  /** For each hop three numbers: the rank that sends, the rank that receives, and the hop's round, from 0. */
  readonly hops: Int32Array;
  /** The number of rounds. What arrives in a round can be passed on in later ones. */
  readonly rounds: number;
}

/** How many ranks at most are considered for passing one piece on, beside its holders. */
const MOST_FORWARDERS = 32;

/** How many receivers of one piece are chosen by their load; the others follow in order. */
const MOST_CHOSEN_RECEIVERS = 8;

/**
 * Finds a way for each piece in turn: into every node that lacks it once, to the rank there that sends the least so far, and on within the node.
 * Each hop is sent by the rank that, of those that have the piece and may pass it on, is the least loaded in relation to the bounds; the first to
 * receive are those with the least to send, because they may have to pass it on. What has to leave a piece's holders is counted against them
 * from the start, shared between them, so that what others can do is left to others.
 */
export class Spreader {
  /** By rank, the bytes that leave. */
  readonly outOfRank: Float64Array;
  /** By node, the bytes that leave for other nodes. */
  readonly outOfNode: Float64Array;
  readonly #hops: Int32Array;
  readonly #pieces: readonly Piece[];
  /** By rank, its node. */
  readonly #nodeOf: Int32Array;
  readonly #limits: HopLimits;
  readonly #relays: Uint8Array | undefined;
  /** Load per byte out of a rank, and out of a node. */
  readonly #rankWeight: number;
  readonly #nodeWeight: number;
  /** Ranks that have the piece at hand and may pass it on, and the round from which on they can. */
  readonly #senders: number[] = [];
  readonly #sendersFrom: number[] = [];
  /** Where the next hop is written. */
  #at = 0;

  /**
   * Places all pieces.
   *
   * @param pieces The pieces, those that are hardest to place first.
   * @param hopCount The number of hops of all pieces together.
   * @param cluster Ranks in the world and on a node.
   * @param bounds What loads are measured by.
   * @param limits How often a piece may be passed on.
   * @param relays By rank, whether it may pass on what it received; all may where it is absent.
   */
  constructor(
    pieces: readonly Piece[],
    hopCount: number,
    cluster: { worldSize: number; gpusPerNode: number },
    bounds: LinkBounds,
    limits: HopLimits,
    relays: Uint8Array | undefined,
  ) {
    this.#pieces = pieces;
    this.#relays = relays;
    this.#hops = new Int32Array(3 * hopCount);
    this.outOfRank = new Float64Array(cluster.worldSize);
    this.outOfNode = new Float64Array(Math.ceil(cluster.worldSize / cluster.gpusPerNode));
    this.#nodeOf = new Int32Array(cluster.worldSize).map((_, rank) => Math.floor(rank / cluster.gpusPerNode));
    this.#limits = limits;
    this.#rankWeight = bounds.outOfRank > 0 ? 1 / bounds.outOfRank : 0;
    this.#nodeWeight = bounds.outOfNode > 0 ? 1 / bounds.outOfNode : 0;
    for (const { shape, bytes } of pieces) this.#share(shape, bytes);
    for (const piece of pieces) {
      this.#share(piece.shape, -piece.bytes);
      this.#place(piece);
    }
  }

  /** Takes each piece in turn to where it is best with all others in their places. */
  pass(): void {
    for (const piece of this.#pieces) {
      this.#take(piece);
      this.#place(piece);
    }
  }

  /** The ways as they are now. */
  spread(): Spread {
    const hops = this.#hops.slice();
    let rounds = 0;
    for (let i = 2; i < hops.length; i += 3) rounds = Math.max(rounds, hops[i]! + 1);
    return { hops, rounds };
  }

  /** Finds a way for a piece. */
  #place({ shape, bytes, firstHop }: Piece): void {
    this.#at = 3 * firstHop;
    for (const { holders, lacking } of shape.innerNodes) {
      this.#begin(holders, 0);
      this.#withinNode(lacking, -1, bytes, this.#limits.withinNode);
    }
    if (shape.outerNodes.length > 0) this.#betweenNodes(shape, bytes);
  }

  /** Forgets the way of a piece. */
  #take({ shape, bytes, firstHop }: Piece): void {
    const { outOfRank, outOfNode } = this;
    const hops = this.#hops;
    for (let i = 3 * firstHop; i < 3 * (firstHop + shape.lacking.length); i += 3) {
      const from = hops[i]!;
      const node = this.#nodeOf[from]!;
      outOfRank[from]! -= bytes;
      if (node !== this.#nodeOf[hops[i + 1]!]) outOfNode[node]! -= bytes;
    }
  }

  /** Counts the first copy of something against its holders; takes that back where `bytes` is negative. */
  #share({ holders, holderNodes, outerNodes }: Shape, bytes: number): void {
    const { outOfRank, outOfNode } = this;
    const ofRank = bytes / holders.length;
    for (let i = 0; i < holders.length; i++) outOfRank[holders[i]!]! += ofRank;
    if (outerNodes.length === 0) return;
    const ofNode = bytes / holderNodes.length;
    for (let i = 0; i < holderNodes.length; i++) outOfNode[holderNodes[i]!]! += ofNode;
  }

  #begin(senders: readonly number[], round: number): void {
    this.#senders.length = 0;
    this.#sendersFrom.length = 0;
    for (const rank of senders) {
      this.#senders.push(rank);
      this.#sendersFrom.push(round);
    }
  }

  #forward(rank: number, round: number, holders: number): void {
    if (this.#senders.length >= holders + MOST_FORWARDERS || this.#relays?.[rank] === 0) return;
    this.#senders.push(rank);
    this.#sendersFrom.push(round);
  }

  #betweenNodes({ holders, outerNodes }: Shape, bytes: number): void {
    const { outOfRank, outOfNode } = this;
    this.#begin(holders, 0);
    const gateways = new Array<number>(outerNodes.length);
    const arrivals = new Array<number>(outerNodes.length);
    const order = outerNodes.map((_, i) => i);
    const mayForward = this.#limits.betweenNodes > 1;
    for (let done = 0; done < order.length; done++) {
      if (mayForward && done < MOST_CHOSEN_RECEIVERS) {
        let least = done;
        for (let i = done + 1; i < order.length; i++) {
          if (outOfNode[outerNodes[order[i]!]!.node]! < outOfNode[outerNodes[order[least]!]!.node]!) least = i;
        }
        const chosen = order[least]!;
        order[least] = order[done]!;
        order[done] = chosen;
      }
      const index = order[done]!;
      const gateway = this.#leastLoaded(outerNodes[index]!);
      let best = 0;
      let bestLoad = Infinity;
      for (let s = 0; s < this.#senders.length; s++) {
        const rank = this.#senders[s]!;
        const load = Math.max(
          outOfRank[rank]! * this.#rankWeight,
          outOfNode[this.#nodeOf[rank]!]! * this.#nodeWeight,
        );
        if (load < bestLoad) {
          best = s;
          bestLoad = load;
        }
      }
      const from = this.#senders[best]!;
      const round = this.#sendersFrom[best]!;
      this.#hop(from, gateway, round);
      outOfRank[from]! += bytes;
      outOfNode[this.#nodeOf[from]!]! += bytes;
      gateways[index] = gateway;
      arrivals[index] = round + 1;
      if (round + 1 < this.#limits.betweenNodes) this.#forward(gateway, round + 1, holders.length);
    }
    for (let i = 0; i < outerNodes.length; i++) {
      const { lacking } = outerNodes[i]!;
      if (lacking.length === 1) continue;
      this.#begin([gateways[i]!], arrivals[i]!);
      this.#withinNode(lacking, gateways[i]!, bytes, arrivals[i]! + this.#limits.withinNode);
    }
  }

  /** Brings the piece to all of `lacking` but `gateway`, with the last round before `end`. */
  #withinNode(lacking: readonly number[], gateway: number, bytes: number, end: number): void {
    const { outOfRank } = this;
    const holders = this.#senders.length;
    const left = gateway < 0 ? [...lacking] : lacking.filter((rank) => rank !== gateway);
    const mayForward = this.#sendersFrom[0]! + 1 < end;
    for (let done = 0; done < left.length; done++) {
      if (mayForward && done < MOST_CHOSEN_RECEIVERS) {
        let least = done;
        for (let i = done + 1; i < left.length; i++) if (outOfRank[left[i]!]! < outOfRank[left[least]!]!) least = i;
        const chosen = left[least]!;
        left[least] = left[done]!;
        left[done] = chosen;
      }
      let best = 0;
      for (let s = 1; s < this.#senders.length; s++) {
        if (outOfRank[this.#senders[s]!]! < outOfRank[this.#senders[best]!]!) best = s;
      }
      const from = this.#senders[best]!;
      const to = left[done]!;
      const round = this.#sendersFrom[best]!;
      this.#hop(from, to, round);
      outOfRank[from]! += bytes;
      if (round + 1 < end) this.#forward(to, round + 1, holders);
    }
  }

  #leastLoaded({ lacking }: LackingNode): number {
    if (lacking.length === 1) return lacking[0]!;
    const relays = this.#relays;
    let least = -1;
    for (const rank of lacking) {
      if (relays?.[rank] === 0) continue;
      if (least < 0 || this.outOfRank[rank]! < this.outOfRank[least]!) least = rank;
    }
    return least;
  }

  #hop(from: number, to: number, round: number): void {
    this.#hops[this.#at++] = from;
    this.#hops[this.#at++] = to;
    this.#hops[this.#at++] = round;
  }
}
