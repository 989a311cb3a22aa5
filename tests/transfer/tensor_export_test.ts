import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ClosedError, CudaError, type RedistribStep, SeqferryError, SequenceSample } from "../../mod.ts";
import {
  exportTensor,
  type ImportedTensor,
  importTensor,
  type TensorExport,
} from "../../src/transfer/tensor_export.ts";
import { linesOf } from "../../src/lines.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { native } from "../native.ts";
import type { GiverCommand } from "./tensor_giver.ts";

const KEYS = { hidden: { dtype: "bfloat16", trailingShape: [300] } } as const;
const batch = batchOf(["a", "b"], KEYS);

/** The bytes of an id's tensor, as both processes make them. */
function bytesOf(id: string): Uint8Array {
  const part = batch.unpack().find((sample) => sample.ids[0] === id)!;
  return (part.data!["hidden"] as { bytes: Uint8Array }).bytes;
}

/** A sample of one id over a tensor. */
function sampleOver(id: string, tensor: ImportedTensor): SequenceSample {
  const { ids, keys, dtypes, trailingShapes, seqlens, metadata } = batch.unpack().find((one) => one.ids[0] === id)!;
  return new SequenceSample({ ids, keys, dtypes, trailingShapes, seqlens, data: { hidden: tensor }, metadata });
}

/** The other process. */
class Giver implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncGenerator<string>;

  constructor() {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", new URL("tensor_giver.ts", import.meta.url).href],
      env: { SEQFERRY_CPU_LIBRARY: native.cudart.path, SEQFERRY_CPU_STRICT: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#answers = linesOf(this.#child.stdout);
  }

  async tell(command: GiverCommand): Promise<{ ok?: unknown; error?: string }> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    const { done, value } = await this.#answers.next();
    if (done === true) throw new Error("the other process has ended");
    return JSON.parse(value);
  }

  async give(id: string): Promise<TensorExport> {
    return (await this.tell({ op: "give", id })).ok as TensorExport;
  }

  /** Ends the process; in strict mode its exit code tells of leaks. */
  async end(): Promise<number> {
    await this.tell({ op: "end" });
    await this.#input.close();
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#child.status;
    await this.#input.close().catch(() => {});
    while ((await this.#answers.next()).done !== true);
  }
}

Deno.test("importTensor() opens another process's stored tensor, whole", async () => {
  await using giver = new Giver();
  await using cluster = await Cluster.bare(1);
  const description = await giver.give("b");
  assert(description.offset > 0);
  using tensor = await importTensor(cluster.runtimes[0]!, description);
  assertEquals([tensor.dtype, tensor.byteLength], ["bfloat16", bytesOf("b").byteLength]);
  assertEquals((await tensor.toHost()).bytes, bytesOf("b"));
});

Deno.test("exportTensor() lets another process read what a manager stores", async () => {
  await using giver = new Giver();
  await using cluster = await Cluster.open(1);
  for (const sample of batch.unpack()) cluster.managers[0]!.store(sample);
  using exported = exportTensor(cluster.managers[0]!.get("a").data!["hidden"]!);
  // The id goes, and what is left moves; what was exported stays.
  cluster.managers[0]!.remove(["a", "b"]);
  const { ok } = await giver.tell({ op: "take", description: exported.description });
  assertEquals(Uint8Array.fromBase64(ok as string), bytesOf("a"));
});

Deno.test("a tensor of another process is stored without a copy, sent to a third rank, and given back", async () => {
  await using giver = new Giver();
  const free = (await giver.tell({ op: "freeBytes" })).ok;
  {
    await using cluster = await Cluster.open(2);
    const before = cluster.runtimes[0]!.memoryInfo().freeBytes;
    const [first, second] = cluster.managers;
    const tensor = await importTensor(cluster.runtimes[0]!, await giver.give("a"));
    first!.store(sampleOver("a", tensor));
    tensor[Symbol.dispose]();
    // Nothing was allocated for it; the copier's stream takes none.
    assertEquals(cluster.runtimes[0]!.memoryInfo().freeBytes, before);
    const plan: RedistribStep[] = [
      { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["hidden"] },
    ];
    const meta = batch.unpack()[0]!.meta();
    await cluster.all((manager) => manager.redistribute(meta, plan, { verify: true }));
    const received = await second!.get("a").toHost();
    assertEquals((received.data!["hidden"] as { bytes: Uint8Array }).bytes, bytesOf("a"));
    first!.remove(["a"]);
    await assertRejects(() => tensor.toHost(), ClosedError);
  }
  await giver.tell({ op: "takeBack" });
  assertEquals((await giver.tell({ op: "freeBytes" })).ok, free);
  assertEquals(await giver.end(), 0);
});

Deno.test("importTensor() refuses a description that cannot be, naming the field", async () => {
  await using cluster = await Cluster.open(1);
  const runtime = cluster.runtimes[0]!;
  for (const sample of batch.unpack()) cluster.managers[0]!.store(sample);
  using exported = exportTensor(cluster.managers[0]!.get("a").data!["hidden"]!);
  const good = exported.description;
  const bad: [Partial<Record<keyof TensorExport, unknown>>, string][] = [
    [{ dtype: "float12" }, "dtype"],
    [{ shape: [2, -1] }, "shape"],
    [{ byteLength: good.byteLength + 1 }, "byteLength"],
    [{ shape: [2 ** 40, 2 ** 40], byteLength: 2 ** 80 * 4 }, "byteLength"],
    [{ offset: -1 }, "offset"],
    [{ offset: 1e-17 }, "offset"],
    [{ offset: 2 ** 53 - 1 }, "offset"],
    [{ memory: "AAAA" }, "memory of an exported tensor is 64 bytes"],
    [{ event: "no base64" }, "event"],
    [{ device: "0000:ff:00.0" }, "is on device 0000:ff:00.0"],
  ];
  for (const [change, words] of bad) {
    await assertRejects(
      () => importTensor(runtime, { ...good, ...change } as TensorExport),
      SeqferryError,
      words,
    );
  }
  for (const none of [null, undefined, "text"]) {
    await assertRejects(() => importTensor(runtime, none as never), SeqferryError, "described by an object");
  }
  // A process cannot open its own handles: neither the event's nor the memory's.
  for (const event of [good.event, null]) {
    const error = await assertRejects(() => importTensor(runtime, { ...good, event }), CudaError);
    assertEquals(error.codeName, "cudaErrorDeviceUninitialized");
  }
});

Deno.test("importTensor() of a description that reaches beyond its allocation fails when it is read, and harms nothing", async () => {
  await using giver = new Giver();
  await using cluster = await Cluster.bare(1);
  const runtime = cluster.runtimes[0]!;
  const good = await giver.give("a");
  for (const offset of [2 ** 30, 2 ** 45]) {
    await assertRejects(async () => {
      using tensor = await importTensor(runtime, { ...good, offset });
      await tensor.toHost();
    }, CudaError);
  }
  using tensor = await importTensor(runtime, good);
  assertEquals((await tensor.toHost()).bytes, bytesOf("a"));
});

Deno.test("exportTensor() refuses what is not in device memory, or gone", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  for (const sample of batch.unpack()) manager.store(sample);
  assertThrows(() => exportTensor(batch.data!["hidden"]!), SeqferryError, "only a tensor in device memory");
  const tensor = manager.get("a").data!["hidden"]!;
  manager.remove(["a"]);
  assertThrows(() => exportTensor(tensor), ClosedError);
});

Deno.test("importTensor() fails with CUDA's error when the giver has ended", async () => {
  await using cluster = await Cluster.bare(1);
  let description: TensorExport;
  {
    await using giver = new Giver();
    description = await giver.give("a");
  }
  await assertRejects(() => importTensor(cluster.runtimes[0]!, description), CudaError);
  await assertRejects(
    () => importTensor(cluster.runtimes[0]!, { ...description, event: null }),
    CudaError,
    "has ended",
  );
});
