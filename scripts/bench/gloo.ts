/**
 * The rival: the same deliveries through torch.distributed with gloo, as the reference makes them.
 *
 * @module
 */

import type { Pattern } from "../../mod.ts";
import { CASES, prepare, type Size } from "./cases.ts";
import { planToJSON } from "../../mod.ts";
import { median } from "./floor.ts";

let missing = false;

/** Median seconds of the longest rank, or null where Python with torch is not there. `SEQFERRY_PYTHON` names the interpreter. */
export async function measureGloo(
  caseIndex: number,
  size: Size,
  pattern: Pattern,
  worldSize: number,
): Promise<number | null> {
  if (missing) return null;
  const { meta, plan, before } = prepare(CASES[caseIndex]!, size, pattern);
  const job = JSON.stringify({
    worldSize,
    plan: planToJSON(plan),
    keys: meta.keys.map((key) => ({
      key,
      dtype: meta.dtypes[key],
      lengths: meta.seqlens[key]!.map(([length]) => length),
    })),
    ids: meta.ids,
    before,
    repeats: size === "L" ? 3 : 5,
  });
  const child = new Deno.Command(Deno.env.get("SEQFERRY_PYTHON") ?? "python3", {
    args: [new URL("gloo.py", import.meta.url).pathname],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  });
  try {
    const process = child.spawn();
    const writer = process.stdin.getWriter();
    await writer.write(new TextEncoder().encode(job));
    await writer.close();
    const { success, stdout } = await process.output();
    if (!success) throw new Error("no torch");
    return median(JSON.parse(new TextDecoder().decode(stdout)) as number[]);
  } catch {
    missing = true;
    return null;
  }
}
