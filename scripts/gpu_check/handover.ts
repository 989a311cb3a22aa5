/**
 * Handing tensors over without a copy: to another Deno process, and to Python, where torch takes them if it is there.
 *
 * @module
 */

import type { TensorExport } from "../../mod.ts";
import { type Checks, expect, type Numbers, Skip } from "./check.ts";
import { type Given, GIVEN_BYTES, givenBytes, type HandoverCommand, type Opened, sha256 } from "./handover_peer.ts";
import { PeerProcess, runToEnd } from "./peer_process.ts";
import type { Place } from "./place.ts";

const GROUP = "hand-over";
/** How many rollouts are handed over, key by key. */
const ROLLOUTS = 3;

type Side = PeerProcess<HandoverCommand>;

/** Makes the checks. */
export async function checkHandover(checks: Checks, place: Place): Promise<void> {
  const deno = (name: string): Side => PeerProcess.deno(name, "handover_peer.ts", [place.backend], place.env);
  const python = async (): Promise<Side> => {
    await requirePython();
    const script = new URL("../python/handover_peer.py", import.meta.url).pathname;
    return new PeerProcess("Python", "python3", ["-B", script, place.backend], place.env);
  };
  await checks.run(GROUP, "another Deno process opens stored tensors", async () => {
    await using giver = deno("the giver");
    await using taker = deno("the taker");
    return await give(giver, taker);
  });
  await checks.run(GROUP, "another Deno process's tensor is stored as it is", async () => {
    await using giver = deno("the giver");
    await using taker = deno("the taker");
    return await take(giver, taker);
  });
  await checks.run(GROUP, "a Python process opens stored tensors (torch, where it is on the GPU)", async () => {
    await using taker = await python();
    await using giver = deno("the giver");
    return await give(giver, taker);
  });
  await checks.run(
    GROUP,
    "a Python process's tensor is stored as it is (torch's, where it is on the GPU)",
    async () => {
      await using giver = await python();
      await using taker = deno("the taker");
      return await take(giver, taker);
    },
  );
}

let pythonFound: Promise<boolean> | undefined;

/** Throws a {@linkcode Skip} where there is no Python that can take part. */
export async function requirePython(): Promise<void> {
  pythonFound ??= runToEnd("python3", ["-c", "import ctypes"], { timeoutMs: 30_000 })
    .then(({ success }) => success, () => false);
  if (!await pythonFound) throw new Skip("there is no python3 with ctypes");
}

/** One side gives what it has stored, the other opens it. */
async function give(giver: Side, taker: Side): Promise<Numbers> {
  const numbers = { tensors: 0, byTorch: 0, slowestOpenMs: 0 };
  for (let index = 0; index < ROLLOUTS; index++) {
    for (const { key, description, sha256 } of await giver.must<Given[]>({ op: "giveRollout", index })) {
      const opened = await taker.must<Opened>({ op: "open", description });
      expect(opened.sha256 === sha256, `${key} of rollout ${index} is not what is stored`);
      numbers.tensors++;
      numbers.byTorch += Number(opened.torch);
      numbers.slowestOpenMs = Math.max(numbers.slowestOpenMs, opened.openMs);
    }
  }
  await giver.must({ op: "close" });
  return numbers;
}

/** One side gives a tensor of its own, the other stores it without a copy. */
async function take(giver: Side, taker: Side): Promise<Numbers> {
  const description = await giver.must<TensorExport>({ op: "give" });
  const opened = await taker.must<Opened>({ op: "store", description });
  expect(opened.sha256 === await sha256(givenBytes()), "the stored bytes are not those that were given");
  await giver.must({ op: "close" });
  return { MiB: GIVEN_BYTES / 2 ** 20, openAndStoreMs: opened.openMs };
}
