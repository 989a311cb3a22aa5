import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type HostTensor, SequenceSample } from "../../mod.ts";
import { readInput } from "../../src/commands/read_input.ts";
import { native } from "../native.ts";
import { childrenOf, eventually, isAlive } from "../processes.ts";

const CLI = new URL("../../src/cli.ts", import.meta.url).href;
const LAYOUTS = "actor=pp1,dp4,tp1 critic=pp1,dp2,tp2 trainer=pp2,dp2,tp1";

/** Starts `run` on the stand-in that this process has built. */
function start(args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", CLI, "run", "--backend", "cpu", ...args],
    env: { NO_COLOR: "1", SEQFERRY_CPU_LIBRARY: native.cudart.path },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function run(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return await outcome(start(args));
}

async function outcome(child: Deno.ChildProcess): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "seqferry-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The bytes of each key of each id. */
function tensors(sample: SequenceSample): Map<string, string> {
  return new Map(
    sample.unpack().flatMap((one) =>
      one.keys.map((key): [string, string] => [`${one.ids[0]} ${key}`, (one.data![key] as HostTensor).bytes.toHex()])
    ),
  );
}

for (const pattern of ["gather-scatter", "bcast"]) {
  Deno.test(`run moves the project's rollouts through three layouts with ${pattern}, and every byte is right`, () =>
    inFolder(async (folder) => {
      const [report, output] = [`${folder}/report.json`, `${folder}/out`];
      const args = ["--layouts", LAYOUTS, "--pattern", pattern, "--report", report, "--output", output, "--verify"];
      const { code, stdout, stderr } = await run(args);
      assertEquals(code, 0, stderr);
      assertStringIncludes(stdout, "actor/0 → critic/0");
      assertStringIncludes(stdout, "critic/0 → trainer/0");
      assertStringIncludes(stdout, "every byte is the same");
      assertStringIncludes(stdout, "synthesized from seed 1");

      const json = JSON.parse(await Deno.readTextFile(report));
      assertEquals(json.ranks, 4);
      assertEquals(json.error, null);
      assertEquals(json.verified.wrong, 0);
      assertEquals(json.synthesizedKeys, ["packed_logprobs", "values", "version"]);
      assertEquals(json.transfers.length, 2);
      for (const transfer of json.transfers) {
        assertEquals(transfer.perRank.length, 4);
        // A broadcast leaves its root once, and arrives at each of the others.
        assert(transfer.bytesSent > 0 && transfer.bytesSent <= transfer.bytesReceived);
        assert(transfer.bytesReceived > 0 && transfer.bytesReceived <= transfer.referenceBytesReceived);
        assert(transfer.steps > 0 && transfer.phases > 0 && transfer.seconds > 0 && transfer.gbPerSecond > 0);
        assertEquals(transfer.verified.wrong, 0);
      }

      const truth = tensors((await readInput(undefined, 1)).sample);
      const files = Array.from({ length: 4 }, (_, rank) => `${output}/rank-${rank}.safetensors`);
      assertEquals(json.outputs, files);
      let [compared, bytes] = [0, 0];
      for (const file of files) {
        for (const [name, hex] of tensors(SequenceSample.fromSafetensors(await Deno.readFile(file)))) {
          assertEquals(hex, truth.get(name), `${file} ${name}`);
          compared++;
          bytes += hex.length / 2;
        }
      }
      assertEquals([json.verified.tensors, json.verified.bytes], [compared, bytes]);
    }));
}

Deno.test("run takes safetensors, leaves absent keys behind, and writes ranks that hold nothing", () =>
  inFolder(async (folder) => {
    const input = `${folder}/in.safetensors`;
    const sample = new SequenceSample({
      ids: ["x", "y"],
      keys: ["flags", "later"],
      dtypes: { flags: "bool", later: null },
      trailingShapes: { flags: [3], later: null },
      seqlens: { flags: [[2, 0], [1]], later: [[1], [1]] },
      data: {
        flags: { dtype: "bool", shape: [3, 3], bytes: new Uint8Array([1, 0, 0, 0, 1, 0, 1, 1, 0]) },
        later: null,
      },
    });
    await Deno.writeFile(input, sample.toSafetensors());
    const args = ["--input", input, "--layouts", "a=pp1,dp1,tp1 b@1=pp1,dp1,tp1", "--ranks", "3", "--output", folder];
    const { code, stdout, stderr } = await run(args);
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, "later has no data in");
    assert(!stdout.includes("synthesized"));
    const ranks = await Promise.all(
      [0, 1, 2].map(async (rank) =>
        SequenceSample.fromSafetensors(await Deno.readFile(`${folder}/rank-${rank}.safetensors`))
      ),
    );
    assertEquals(ranks.map(({ ids }) => [...ids]), [["x", "y"], ["x", "y"], []]);
    assertEquals(tensors(ranks[1]!), tensors(sample.select(["flags"])));
  }));

/** The workers of a run, once all of them are there. */
async function workersOf(child: Deno.ChildProcess, count: number): Promise<number[]> {
  await eventually(`${count} workers of the run`, () => childrenOf(child.pid).length === count);
  return childrenOf(child.pid);
}

Deno.test("run ends with 1 and a sentence when a worker is killed, and leaves none", async () => {
  const child = start(["--layouts", LAYOUTS]);
  const workers = await workersOf(child, 4);
  Deno.kill(workers[2]!, "SIGKILL");
  const { code, stderr } = await outcome(child);
  assertEquals(code, 1, stderr);
  assert(/seqferry: the worker of rank \d ended by SIGKILL\n/.test(stderr), stderr);
  assertEquals(workers.filter(isAlive), []);
});

Deno.test("run ends with 1 at its deadline when a worker does not answer, and leaves none", () =>
  inFolder(async (folder) => {
    const report = `${folder}/report.json`;
    const child = start(["--layouts", LAYOUTS, "--timeout", "2", "--report", report]);
    const workers = await workersOf(child, 4);
    Deno.kill(workers[1]!, "SIGSTOP");
    const { code, stderr } = await outcome(child);
    assertEquals(code, 1, stderr);
    assertEquals(workers.filter(isAlive), []);
    const { error } = JSON.parse(await Deno.readTextFile(report));
    assertStringIncludes(stderr, error.message);
  }));

for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  for (const [when, least] of [["when a worker is there", 1], ["when all of them are", 12]] as const) {
    Deno.test(`run ends with ${expected} on ${signal} ${when}, and leaves none`, async () => {
      const child = start(["--layouts", LAYOUTS, "--ranks", "12"]);
      await eventually(`${least} workers of the run`, () => childrenOf(child.pid).length >= least);
      const workers = childrenOf(child.pid);
      child.kill(signal);
      const { code, stderr } = await outcome(child);
      assertEquals(code, expected, stderr);
      assertStringIncludes(stderr, `seqferry: stopped by ${signal}`);
      assertEquals(workers.filter(isAlive), []);
    });
  }
}

Deno.test("the workers of a run end by themselves when the run is killed", async () => {
  const child = start(["--layouts", LAYOUTS]);
  const workers = await workersOf(child, 4);
  child.kill("SIGKILL");
  await outcome(child);
  await eventually("the end of all workers", () => !workers.some(isAlive));
});
