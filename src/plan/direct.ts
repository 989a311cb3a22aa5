/**
 * The pattern "direct": from those who have something to those who lack it, without a root.
 *
 * - A rank is sent what it lacks, once, and nothing else: what comes into a rank is at its lower bound.
 * - Something comes into a node that lacks it once, and to the others of the node from the rank that got it: what comes into a node is at its lower
 *   bound. What a rank of the node has never comes from outside.
 * - Senders are balanced. Whoever has something can send it, a destination once it has received it; so a source gives each of several replicas
 *   another part, which they then give each other, where sending it all to all of them would make the source the bottleneck.
 *
 * Ids of one class are cut into pieces of consecutive ids, small enough to balance with, and no smaller. How often a piece may be passed on is
 * tried from "not at all" upwards, and the first that brings the busiest links near their bounds is taken: each time that something is passed
 * on is a phase more, with its latency.
 *
 * @module
 */

import type { Draft } from "./auto.ts";
import { exchangeSteps } from "./exchange_steps.ts";
import type { ItemSizes } from "./item_sizes.ts";
import type { LackClass, SendLimits, Shape } from "./lack.ts";
import { type LinkBounds, linkBounds } from "./link_bounds.ts";
import { type HopLimits, type Piece, type Portion, type Spread, Spreader } from "./spread.ts";
import type { ExchangeStep } from "./step.ts";
import { largestOf } from "./stretches.ts";
import { type Items, Traffic, trafficOf } from "./traffic.ts";

/** A piece's share of what the busiest link has to carry anyway. */
const PIECE_SHARE = 1 / 16;

/** Up to this part of a piece, classes of one shape make one together. */
const SMALL = 1 / 4;

/** Links no more above their bounds than this need no further pass, and no further hop: a hop more is a phase more. */
const NEAR = 1.01;
const NEAR_ENOUGH = 1.1;

/** Passes over all pieces that are tried before more hops are. Many small pieces come out even without. */
const PASSES = [1, 3, 9];

/** Hops of all passes together, of which there may be more only in a single pass. */
const MOST_HOPS_PLACED = 1 << 19;

/** Hops of all pieces together, to which classes are cut no finer. */
const MOST_HOPS = 1 << 19;

/**
 * Derives the plan: exchanges, each entry with one destination.
 *
 * @param classes What is lacking.
 * @param items The ids and keys that its positions stand for.
 * @param cluster Ranks in the world and on a node.
 * @param limits What ranks can send, as `classes` were found with them.
 */
export function planDirect(
  classes: readonly LackClass[],
  items: Items,
  cluster: { worldSize: number; gpusPerNode: number },
  limits?: SendLimits,
): Draft {
  const { worldSize } = cluster;
  if (classes.length === 0) return { plan: () => [], steps: () => 0, traffic: () => new Traffic(worldSize) };
  const bounds = linkBounds(classes, cluster, items.sizes);
  const { pieces, portions, hopCount } = cut(classes, bounds, items.sizes);
  const ways = findWays(pieces, hopCount, cluster, bounds, limits?.relays);
  let steps: ExchangeStep[] | undefined;
  const plan = () => steps ??= exchangeSteps(portions, ways, items, worldSize, limits?.room);
  const traffic = () =>
    limits === undefined ? hopTraffic(portions, ways, items.sizes, worldSize) : trafficOf(plan(), items, worldSize);
  return { plan, steps: () => plan().length, traffic };
}

/** What {@linkcode trafficOf} finds for the plan, at less expense. */
function hopTraffic(portions: readonly Portion[], { hops }: Spread, sizes: ItemSizes, worldSize: number): Traffic {
  const itemsOf = new Map<Piece, number>();
  for (const { of: { keys, ids }, begin, end, piece } of portions) {
    let items = itemsOf.get(piece) ?? 0;
    for (const k of keys) for (let i = begin; i < end; i++) if (sizes.byKey[k]![ids[i]!]! > 0) items++;
    itemsOf.set(piece, items);
  }
  const traffic = new Traffic(worldSize);
  for (const [{ shape, bytes, firstHop }, items] of itemsOf) {
    for (let i = 3 * firstHop; i < 3 * (firstHop + shape.lacking.length); i += 3) {
      traffic.add(hops[i + 2]!, hops[i]!, hops[i + 1]!, bytes, items);
    }
  }
  return traffic;
}

/**
 * Cuts classes into pieces, those first that load their senders most. Where single ids are too large to balance with, their keys travel apart; small classes
 * of one shape, which differ in their keys, share a piece.
 */
function cut(
  classes: readonly LackClass[],
  bounds: LinkBounds,
  sizes: ItemSizes,
): { pieces: Piece[]; portions: Portion[]; hopCount: number } {
  const pieces: Piece[] = [];
  const portions: Portion[] = [];
  const shared = new Map<Shape, { readonly piece: Piece; share: number }>();
  const oneKey = sizes.byKey.map((_, k) => [k]);
  let hopCount = 0;
  let hopsWanted = 0;
  for (const one of classes) hopsWanted += one.shape.lacking.length * shareOf(one, bounds) / PIECE_SHARE;
  const pieceShare = PIECE_SHARE * Math.max(1, hopsWanted / MOST_HOPS);
  const newPiece = (shape: Shape): Piece => {
    const piece = { shape, bytes: 0, firstHop: hopCount };
    pieces.push(piece);
    hopCount += shape.lacking.length;
    return piece;
  };
  const cutOne = (one: LackClass) => {
    const { shape, keys, begin, end } = one;
    const ids = end - begin;
    const share = shareOf(one, bounds) / pieceShare;
    const wanted = Math.max(1, Math.ceil(share));
    if (share <= SMALL) {
      let small = shared.get(shape);
      if (small === undefined || small.share + share > SMALL) {
        shared.set(shape, small = { piece: newPiece(shape), share: 0 });
      }
      small.share += share;
      small.piece.bytes += one.totalBytes;
      portions.push({ of: one, begin, end, piece: small.piece });
      return;
    }
    if (wanted > 2 * ids && keys.length > 1) {
      for (const k of keys) cutOne(ofKey(one, oneKey[k]!, sizes));
      return;
    }
    for (const { begin, end, bytes } of evenParts(one, Math.min(wanted, ids))) {
      const piece = newPiece(shape);
      piece.bytes = bytes;
      portions.push({ of: one, begin, end, piece });
    }
  };
  for (const one of classes) cutOne(one);
  const loads = pieces.map(({ shape, bytes }) => bytes * shape.lacking.length);
  const order = pieces.map((_, i) => i).sort((a, b) => loads[b]! - loads[a]! || a - b);
  return { pieces: order.map((i) => pieces[i]!), portions, hopCount };
}

/** What falls to a rank or a node that passes all of a class on, beside what the busiest has to carry anyway. */
function shareOf({ shape, totalBytes }: LackClass, bounds: LinkBounds): number {
  const { lacking, outerNodes } = shape;
  const rank = bounds.outOfRank > 0 ? totalBytes * Math.max(1, lacking.length - 1) / bounds.outOfRank : 0;
  if (outerNodes.length === 0) return rank;
  const node = bounds.outOfNode > 0 ? totalBytes * Math.max(1, outerNodes.length - 1) / bounds.outOfNode : 0;
  return Math.max(rank, node);
}

/** One key of a class. */
function ofKey({ shape, ids: all, begin, end }: LackClass, keys: readonly number[], sizes: ItemSizes): LackClass {
  const ids = all.slice(begin, end);
  const bytes = Float64Array.from(ids, (id) => sizes.byKey[keys[0]!]![id]!);
  return { shape, keys, ids, bytes, begin: 0, end: ids.length, totalBytes: bytes.reduce((total, n) => total + n, 0) };
}

/** At most `count` parts of consecutive ids, as even as whole ids allow; where they are in the class's arrays. */
function evenParts(
  one: LackClass,
  count: number,
): { begin: number; end: number; bytes: number }[] {
  const { bytes, totalBytes } = one;
  const parts: { begin: number; end: number; bytes: number }[] = [];
  let before = 0;
  for (let part = 1, begin = one.begin; part <= count && begin < one.end; part++) {
    let end = begin;
    let partBytes = 0;
    const partEnd = totalBytes * part / count;
    // Up to the id whose middle lies beyond the part's end; the last part takes all that is left.
    while (end < one.end && (part === count || end === begin || before + partBytes + bytes[end]! / 2 <= partEnd)) {
      partBytes += bytes[end++]!;
    }
    parts.push({ begin, end, bytes: partBytes });
    before += partBytes;
    begin = end;
  }
  return parts;
}

/** Tries ways with more and more hops, until the busiest links are near their bounds or more hops do not help. */
function findWays(
  pieces: readonly Piece[],
  hopCount: number,
  cluster: { worldSize: number; gpusPerNode: number },
  bounds: LinkBounds,
  relays: Uint8Array | undefined,
): Spread {
  const most = mostHops(pieces);
  let limits: HopLimits = { betweenNodes: 1, withinNode: 1 };
  let best: Spread | undefined;
  let bestExcess = Infinity;
  while (true) {
    let excess: { rank: number; node: number } = { rank: Infinity, node: Infinity };
    const spreader = new Spreader(pieces, hopCount, cluster, bounds, limits, relays);
    let done = 1;
    for (const passes of PASSES) {
      if (passes > 1 && passes * hopCount > MOST_HOPS_PLACED) break;
      for (; done < passes; done++) spreader.pass();
      excess = {
        rank: bounds.outOfRank > 0 ? largestOf(spreader.outOfRank) / bounds.outOfRank : 0,
        node: bounds.outOfNode > 0 ? largestOf(spreader.outOfNode) / bounds.outOfNode : 0,
      };
      const larger = Math.max(excess.rank, excess.node);
      const better = larger < 0.995 * bestExcess;
      if (better) {
        best = spreader.spread();
        bestExcess = larger;
      }
      if (bestExcess <= NEAR) return best!;
      if (!better && passes > 1) break;
    }
    if (bestExcess <= NEAR_ENOUGH) return best!;
    // What is too busy tells where to allow one hop more. Where a trial costs much, both are allowed at once.
    const costly = PASSES[1]! * hopCount > MOST_HOPS_PLACED;
    const between = limits.betweenNodes +
      (costly || excess.node > NEAR_ENOUGH || limits.withinNode >= most.withinNode ? 1 : 0);
    const within = limits.withinNode +
      (costly || excess.rank > NEAR_ENOUGH || limits.betweenNodes >= most.betweenNodes ? 1 : 0);
    const more: HopLimits = {
      betweenNodes: Math.min(between, most.betweenNodes),
      withinNode: Math.min(within, most.withinNode),
    };
    if (more.betweenNodes === limits.betweenNodes && more.withinNode === limits.withinNode) return best!;
    limits = more;
  }
}

/** As many hops as a binomial tree has at most; more would not pay. */
function mostHops(pieces: readonly Piece[]): HopLimits {
  let nodes = 1;
  let ranks = 1;
  for (const { shape: { innerNodes, outerNodes } } of pieces) {
    nodes = Math.max(nodes, outerNodes.length);
    for (const { lacking } of innerNodes) ranks = Math.max(ranks, lacking.length);
    for (const { lacking } of outerNodes) ranks = Math.max(ranks, lacking.length - 1);
  }
  return { betweenNodes: Math.ceil(Math.log2(nodes + 1)), withinNode: Math.ceil(Math.log2(ranks + 1)) };
}
