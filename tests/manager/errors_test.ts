import { assert, assertEquals } from "@std/assert";
import { parseLayouts, type RedistribStep, SeqferryError } from "../../mod.ts";
import { batchOf, Cluster } from "../cluster.ts";

const batch = batchOf(["a"], { k: { dtype: "int64", trailingShape: [] } });
const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }];

Deno.test("every error of a transfer, a set-up or a rebuild carries the flight record of its rank", async () => {
  await using cluster = await Cluster.open(2, parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2"));
  const [first] = cluster.managers;
  first!.store(batch);
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  const errorOf = async (run: () => Promise<unknown>): Promise<SeqferryError> => {
    const error = await run().then(() => null, (error) => error);
    assert(error instanceof SeqferryError, `${error}`);
    return error;
  };
  const lone = { timeoutMs: 100 };
  const errors = {
    "refused": await cluster.settle((manager) =>
      manager.redistribute(batch.meta(), [{ ...plan[0]!, ids: ["z"] } as never])
    )
      .then(([end]) => (end as PromiseRejectedResult).reason),
    "not begun": await errorOf(() => first!.redistribute(batch.meta(), plan, { signal: AbortSignal.abort() })),
    "deadline": await errorOf(() => first!.redistribute(batch.meta(), plan, lone)),
    "aborted before": await errorOf(() => first!.redistribute(batch.meta(), plan)),
    "rebuild": await errorOf(() => first!.rebuild({ uniqueId: cluster.uniqueId(), ...lone })),
    "set-up": await (async () => {
      const uniqueId = cluster.uniqueId();
      await cluster.all((manager) => manager.rebuild({ uniqueId }));
      return await errorOf(() => first!.setupProcessGroups(lone));
    })(),
  };
  for (const [what, error] of Object.entries(errors)) {
    assert((error as SeqferryError).flight!.length > 0, what);
    const last = (error as SeqferryError).flight!.at(-1)!;
    assert(last.transfer >= 1 && last.at > 1e12, what);
  }
  assertEquals(errors["deadline"].flight!.at(-1)!.event, "failed");
});
