import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { VERSION } from "../../src/commands/version.ts";
import { native } from "../native.ts";

const CLI = new URL("../../src/cli.ts", import.meta.url).href;

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

async function cli(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", CLI, ...args],
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** The exit code and standard output of a command whose standard error nobody reads. */
async function unheard(args: readonly string[]): Promise<{ code: number; stdout: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", CLI, ...args],
    env: { NO_COLOR: "1", SEQFERRY_CPU_LIBRARY: native.cudart.path },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stderr.cancel();
  const [{ code }, stdout] = await Promise.all([child.status, new Response(child.stdout).text()]);
  return { code, stdout };
}

/** Runs a test with a folder of its own. */
async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "seqferry-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** One sentence on standard error, nothing on standard output, exit code 2. */
function assertRefused({ code, stdout, stderr }: Outcome, sentence: string): void {
  assertEquals({ code, stdout, stderr }, { code: 2, stdout: "", stderr: `seqferry: ${sentence}\n` });
}

Deno.test("VERSION is that of deno.json", async () => {
  const text = await Deno.readTextFile(new URL("../../deno.json", import.meta.url));
  assertEquals(/"version": "([^"]+)"/.exec(text)![1], VERSION);
});

Deno.test("seqferry without a command tells the commands and exits with 2", async () => {
  const { code, stdout, stderr } = await cli([]);
  assertEquals([code, stdout], [2, ""]);
  for (const command of ["run", "plan", "doctor", "help", "version"]) assertStringIncludes(stderr, `  ${command} `);
});

Deno.test("seqferry help, --help, version and run --help answer on standard output with 0", async () => {
  const [help, flag, helpHelp, version, runHelp, helpRun] = await Promise.all(
    [["help"], ["--help"], ["help", "help"], ["version"], ["run", "--help"], ["help", "run"]].map((args) => cli(args)),
  );
  assertEquals(help, flag);
  assertEquals(help, helpHelp);
  assertEquals(help!.code, 0);
  assertEquals(version, { code: 0, stdout: `seqferry ${VERSION}\n`, stderr: "" });
  assertEquals(runHelp, helpRun);
  for (
    const name of ["input", "layouts", "ranks", "output", "report", "pattern", "seed", "verify", "timeout", "backend"]
  ) {
    assertStringIncludes(runHelp!.stdout, `--${name}`);
  }
});

Deno.test("seqferry refuses an unknown command, an unknown flag and a word that is no flag", async () => {
  const unknown = 'there is no command "sail"; there are run, plan, doctor, help, version';
  assertRefused(await cli(["sail"]), unknown);
  assertRefused(await cli(["help", "sail"]), unknown);
  const flag = await cli(["run", "--rank", "4"]);
  assertEquals(flag.code, 2);
  assertStringIncludes(flag.stderr, "seqferry: seqferry run has no flag --rank; it has --input");
  assertRefused(await cli(["run", "4"]), 'seqferry run takes flags only, and "4" is none');
  assertRefused(await cli(["plan", "--ids", "2", "--", "foo"]), 'seqferry plan takes flags only, and "--" is none');
});

const badInputs: readonly (readonly [string, string, (file: string) => string])[] = [
  [
    "a line that is no JSON",
    '{"prompt":"p","responses":["r"],"rewards":[1]}\n{oops',
    (file) => `${file}:2: the line is not JSON (`,
  ],
  [
    "a missing field",
    '{"prompt":"p","rewards":[1]}',
    (file) => `${file}:1: the field "responses" (or "generateds") is missing`,
  ],
  [
    "a count of rewards that differs",
    '{"prompt":"p","responses":["r"],"rewards":[1,2]}',
    (file) => `${file}:1: there are 1 responses, but 2 rewards`,
  ],
  ["an empty file", "", (file) => `${file}: there is no rollout in it`],
];
for (const [what, content, sentence] of badInputs) {
  Deno.test(`run refuses ${what}, with file and line`, () =>
    inFolder(async (folder) => {
      const file = `${folder}/in.jsonl`;
      await Deno.writeTextFile(file, content);
      const { code, stdout, stderr } = await cli(["run", "--input", file]);
      assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
      assertStringIncludes(stderr, `seqferry: ${sentence(file)}`);
    }));
}

Deno.test("run refuses an input that is not there, a folder, and safetensors that are none", () =>
  inFolder(async (folder) => {
    assertRefused(
      await cli(["run", "--input", `${folder}/none.jsonl`]),
      `${folder}/none.jsonl: it cannot be read: there is no such file or folder`,
    );
    assertRefused(await cli(["run", "--input", folder]), `${folder}: it cannot be read: it is a folder`);
    await Deno.writeTextFile(`${folder}/x.safetensors`, "short");
    const { code, stderr } = await cli(["run", "--input", `${folder}/x.safetensors`]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, `seqferry: ${folder}/x.safetensors: `);
  }));

const badFlags: readonly (readonly [readonly string[], string])[] = [
  [["--layouts", "actor=pp1,dp2"], "--layouts: layouts[0]"],
  [["--layouts", "actor"], "--layouts: layouts[0]"],
  [["--layouts", "actor=pp1,dp2,tp1"], "--layouts: there is one layout only"],
  [["--layouts", "a=pp1,dp4,tp1 b=pp1,dp2,tp1", "--ranks", "3"], "--layouts: layouts[0]"],
  [["--ranks", "0"], '--ranks: it is an integer from 1 to 512, not "0"'],
  [["--pattern", "zigzag"], "--pattern: it is one of gather-scatter, bcast"],
  [["--backend", "tpu"], '--backend: it is one of cpu, cuda, auto, not "tpu"'],
  [["--timeout", "never"], '--timeout: it is a number above 0, not "never"'],
  [["--seed", "x"], "--seed: it is an integer from 0"],
  [["--report", "/proc/none/report.json"], "--report: the file /proc/none/report.json cannot be written"],
  [["--output", "/proc/none"], "--output: the folder /proc/none cannot be written to"],
];
for (const [args, sentence] of badFlags) {
  Deno.test(`run ${args.join(" ")} exits with 2 and one sentence`, async () => {
    const { code, stdout, stderr } = await cli(["run", ...args]);
    assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
    assertStringIncludes(stderr, `seqferry: ${sentence}`);
  });
}

Deno.test("run --output refuses a path that is a file", () =>
  inFolder(async (folder) => {
    const file = `${folder}/file`;
    await Deno.writeTextFile(file, "");
    const { code, stderr } = await cli(["run", "--output", file]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, `seqferry: --output: the folder ${file} cannot be written to`);
  }));

Deno.test("run --report refuses the input, by whatever name", () =>
  inFolder(async (folder) => {
    const [input, link] = [`${folder}/in.jsonl`, `${folder}/link.json`];
    const line = `{"prompt": "p", "responses": ["r"], "rewards": [1]}\n`;
    await Deno.writeTextFile(input, line);
    await Deno.symlink(input, link);
    for (const report of [input, link]) {
      const { code, stderr } = await cli(["run", "--input", input, "--report", report]);
      assertEquals(code, 2);
      assertStringIncludes(stderr, `seqferry: --report: the file ${report} is the input`);
    }
    assertEquals(await Deno.readTextFile(input), line);
  }));

Deno.test("run leaves no empty report behind when something else is wrong", () =>
  inFolder(async (folder) => {
    const report = `${folder}/report.json`;
    const { code } = await cli(["run", "--report", report, "--layouts", "a"]);
    assertEquals(code, 2);
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("run exits with 3 where there is no compiler and no stand-in, and says what to install", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await cli(["run", "--backend", "cpu"], {
      PATH: folder,
      CC: "",
      SEQFERRY_CACHE_DIR: folder,
      SEQFERRY_CPU_LIBRARY: "",
    });
    assertEquals([code, stdout], [3, ""], stderr);
    assertStringIncludes(stderr, "Install one");
  }));

Deno.test("doctor tells versions and paths, and nothing of the token", async () => {
  const env = { SEQFERRY_TOKEN: "secret-secret-secret", SEQFERRY_CPU_LIBRARY: native.cudart.path };
  const { code, stdout, stderr } = await cli(["doctor", "--backend", "cpu"], env);
  assertEquals([code, stderr], [0, ""]);
  for (const part of [VERSION, Deno.version.deno, native.cudart.path, "SEQFERRY_TOKEN=(not shown)", "libnccl"]) {
    assertStringIncludes(stdout, part);
  }
  assert(!stdout.includes("secret"));
});

Deno.test("doctor exits with 3 when what it is asked about is missing", async () => {
  const { code, stdout } = await cli(["doctor", "--backend", "cpu"], { SEQFERRY_CPU_LIBRARY: "/nowhere/library.so" });
  assertEquals(code, 3);
  assertStringIncludes(stdout, "/nowhere/library.so");
});

Deno.test("plan prints JSON on standard output and a table on standard error", async () => {
  const layouts = "actor=pp1,dp2,tp1 critic=pp1,dp1,tp2";
  const { code, stdout, stderr } = await cli([
    "plan",
    "--layouts",
    layouts,
    "--ids",
    "2",
    "--keys",
    "k",
    "--pattern",
    "bcast",
  ]);
  assertEquals(code, 0, stderr);
  assertEquals(JSON.parse(stdout), [{
    from: "actor/0",
    to: "critic/0",
    plan: [
      { comm_type: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["0"], keys: ["k"] },
      { comm_type: "bcast", root: 1, srcs: [1], dsts: [0], ids: ["1"], keys: ["k"] },
    ],
  }]);
  assert(stderr.includes("actor/0 → critic/0     0  bcast"), stderr);
});

Deno.test("run, plan and a refusal end as ever when nobody reads their standard error", async () => {
  const layouts = ["--layouts", "a=pp1,dp2,tp1 b=pp1,dp1,tp2"];
  const plan = await unheard(["plan", ...layouts, "--ids", "2"]);
  assertEquals([plan.code, JSON.parse(plan.stdout).length], [0, 1]);
  const run = await unheard(["run", "--backend", "cpu", ...layouts]);
  assertEquals(run.code, 0);
  assertStringIncludes(run.stdout, "every byte is the same");
  assertEquals(await unheard(["plan", "--nonsense"]), { code: 2, stdout: "" });
});
