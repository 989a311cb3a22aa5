/**
 * What no plan can do with less.
 *
 * @module
 */

import type { LackClass } from "./lack.ts";

/** The least bytes that the busiest link of each kind carries, whatever the plan. */
export interface LinkBounds {
  /** Into the busiest rank. */
  readonly intoRank: number;
  /** Out of the busiest rank. */
  readonly outOfRank: number;
  /** Into the busiest node, from other nodes. */
  readonly intoNode: number;
  /** Out of the busiest node, to other nodes. */
  readonly outOfNode: number;
}

/**
 * Lower bounds for plans that bring every rank what it lacks.
 *
 * - *Into a rank* comes at least what it lacks. Into a node comes at least what a rank of it lacks and none of its ranks has, once.
 * - *Out of a node.* (1) What only the nodes of a set S have, and a node outside S needs, leaves S at least once, so that a node of S sends at least
 *   that over |S|. Taken are all sets of nodes that have something together, single nodes, and the set of all nodes that have something. (2) Every
 *   byte that comes into a node leaves another, and only nodes that have or get something can send: at least all that comes into nodes, over the
 *   number of those nodes.
 * - *Out of a rank.* (1) and (2) with ranks instead of nodes. (3) Only plans that bring nothing into a node twice are of interest, because the network
 *   is the scarcer link. In such a plan each copy in a node but the first that came from outside is sent by a rank of the same node; so is the
 *   first copy to leave a node that alone has something. The ranks of the node that have or get something share that. (4) Of what comes into a node
 * from outside, the further copies in the node are sent by ranks that get something from outside.
 *
 * (3) and (4) exclude plans that would spare the ranks by sending more over the network; without them the bound for a rank would be lower there.
 *
 * @param classes What is lacking.
 * @param gpusPerNode Ranks on one node.
 */
export function linkBounds(classes: readonly LackClass[], gpusPerNode: number): LinkBounds {
  const intoRank = new Tally();
  const intoNode = new Tally();
  const withinNode = new Tally();
  const withinOuter = new Tally();
  const getters = new Set<number>();
  const fromRanks = new FirstCopies();
  const fromNodes = new FirstCopies();
  const ranks = new Set<number>();
  const nodes = new Set<number>();
  for (const { shape, totalBytes } of classes) {
    if (totalBytes === 0) continue;
    const { holders, holderNodes, lacking, innerNodes, outerNodes } = shape;
    for (const rank of holders) ranks.add(rank);
    for (const rank of lacking) {
      ranks.add(rank);
      intoRank.add(rank, totalBytes);
    }
    fromRanks.add(holders, totalBytes);
    for (const { node, lacking } of innerNodes) withinNode.add(node, totalBytes * lacking.length);
    for (const { node, lacking } of outerNodes) {
      intoNode.add(node, totalBytes);
      withinNode.add(node, totalBytes * (lacking.length - 1));
      withinOuter.add(node, totalBytes * (lacking.length - 1));
      for (const rank of lacking) getters.add(rank);
      nodes.add(node);
    }
    if (outerNodes.length === 0) continue;
    for (const node of holderNodes) nodes.add(node);
    fromNodes.add(holderNodes, totalBytes);
    if (holderNodes.length === 1) withinNode.add(holderNodes[0]!, totalBytes);
  }
  const withinOneNode = Math.max(
    shared(withinNode, ranks, gpusPerNode),
    shared(withinOuter, getters, gpusPerNode),
  );
  return {
    intoRank: intoRank.most,
    outOfRank: Math.max(fromRanks.most, intoRank.total / Math.max(1, ranks.size), withinOneNode),
    intoNode: intoNode.most,
    outOfNode: Math.max(fromNodes.most, intoNode.total / Math.max(1, nodes.size)),
  };
}

/** The most that falls to a rank when the ranks of each node share what their node has to do. */
function shared(ofNodes: Tally, ranks: Iterable<number>, gpusPerNode: number): number {
  const ranksOn = new Tally();
  for (const rank of ranks) ranksOn.add(Math.floor(rank / gpusPerNode), 1);
  let most = 0;
  for (const [node, bytes] of ofNodes.entries()) if (bytes > 0) most = Math.max(most, bytes / ranksOn.get(node));
  return most;
}

/** Bytes by number of rank or node. */
class Tally {
  readonly #bytes = new Map<number, number>();

  add(index: number, bytes: number): void {
    this.#bytes.set(index, this.get(index) + bytes);
  }

  get(index: number): number {
    return this.#bytes.get(index) ?? 0;
  }

  entries(): Iterable<[number, number]> {
    return this.#bytes;
  }

  get most(): number {
    let most = 0;
    for (const bytes of this.#bytes.values()) most = Math.max(most, bytes);
    return most;
  }

  get total(): number {
    let total = 0;
    for (const bytes of this.#bytes.values()) total += bytes;
    return total;
  }
}

/** What has to leave sets of ranks or nodes. */
class FirstCopies {
  readonly #sets = new Map<string, { readonly members: readonly number[]; bytes: number }>();

  add(members: readonly number[], bytes: number): void {
    const name = members.join();
    const set = this.#sets.get(name);
    if (set === undefined) this.#sets.set(name, { members, bytes });
    else set.bytes += bytes;
  }

  /** The most that a member of any set has to send. */
  get most(): number {
    let most = 0;
    let total = 0;
    const all = new Set<number>();
    for (const { members, bytes } of this.#sets.values()) {
      total += bytes;
      let inside = bytes;
      for (const member of members) {
        all.add(member);
        if (members.length > 1) inside += this.#sets.get(String(member))?.bytes ?? 0;
      }
      most = Math.max(most, inside / members.length);
    }
    return all.size === 0 ? 0 : Math.max(most, total / all.size);
  }
}
