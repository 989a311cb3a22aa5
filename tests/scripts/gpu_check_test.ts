import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { buildCpuLibrary } from "../../ffi/cpu_library.ts";
import type { Report } from "../../scripts/gpu_check/report.ts";
import { native } from "../native.ts";
import { childrenOf, eventually, isAlive } from "../processes.ts";

const SCRIPT = new URL("../../scripts/gpu_check.ts", import.meta.url);

/** Runs the script, on a stand-in that is built already; `json` has what it wrote. */
async function run(
  args: readonly string[],
  env: Record<string, string> = {},
  meanwhile: (child: Deno.ChildProcess, file: string) => Promise<void> = () => Promise.resolve(),
): Promise<{ code: number; stdout: string; stderr: string; report: Report | null }> {
  const file = await Deno.makeTempFile();
  try {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", SCRIPT.href, ...args, "--json", file],
      env: { SEQFERRY_CPU_LIBRARY: native.cudart.path, ...env },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const output = child.output();
    await meanwhile(child, file);
    const { code, stdout, stderr } = await output;
    const text = await Deno.readTextFile(file);
    const decoder = new TextDecoder();
    return {
      code,
      stdout: decoder.decode(stdout),
      stderr: decoder.decode(stderr),
      report: text === "" ? null : JSON.parse(text),
    };
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("gpu_check --backend cpu makes every check on the stand-in, and tells of them in a table and as JSON", async () => {
  const { code, stdout, stderr, report } = await run([
    ...["--backend", "cpu", "--quick"],
    // Torch takes seconds to be imported; scripts/bench compares with it, too.
    ...["--only", "one-rank,suite,many-ranks,hand-over,speed"],
  ]);
  assert(report !== null, stderr);
  assertEquals(report.checks.filter(({ status }) => status === "failed"), []);
  assertEquals([code, report.format, report.backend, report.failed, report.interrupted], [
    0,
    "gpu_check/1",
    "cpu",
    0,
    false,
  ]);
  for (const { name, status, why } of report.checks) {
    if (status === "skipped") assertEquals([name.includes("Python"), why], [true, "there is no python3 with ctypes"]);
    assertStringIncludes(stdout, name);
  }
  assertEquals([...new Set(report.checks.map(({ group }) => group))], [
    "one rank",
    "test suite, one rank",
    "2 ranks on one device",
    "2 ranks on 2 devices",
    "hand-over",
    "speed, 1 rank",
    "speed, 2 ranks on one device",
  ]);
  assertEquals(report.libraries!.cudart, { path: native.cudart.path, version: native.cudart.version, text: "13.0" });
  const numbersOf = (group: string, name: string) => {
    return report.checks.find((check) => check.group === group && check.name.startsWith(name))!.numbers;
  };
  assert(numbersOf("2 ranks on one device", "rollouts").comparedMiB! > 0.1);
  assert(numbersOf("hand-over", "another Deno process opens").tensors! > 10);
  for (const group of ["speed, 1 rank", "speed, 2 ranks on one device"]) {
    for (const size of ["S", "M"]) {
      const { ratio, seqferryMs, cMs, copies, operations } = numbersOf(group, `${size}: the same calls`);
      // What is timed is real: neither side is free, and the calls are those of a phase.
      assert(ratio! > 0.2 && ratio! < 100 && seqferryMs! > 0 && cMs! > 0, `${group}, ${size}: ${ratio}`);
      assert(copies! >= 30 && operations! >= 2);
    }
  }
  assert(stdout.trimEnd().endsWith("s"));
  assertStringIncludes(stdout, `${report.ok} ok, 0 failed, ${report.skipped} skipped`);
});

Deno.test("gpu_check --backend cuda drives what the two variables name, and skips with a sentence what a release cannot", async () => {
  // A stand-in for old releases in the place of NVIDIA's libraries: everything above the two is what runs on a GPU.
  const { path } = await buildCpuLibrary({ ncclVersion: 21801, cudaVersion: 11080 });
  const { code, stdout, report } = await run(
    ["--backend", "cuda", "--quick", "--only", "one-rank,suite,many-ranks"],
    { SEQFERRY_CUDART: path, SEQFERRY_NCCL: path, SEQFERRY_CPU_DEVICES: "1" },
  );
  assertEquals(report!.checks.filter(({ status }) => status === "failed"), [], stdout);
  assertEquals([code, report!.libraries!.nccl.text, report!.libraries!.driverCuda], [0, "2.18.1", "11.8"]);
  const skipped = report!.checks.filter(({ status }) => status === "skipped").map(({ group, why }) =>
    `${group}: ${why}`
  );
  const refusal = "NCCL 2.18.1 refuses two ranks on one device; 2.30.3 and later take them";
  assertEquals([...new Set(skipped)], [
    "one rank: CUDA 11.8 has none",
    `test suite, two ranks on one device: ${refusal}`,
    `2 ranks on one device: ${refusal}`,
    "2 ranks on 2 devices: there is one device",
  ]);
});

Deno.test("gpu_check ends a check that hangs in native code, calls it failed, and makes the others", async () => {
  const started = performance.now();
  const { code, report } = await run(
    ["--backend", "cpu", "--only", "one-rank", "--check-limit", "8"],
    { SEQFERRY_CPU_FAULTS: "cudaMallocAsync:*=delay 60000" },
  );
  assert(performance.now() - started < 60_000);
  assertEquals(code, 1);
  const failed = report!.checks.filter(({ status }) => status === "failed");
  assertEquals(failed.map(({ name, why }) => [name, why]), [
    ["memory of the stream-ordered pool", "it took more than 8 s"],
  ]);
  assertEquals(report!.ok, report!.checks.length - 1);
  assert(report!.ok > 5);
});

Deno.test("gpu_check tells how a process ended that crashed in the middle of a check", async () => {
  const { code, report } = await run(
    ["--backend", "cpu", "--only", "one-rank"],
    { SEQFERRY_CPU_FAULTS: "cudaMallocAsync:*=kill" },
  );
  assertEquals(code, 1);
  const failed = report!.checks.filter(({ status }) => status === "failed");
  assertEquals(failed.map(({ why }) => why), ["the rank ended by SIGKILL"]);
});

Deno.test("gpu_check begins no check when its time is up", async () => {
  const { code, report } = await run(["--backend", "cpu", "--only", "one-rank", "--limit", "0.001"]);
  assertEquals([code, report!.ok, report!.failed], [0, 0, 0]);
  assert(report!.checks.length > 5);
  for (const { why } of report!.checks) assertEquals(why, "the time for all checks was up");
});

Deno.test("gpu_check ends its processes and says what came so far when it is interrupted", async () => {
  let children: number[] = [];
  const { code, stdout, report } = await run(
    ["--backend", "cpu", "--only", "one-rank,many-ranks"],
    { SEQFERRY_CPU_FAULTS: "cudaMallocAsync:*=delay 60000" },
    async (child, file) => {
      // The file is written after each check; the one after the first four hangs.
      const checksMade = () => Deno.readTextFileSync(file).match(/"status": "ok"/g)?.length ?? 0;
      await eventually("the first checks", () => checksMade() >= 4);
      children = childrenOf(child.pid);
      child.kill("SIGINT");
    },
  );
  assertEquals([code, report!.interrupted], [130, true]);
  assert(children.length > 0, "there were no children to be ended");
  assertStringIncludes(stdout, "; interrupted");
  await eventually("the end of all children", () => !children.some(isAlive));
});

Deno.test("gpu_check refuses wrong flags with 2, and says what is missing with 3", async () => {
  const wrong: [string[], string][] = [
    [["--backend", "gpu"], `--backend is cuda or cpu, not "gpu"`],
    [["--no-such-flag"], "--no-such-flag"],
    [["--only", "one-rank,all"], `"all" is none of them`],
    [["--limit", "0"], `--limit is a number of seconds above 0, not "0"`],
    [["--check-limit", "soon"], "--check-limit"],
  ];
  for (const [args, words] of wrong) {
    const { code, stderr } = await run(args);
    assertEquals(code, 2, args.join(" "));
    assertStringIncludes(stderr, words);
  }
  const { code, stderr, report } = await run(["--backend", "cpu"], { SEQFERRY_CPU_LIBRARY: "/no/such/library.so" });
  assertEquals(code, 3);
  assertStringIncludes(stderr, "/no/such/library.so");
  assertEquals([report!.libraries, report!.checks.length], [null, 0]);
  assertStringIncludes(report!.lacking, "/no/such/library.so");
});

Deno.test("gpu_check and its processes import nothing but files of the project and what Deno has", async () => {
  const folder = new URL("../../scripts/gpu_check/", import.meta.url);
  const scripts = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".ts"));
  const suite = ["conformance/native_nccl_test.ts", "conformance/one_rank_test.ts", "device/slab_test.ts"];
  const files = [
    SCRIPT.href,
    ...scripts.map((name) => new URL(name, folder).href),
    // The tests that one rank runs, as they are run there.
    ...suite.map((name) => new URL(`../${name}`, import.meta.url).href),
  ];
  for (const file of files) {
    const map = new URL("import_map.json", folder).pathname;
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--no-config", "--no-lock", `--import-map=${map}`, file],
    }).output();
    const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as { modules: { specifier: string }[] };
    assert(modules.length > 0);
    for (const { specifier } of modules) assert(/^(file|node):/.test(specifier), `${file} imports ${specifier}`);
  }
});
