/**
 * The rollouts that come with the project, as every process of the check knows them.
 *
 * A token here is a byte of UTF-8: a byte-pair vocabulary would be a package, and the check runs with Deno alone.
 *
 * @module
 */

import type { DataManager, HostTensor, SequenceSample } from "../../mod.ts";
import { rolloutSample } from "../../src/commands/rollout_sample.ts";
import { parseRollouts } from "../../src/commands/rollouts.ts";
import { Missed } from "./check.ts";

const FILE = new URL("../../src/commands/data/rollouts.jsonl", import.meta.url);

/** All rollouts as one sample; the same in every process. */
export async function rollouts(): Promise<SequenceSample> {
  const utf8 = new TextEncoder();
  return rolloutSample(parseRollouts(await Deno.readFile(FILE), "rollouts.jsonl"), 1, (text) => [...utf8.encode(text)]);
}

/** Compares what a manager holds of a sample's one id with the sample, bit for bit; answers how many bytes it has. */
export async function sameSample(manager: DataManager, expected: SequenceSample): Promise<number> {
  const id = expected.ids[0]!;
  const found = await manager.get(id).toHost();
  let bytes = 0;
  for (const key of expected.keys) {
    const [ours, theirs] = [found.data![key] as HostTensor, expected.data![key] as HostTensor];
    if (!sameBytes(ours.bytes, theirs.bytes)) {
      throw new Missed(`${key} of ${id} on rank ${manager.rank} is not what it was`);
    }
    bytes += ours.bytes.byteLength;
  }
  return bytes;
}

/** Whether two stretches of bytes are the same. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}
