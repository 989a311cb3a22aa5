import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { SetTree } from "../../src/plan/set_tree.ts";

const IDS = 12;

Deno.test("SetTree has ids in one set just when they have the same things", () => {
  const lists = fc.array(fc.uniqueArray(fc.nat(IDS - 1), { maxLength: IDS }), { maxLength: 8 });
  fc.assert(fc.property(lists, (lists) => {
    const tree = new SetTree(new Int32Array(IDS));
    // Each list stands in the middle of a longer one.
    lists.forEach((ids, thing) => tree.add(thing, Int32Array.of(0, ...ids, 0), 1, 1 + ids.length));
    const expected = Array.from({ length: IDS }, (_, id) => [...lists.keys()].filter((n) => lists[n]!.includes(id)));
    const path: number[] = [];
    for (let id = 0; id < IDS; id++) {
      const count = tree.thingsOf(tree.setOf[id]!, path);
      assertEquals(path.slice(0, count), expected[id]);
      for (let other = 0; other < id; other++) {
        assertEquals(tree.setOf[id] === tree.setOf[other], expected[id]!.join() === expected[other]!.join());
      }
    }
  }));
});
