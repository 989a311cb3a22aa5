/**
 * Allocation of values to groups of a limited size.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { BinaryHeap } from "./binary_heap.ts";
import { bitonicOrder } from "./bitonic_order.ts";

interface Group {
  /** Its number, in the order of opening. */
  readonly index: number;
  readonly members: number[];
  sum: number;
}

/**
 * Allocates values to at least `minGroups` groups of at most `capacity` each, in the manner of first fit decreasing: values are taken from
 * the largest down (equal ones as {@linkcode bitonicOrder} has them); each opens a group while there are fewer than `minGroups` or none has room for it, and else
 * goes to the group with the fewest members of those with room (of equals to that with the smallest sum, then to the oldest).
 *
 * @param values Sizes, integers from 0 up.
 * @param capacity The largest sum of a group.
 * @param minGroups The least number of groups.
 * @returns Per group the positions of its values, both in the order of allocation.
 * @throws {SampleError} when a value exceeds the capacity, or there are fewer values than groups.
 */
export function firstFitDecreasing(values: readonly number[], capacity: number, minGroups: number): number[][] {
  const tooLarge = values.findIndex((value) => value > capacity);
  if (tooLarge !== -1) {
    throw new SampleError(`lens[${tooLarge}] is ${values[tooLarge]}, which exceeds the capacity of ${capacity}`, {
      field: `lens[${tooLarge}]`,
      value: values[tooLarge],
    });
  }
  if (values.length < minGroups) {
    throw new SampleError(`${show(values.length)} ids cannot fill ${minGroups} micro-batches`, {
      field: "nMbs",
      value: minGroups,
    });
  }
  const groups: Group[] = [];
  // The room that a value needs never grows from one value to the next. So a group that has room keeps it until it takes a value itself.
  const withRoom = new BinaryHeap<Group>((a, b) =>
    a.members.length - b.members.length || a.sum - b.sum || a.index - b.index
  );
  const full = new BinaryHeap<Group>((a, b) => a.sum - b.sum || a.index - b.index);
  for (const i of bitonicOrder(values)) {
    const value = values[i]!;
    for (let next = full.peek(); next !== undefined && next.sum + value <= capacity; next = full.peek()) {
      withRoom.push(full.pop()!);
    }
    let group = groups.length < minGroups ? undefined : withRoom.pop();
    if (group === undefined) {
      group = { index: groups.length, members: [], sum: 0 };
      groups.push(group);
    }
    group.members.push(i);
    group.sum += value;
    full.push(group);
  }
  return groups.map(({ members }) => members);
}
