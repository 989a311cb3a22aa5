/**
 * Everything that has to hold before a change is taken: format, lint, types, documentation, all tests, and the C tests under sanitizers.
 *
 * ```sh
 * deno task check
 * ```
 *
 * Prints one line for each step, the full output of what failed, and last `N passed, N failed`. A test runner that ends without its summary (a crash in
 * native code does that) is a failure. Exit code 0 when nothing failed, else 1.
 *
 * @module
 */

/** How many checks of a step passed and failed. */
interface Count {
  passed: number;
  failed: number;
}

interface Step {
  name: string;
  command: string[];
  /** Reads the counts out of the output; a step without one counts as a single check, by its exit code. */
  summary?: RegExp;
}

const deno = Deno.execPath();
const root = new URL("..", import.meta.url).pathname;
const sources = ["mod.ts", "src/", "ffi/", "tests/", "scripts/"];

const steps: Step[] = [
  { name: "format", command: [deno, "fmt", "--check"] },
  { name: "lint", command: [deno, "lint"] },
  { name: "types", command: [deno, "check", ...sources] },
  { name: "documentation", command: [deno, "doc", "--lint", "mod.ts"] },
  {
    name: "C tests",
    command: [deno, "run", "-A", "scripts/test_cpu_library.ts"],
    summary: /(\d+) passed, (\d+) failed/g,
  },
  {
    name: "tests",
    // The README's command, word for word.
    command: ["npx", "-y", "deno@2.9.6", "task", "test"],
    summary: /(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed/g,
  },
];

/** Runs one step, passing its output on as it comes. */
async function run({ command, summary }: Step): Promise<Count> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const pass = async (stream: ReadableStream<Uint8Array>, to: { writeSync(bytes: Uint8Array): number }) => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      output += decoder.decode(bytes, { stream: true });
      for (let written = 0; written < bytes.length;) written += to.writeSync(bytes.subarray(written));
    }
  };
  const [status] = await Promise.all([child.status, pass(child.stdout, Deno.stdout), pass(child.stderr, Deno.stderr)]);
  if (summary === undefined) return status.success ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
  const last = [...output.matchAll(summary)].at(-1);
  if (last === undefined) return { passed: 0, failed: 1 };
  const count = { passed: Number(last[1]), failed: Number(last[2]) };
  // A runner can fail for more than its tests, and a run of nothing is no success.
  if ((!status.success && count.failed === 0) || count.passed + count.failed === 0) count.failed++;
  return count;
}

const only = Deno.args;
const total: Count = { passed: 0, failed: 0 };
const lines: string[] = [];
for (const step of steps) {
  if (only.length > 0 && !only.includes(step.name)) continue;
  print(`== ${step.name}: ${step.command.join(" ")}`);
  const started = performance.now();
  const { passed, failed } = await run(step).catch((error): Count => {
    print(`${step.name} could not be run: ${error.message}`);
    return { passed: 0, failed: 1 };
  });
  total.passed += passed;
  total.failed += failed;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  lines.push(`${failed === 0 ? "ok    " : "FAILED"} ${step.name}: ${passed} passed, ${failed} failed (${seconds} s)`);
}
print(["", ...lines, `${total.passed} passed, ${total.failed} failed`].join("\n"));
Deno.exit(total.failed === 0 ? 0 : 1);

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
