import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type HostTensor, SequenceSample } from "../../mod.ts";
import { newToken } from "../../src/service/auth.ts";
import { Coordinator } from "../../src/service/coordinator.ts";
import { native } from "../native.ts";
import { serveProject } from "../serve_project.ts";

const WORKER = new URL("../../src/worker.ts", import.meta.url).href;

/** What a worker on the stand-in needs, and no more. */
const PERMISSIONS = [
  "--allow-net=127.0.0.1",
  `--allow-ffi=${native.cudart.path}`,
  "--allow-env=SEQFERRY_CPU_LIBRARY,SEQFERRY_TOKEN,RANK,LOCAL_RANK",
];

function start(args: readonly string[], env: Record<string, string> = {}): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...args],
    env: { NO_COLOR: "1", SEQFERRY_CPU_LIBRARY: native.cudart.path, ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function outcome(child: Deno.ChildProcess): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

function sample(): SequenceSample {
  const data: HostTensor = { dtype: "int16", shape: [2, 2], bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
  return new SequenceSample({
    ids: ["a"],
    keys: ["k"],
    dtypes: { k: "int16" },
    trailingShapes: { k: [2] },
    seqlens: { k: [[2]] },
    data: { k: data },
  });
}

/** Moves a sample from rank 0 to rank 1, and ends both in order. */
async function moveBetween(
  start: (rank: number, coordinator: string, token: string) => Deno.ChildProcess,
): Promise<void> {
  const token = newToken();
  await using coordinator = Coordinator.listen({ worldSize: 2, token });
  const outcomes = [0, 1].map((rank) => outcome(start(rank, coordinator.url, token)));
  await coordinator.start(null, { timeoutMs: 30_000 });
  await coordinator.worker(0).samples.put(sample());
  const plan = [{ commType: "bcast" as const, root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }];
  await coordinator.redistribute(sample(), plan, { timeoutMs: 30_000 });
  assertEquals((await coordinator.worker(1).samples.get(["a"])).toSafetensors(), sample().toSafetensors());
  await coordinator.shutdown();
  for (const { code, stdout, stderr } of await Promise.all(outcomes)) {
    assertEquals({ code, stdout, stderr }, { code: 0, stdout: "", stderr: "" });
  }
}

Deno.test("worker.ts serves one rank with the narrowest permissions", () =>
  moveBetween((rank, coordinator, SEQFERRY_TOKEN) =>
    start([...PERMISSIONS, WORKER, "--coordinator", coordinator, "--rank", `${rank}`, "--backend", "cpu"], {
      SEQFERRY_TOKEN,
    })
  ));

Deno.test("worker.ts takes its rank from a launcher's environment, and its token from a file", async () => {
  const file = await Deno.makeTempFile();
  try {
    await moveBetween((rank, coordinator, token) => {
      Deno.writeTextFileSync(file, `${token}\n`);
      const args = [WORKER, "--coordinator", coordinator, "--backend", "cpu", "--token-file", file];
      return start([...PERMISSIONS, `--allow-read=${file}`, ...args], {
        RANK: `${rank}`,
        LOCAL_RANK: "0",
      });
    });
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("worker.ts runs by URL, without the project's import map", async () => {
  await using project = await serveProject();
  const remote = [`--allow-import=${project.host}`];
  const env = { DENO_DIR: project.denoDir };
  const help = await outcome(start([...remote, `${project.url}/src/worker.ts`, "--help"], env));
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "--coordinator URL");
  await moveBetween((rank, coordinator, SEQFERRY_TOKEN) => {
    const args = ["--coordinator", coordinator, "--rank", `${rank}`, "--backend", "cpu"];
    return start([...remote, ...PERMISSIONS, `${project.url}/src/worker.ts`, ...args], { ...env, SEQFERRY_TOKEN });
  });
});

const badFlags: readonly (readonly [readonly string[], string])[] = [
  [["--rank", "0"], "--coordinator: it is missing"],
  [["--coordinator", "http://127.0.0.1:9"], "--rank: it is missing"],
  [["--coordinator", "127.0.0.1", "--rank", "0"], "--coordinator: it is a URL such as"],
  [["--coordinator", "http://127.0.0.1:9", "--rank", "-1"], "rank"],
  [["--coordinator", "http://127.0.0.1:9", "--rank", "x"], "--rank: it is an integer from 0 up, not x"],
  [
    ["--coordinator", "http://127.0.0.1:9", "--rank", "0", "--backend", "tpu"],
    "--backend: it is cpu, cuda or auto, not tpu",
  ],
  [
    ["--coordinator", "http://127.0.0.1:9", "--rank", "0", "--port", "70000"],
    "--port: it is an integer from 0 to 65535",
  ],
  [
    ["--coordinator", "http://127.0.0.1:9", "--rank", "0", "--host", "0.0.0.0"],
    "--host: a service on 0.0.0.0 can be reached from other machines, and needs a token",
  ],
  [["--frobnicate"], "--frobnicate"],
];
for (const [args, sentence] of badFlags) {
  Deno.test(`worker.ts ${args.join(" ")} exits with 2`, async () => {
    const { code, stderr } = await outcome(start([...PERMISSIONS, WORKER, ...args]));
    assertEquals(code, 2, stderr);
    assertStringIncludes(stderr, sentence);
  });
}

Deno.test("worker.ts exits with 2 for a short token, says where it is from, and does not show it", async () => {
  const args = ["--coordinator", "http://127.0.0.1:9", "--rank", "0"];
  const unfit = "a token is at least 16 printable ASCII characters without blanks";
  assertEquals(await outcome(start([...PERMISSIONS, WORKER, ...args], { SEQFERRY_TOKEN: "short" })), {
    code: 2,
    stdout: "",
    stderr: `worker: SEQFERRY_TOKEN: ${unfit}\n`,
  });
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "short\n");
    const permissions = [...PERMISSIONS, `--allow-read=${file}`];
    assertEquals(await outcome(start([...permissions, WORKER, ...args, "--token-file", file])), {
      code: 2,
      stdout: "",
      stderr: `worker: --token-file: ${file}: ${unfit}\n`,
    });
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("worker.ts exits with 1 when its coordinator is not reached, with 3 without library or device", async () => {
  const args = [WORKER, "--coordinator", "http://127.0.0.1:9", "--rank", "0", "--backend", "cpu"];
  const gone = await outcome(start([...PERMISSIONS, ...args]));
  assertEquals(gone.code, 1, gone.stderr);
  assertStringIncludes(gone.stderr, "worker of rank 0: the coordinator at http://127.0.0.1:9 is gone");
  const lacking = await outcome(start(["-A", ...args], { SEQFERRY_CPU_LIBRARY: "/nowhere/library.so" }));
  assertEquals(lacking.code, 3, lacking.stderr);
  assertStringIncludes(lacking.stderr, "/nowhere/library.so");
  const deviceless = await outcome(start([...PERMISSIONS, ...args], { SEQFERRY_CPU_FAULTS: "cudaSetDevice:1=100" }));
  assertEquals(deviceless.code, 3, deviceless.stderr);
  assertStringIncludes(deviceless.stderr, "worker of rank 0: cudaSetDevice answered cudaErrorNoDevice (100)");
});

Deno.test("worker.ts ends with 0 on SIGTERM and SIGINT when nothing is under way", async () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    const token = newToken();
    await using coordinator = Coordinator.listen({ worldSize: 1, token });
    const args = [WORKER, "--coordinator", coordinator.url, "--rank", "0", "--backend", "cpu"];
    const child = start([...PERMISSIONS, ...args], { SEQFERRY_TOKEN: token });
    await coordinator.start(null, { timeoutMs: 30_000 });
    child.kill(signal);
    const { code, stderr } = await outcome(child);
    assertEquals([code, stderr], [0, ""]);
    const lost = await coordinator.worker(0).gone;
    assert(lost.message.startsWith("the worker of rank 0 is gone"), lost.message);
  }
});
