/**
 * Finding what has the same set of something, in one go for each thing in the sets.
 *
 * The sets met so far form a tree: to add a thing to a set leads to a child. What begins at the empty set and is led along by every thing that it has comes to
 * stand at its own set, together with all that have the same.
 *
 * @module
 */

/** Of ids, by their positions, the sets of things that they have. Sets are numbered; 0 is the empty one. */
export class SetTree {
  /** By id the number of its set so far. */
  readonly setOf: Int32Array;
  /** By set: without the thing that was added last, and that thing. */
  readonly #parents: number[] = [-1];
  readonly #added: number[] = [-1];
  /** By set the last child that it got. */
  readonly #children: number[] = [0];

  /** Begins with `setOf`, all zero, which it keeps. */
  constructor(setOf: Int32Array) {
    this.setOf = setOf;
  }

  /** How many sets there are, those on the way to others among them. */
  get size(): number {
    return this.#parents.length;
  }

  /** Adds one thing more to the sets of the ids whose positions stand from `begin` to before `end`, each of which stands there once. */
  add(thing: number, ids: Int32Array, begin: number, end: number): void {
    const { setOf } = this;
    const firstChild = this.size;
    // Neighbours mostly have the same set.
    let before = -1, after = 0;
    for (let i = begin; i < end; i++) {
      const id = ids[i]!;
      const set = setOf[id]!;
      if (set !== before) {
        before = set;
        after = this.#children[set]!;
        if (after < firstChild) after = this.#grow(set, thing);
      }
      setOf[id] = after;
    }
  }

  #grow(set: number, thing: number): number {
    const child = this.#parents.push(set) - 1;
    this.#added.push(thing);
    this.#children.push(0);
    this.#children[set] = child;
    return child;
  }

  /** The things in a set, in the order in which they were added; put into `things`, from the beginning. Returns how many there are. */
  thingsOf(set: number, things: number[]): number {
    let count = 0;
    for (let at = set; at > 0; at = this.#parents[at]!) things[count++] = this.#added[at]!;
    for (let low = 0, high = count - 1; low < high; low++, high--) {
      const thing = things[low]!;
      things[low] = things[high]!;
      things[high] = thing;
    }
    return count;
  }
}
