/**
 * Ids by the ranks that they go to.
 *
 * With data parallelism many ranks want the same ids, and there are few sets of ranks that want something, whatever the number of ids. So ranks with
 * equal lists form a group, ids that are wanted by the same groups form a class, and what is worked out for a group or a class need not be worked
 * out for each rank or id.
 *
 * @module
 */

/** A rank and the ids that go to it. */
export interface DestinationList {
  /** The rank. */
  readonly rank: number;
  /** What goes to it. */
  readonly ids: readonly string[];
}

/** Ids by their sets of destinations. */
export interface DestinationClasses {
  /** By id, its class, in the order in which the lists first name the ids. */
  readonly classOf: ReadonlyMap<string, { readonly number: number }>;
  /** By position in the lists, the rank's group. */
  readonly groupOf: readonly number[];
  /** The groups that the ids of a class go to, descending. */
  groupsOf(number: number): number[];
  /** The ranks that the ids of a class go to, ascending. */
  ranksOf(number: number): number[];
}

/** Ranks with equal lists. */
interface Group {
  readonly ranks: number[];
  readonly ids: readonly string[];
}

/**
 * Finds the classes. Linear in the number of (rank, id) pairs.
 *
 * @param lists By ascending rank.
 * @param check Called for each id of each group's list; `again` says that the list has named it before.
 */
export function destinationClasses(
  lists: readonly DestinationList[],
  check: (rank: number, id: string, again: boolean) => void = () => {},
): DestinationClasses {
  const { groups, groupOf } = groupEqualLists(lists);
  // The sets of groups met so far form a tree: adding a group to a set leads to a child. Going through the groups in order takes each id from
  // the empty set, node 0, to the set of all groups that want it. That node is its class.
  const parents = [-1];
  const added = [-1];
  const classOf = new Map<string, { number: number; lastGroup: number }>();
  for (const [g, { ranks, ids }] of groups.entries()) {
    const children = new Map<number, number>();
    for (const id of ids) {
      let at = classOf.get(id);
      if (at === undefined) classOf.set(id, at = { number: 0, lastGroup: -1 });
      check(ranks[0]!, id, at.lastGroup === g);
      let child = children.get(at.number);
      if (child === undefined) {
        children.set(at.number, child = parents.length);
        parents.push(at.number);
        added.push(g);
      }
      at.number = child;
      at.lastGroup = g;
    }
  }
  const groupsOf = (number: number): number[] => {
    const path: number[] = [];
    for (let at = number; at !== 0; at = parents[at]!) path.push(added[at]!);
    return path;
  };
  const ranksOf = (number: number): number[] => {
    const ranks: number[] = [];
    for (const g of groupsOf(number)) for (const rank of groups[g]!.ranks) ranks.push(rank);
    return ranks.sort((a, b) => a - b);
  };
  return { classOf, groupOf, groupsOf, ranksOf };
}

/** How many earlier lists with the same first id a list is compared to. */
const MOST_COMPARISONS = 4;

/**
 * Puts ranks whose lists are equal, in the same order, into one group. Equal lists that are not recognized, because they are in another order
 * or because many lists begin alike, only cost time.
 */
function groupEqualLists(lists: readonly DestinationList[]): { groups: Group[]; groupOf: number[] } {
  const groups: Group[] = [];
  /** Groups by the first id of their list. */
  const byFirst = new Map<string | undefined, number[]>();
  const groupOf = lists.map(({ rank, ids }) => {
    let candidates = byFirst.get(ids[0]);
    if (candidates === undefined) byFirst.set(ids[0], candidates = []);
    let g = candidates.slice(-MOST_COMPARISONS).find((g) => equalLists(groups[g]!.ids, ids));
    if (g === undefined) candidates.push(g = groups.push({ ranks: [], ids }) - 1);
    groups[g]!.ranks.push(rank);
    return g;
  });
  return { groups, groupOf };
}

function equalLists(a: readonly string[], b: readonly string[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length || a.at(-1) !== b.at(-1)) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
