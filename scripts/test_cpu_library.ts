// deno-lint-ignore-file no-console -- an entry point: it prints which tests failed
/**
 * Compiles the C tests of the CPU stand-in together with its sources, plain and under the sanitizers, and runs each test in a process of
 * its own: a crash or a hang is that test's failure.
 *
 * Usage: `deno run -A scripts/test_cpu_library.ts [plain|address|thread ...] [--filter WORDS]`
 *
 * @module
 */

import { parseArgs } from "@std/cli";

/** How one build differs from the others. */
interface Mode {
  readonly flags: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

const modes: Readonly<Record<string, Mode>> = {
  plain: { flags: ["-O2"], environment: {} },
  // The tests leave communicators and memory behind where that is what they are about, so leaks of the host's memory are not looked for.
  address: {
    flags: ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    environment: { ASAN_OPTIONS: "detect_leaks=0:abort_on_error=1" },
  },
  thread: { flags: ["-O1", "-fsanitize=thread"], environment: { TSAN_OPTIONS: "halt_on_error=1:exitcode=66" } },
};

/** Helpers, which other tests start. */
const HELPER = "helper_";
/** How long one test may take, in milliseconds. */
const TEST_LIMIT_MS = 120_000;

const library = new URL("../ffi/cpu/", import.meta.url);
const compiler = Deno.env.get("CC") || "cc";
const strictness = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

async function names(folder: URL, suffix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    if (entry.isFile && entry.name.endsWith(suffix)) {
      found.push(decodeURIComponent(new URL(entry.name, folder).pathname));
    }
  }
  return found.sort();
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string | null> {
  const child = new Deno.Command(program, { args: [...args], env, stdout: "null", stderr: "piped" }).spawn();
  let late = false;
  // Its children die with it, so that none keeps the pipe open.
  const limit = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, TEST_LIMIT_MS);
  const { success, signal, code, stderr } = await child.output();
  clearTimeout(limit);
  if (success) return null;
  const reason = late
    ? `it took more than ${TEST_LIMIT_MS / 1000} s`
    : signal
    ? `it died of ${signal}`
    : `exit code ${code}`;
  return `${reason}\n${new TextDecoder().decode(stderr).trimEnd()}`;
}

async function build(mode: Mode, path: string): Promise<void> {
  const tests = new URL("tests/", library);
  const sources = [
    ...await names(library, ".c"),
    ...await names(tests, "_test.c"),
    ...await names(tests, "harness.c"),
  ];
  const problem = await run(compiler, [...strictness, ...mode.flags, "-o", path, ...sources], {});
  if (problem !== null) throw new Error(`${compiler}: ${problem}`);
}

async function list(path: string): Promise<string[]> {
  const output = await new Deno.Command(path).output();
  if (!output.success) throw new Error(`${path} does not list its tests`);
  return new TextDecoder().decode(output.stdout).split("\n").filter((name) => name !== "" && !name.startsWith(HELPER));
}

const args = parseArgs(Deno.args, { string: ["filter"] });
const filter = typeof args["filter"] === "string" ? args["filter"] : undefined;
const chosen = args._.length > 0 ? args._.map(String) : Object.keys(modes);
const folder = await Deno.makeTempDir();
let passed = 0;
let failed = 0;
try {
  for (const name of chosen) {
    const mode = modes[name];
    if (mode === undefined) throw new Error(`there is no mode ${name}; there are ${Object.keys(modes).join(", ")}`);
    const path = `${folder}/${name}`;
    await build(mode, path);
    for (const test of await list(path)) {
      if (filter !== undefined && !test.includes(filter)) continue;
      const problem = await run(path, [test], mode.environment);
      if (problem === null) {
        passed++;
      } else {
        failed++;
        console.log(`FAILED ${name} ${test}: ${problem}`);
      }
    }
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
console.log(`${passed} passed, ${failed} failed`);
if (failed > 0 || passed === 0) Deno.exit(1);
