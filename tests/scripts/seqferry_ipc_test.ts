import { assert, assertEquals } from "@std/assert";
import { type DataManager, exportTensor, type HostTensor, type TensorExport } from "../../mod.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { native } from "../native.ts";

const FOLDER = new URL("../../scripts/python/", import.meta.url).pathname;

const hasPython = await new Deno.Command("python3", { args: ["-c", "import ctypes"], stderr: "null" }).output()
  .then(({ success }) => success, () => false);

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `seqferry_ipc.py ${name}${hasPython ? "" : " (ignored: no python3)"}`, ignore: !hasPython, fn });
}

/** Runs Python that has the helper, `json`, and a description if one is given; answers what it prints, or its last line on standard error. */
async function python(program: string, description?: TensorExport, cudart = native.cudart.path): Promise<string> {
  const head = `import json, sys\nimport seqferry_ipc\ndescription = json.loads(sys.argv[1])\n`;
  const { success, stdout, stderr } = await new Deno.Command("python3", {
    args: ["-B", "-c", head + program, JSON.stringify(description ?? null)],
    env: { PYTHONPATH: FOLDER, SEQFERRY_CUDART: cudart },
  }).output();
  const decoder = new TextDecoder();
  return success ? decoder.decode(stdout).trim() : decoder.decode(stderr).trim().split("\n").at(-1)!;
}

async function stored(key: { dtype: "float32" | "bfloat16"; trailingShape: number[] }) {
  const cluster = await Cluster.open(1);
  const manager: DataManager = cluster.managers[0]!;
  const batch = batchOf(["a"], { key });
  manager.store(batch);
  const exported = exportTensor(manager.get("a").data!["key"]!);
  return {
    bytes: (batch.data!["key"] as HostTensor).bytes,
    description: exported.description,
    async [Symbol.asyncDispose]() {
      exported[Symbol.dispose]();
      await cluster[Symbol.asyncDispose]();
    },
  };
}

test("opens a stored tensor and closes it, once or more often", async () => {
  await using tensor = await stored({ dtype: "bfloat16", trailingShape: [3] });
  const program = `
with seqferry_ipc.open_tensor(description) as opened:
    print(opened.to_host().hex())
opened.close()
try:
    opened.to_host()
except ValueError as error:
    print(error)
`;
  assertEquals(await python(program, tensor.description), `${tensor.bytes.toHex()}\nthe tensor was closed`);
});

test("refuses a description that cannot be, naming the field", async () => {
  await using tensor = await stored({ dtype: "float32", trailingShape: [] });
  const { description } = tensor;
  const bad: [Partial<Record<keyof TensorExport, unknown>>, RegExp][] = [
    [{ dtype: "float12" }, /^ValueError: dtype is 'float12'/],
    [{ shape: [-1] }, /^ValueError: shape is sizes from 0 up, not \[-1\]/],
    [{ byteLength: 1 }, /^ValueError: byteLength of float32 \[\d+\] is \d+, not 1/],
    [{ offset: -4 }, /^ValueError: offset is a number of bytes from 0 up, not -4/],
    [{ device: "0000:ff:00.0" }, /^LookupError: this process sees no device 0000:ff:00.0/],
    [{ memory: "AAAA" }, /^ValueError: a handle has 64 bytes, not 3/],
    [{ event: "AAAA" }, /^ValueError: a handle has 64 bytes, not 3/],
  ];
  for (const [change, words] of bad) {
    const answer = await python(`seqferry_ipc.open_tensor(description)`, { ...description, ...change } as TensorExport);
    assert(words.test(answer), `${JSON.stringify(change)}: ${answer}`);
  }
});

test("says what to set when there is no libcudart", async () => {
  const folder = await Deno.makeTempDir();
  try {
    assertEquals(
      await python(`seqferry_ipc.cudart()`, undefined, folder),
      `OSError: there is no libcudart.so in ${folder}, which SEQFERRY_CUDART names`,
    );
  } finally {
    await Deno.remove(folder);
  }
  const answer = await python(`seqferry_ipc.cudart()`, undefined, "/no/such/library.so");
  assert(answer.startsWith("OSError: libcudart was not found; set SEQFERRY_CUDART"), answer);
});
