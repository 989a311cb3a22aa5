/**
 * The part of the test suite that one rank can run, on the backend at hand.
 *
 * @module
 */

import { CAPABILITIES } from "../../ffi/capabilities.ts";
import { type Checks, expect, Missed, type Numbers, Skip } from "./check.ts";
import { refusal, SHARING } from "./many_ranks.ts";
import { runToEnd } from "./peer_process.ts";
import type { Place } from "./place.ts";

/** The test files that run on any backend: those that take it from SEQFERRY_TEST_BACKEND, and need one rank or say how many. */
const FILES = [
  "tests/conformance/native_memory_test.ts",
  "tests/conformance/native_nccl_test.ts",
  "tests/conformance/native_stream_test.ts",
  "tests/device/slab_test.ts",
  "tests/conformance/one_rank_test.ts",
];

const ROOT = new URL("../../", import.meta.url);

/** Makes the checks, one for each file. */
export async function checkSuite(checks: Checks, place: Place): Promise<void> {
  for (const file of FILES) await checks.run("test suite, one rank", file, () => runFile(file, place, {}));
  // On the stand-in, and on several devices, the tests of two ranks were among them.
  if (place.backend === "cpu" || place.devices > 1) return;
  const file = FILES.find((name) => name.endsWith("native_nccl_test.ts"))!;
  await checks.run("test suite, two ranks on one device", file, () => {
    if (place.nccl.version < CAPABILITIES.multiRankGpu.since) throw new Skip(refusal(place));
    return runFile(file, place, SHARING);
  });
}

async function runFile(
  file: string,
  { backend, env }: Place,
  more: Readonly<Record<string, string>>,
): Promise<Numbers> {
  // No configuration: the import map puts assertions that come with Deno in the place of a package, which might have to be fetched.
  const map = new URL("import_map.json", import.meta.url).pathname;
  const args = ["test", "-A", "--quiet", "--no-config", "--no-lock", "--no-check", `--import-map=${map}`, file];
  const { success, stdout, stderr } = await runToEnd(Deno.execPath(), args, {
    cwd: ROOT,
    env: { ...env, ...more, SEQFERRY_TEST_BACKEND: backend, NO_COLOR: "1" },
  });
  const summary = /(?:ok|FAILED) \| (\d+) passed[^|]*\| (\d+) failed(?:[^|]*\| (\d+) ignored)?/.exec(stdout);
  // A crash in native code ends the runner without a summary.
  if (summary === null) {
    throw new Missed(`the test runner ended without its summary: ${lastLine(stderr) || lastLine(stdout)}`);
  }
  const [passed, failed, ignored] = summary.slice(1).map((text) => Number(text ?? 0)) as [number, number, number];
  const numbers = { passed, failed, ignored };
  expect(success && failed === 0, `failed: ${failedTests(stdout).join("; ") || lastLine(stderr)}`, numbers);
  expect(passed > 0, "no test was run", numbers);
  return numbers;
}

/** The names of the tests that failed, with the first line of what was wrong. */
function failedTests(stdout: string): string[] {
  const errors = stdout.slice(Math.max(0, stdout.indexOf("ERRORS")));
  return [...errors.matchAll(/^(.+) => .*\nerror: (.*)$/gm)].map(([, name, error]) => `${name} (${error})`);
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}
