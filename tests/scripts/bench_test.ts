import { assert, assertEquals } from "@std/assert";

const script = new URL("../../scripts/bench/main.ts", import.meta.url).pathname;

async function bench(...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", script, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("the benchmark runs every pattern, writes what it measured, and compares it with a saved run", async () => {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const first = await bench("--quick", "--json", file);
    assertEquals(first.code, 0, first.err);
    const { machine, hostCost, rows, planning } = JSON.parse(await Deno.readTextFile(file));
    // 64 samples of 448 to 575 int64 tokens.
    const payload = Array.from({ length: 64 }, (_, i) => 8 * (448 + (i * 7919) % 128)).reduce((a, b) => a + b);
    assert(machine.memcpyBytesPerSecond > 1e8);
    assert(hostCost.nanosecondsPerCall > 0 && hostCost.heapBytesPerCall < 100, JSON.stringify(hostCost));
    assertEquals(rows.map((row: { pattern: string }) => row.pattern), ["gather-scatter", "bcast", "direct"]);
    for (const row of rows) {
      assertEquals(row.deliveredBytes, payload, "every id to the one rank more that is to have it");
      assert(row.fastest > 0 && row.fastest <= row.seconds && row.seconds <= row.slowest);
      assert(row.overFloor > 1 && row.peakBytes > 0);
      assert(row.beyondPlanBytes < row.peakBytes);
    }
    assert(planning.length > 4);
    const second = await bench("--quick", "--patterns", "bcast", "--no-planning", "--compare", file);
    assertEquals(second.code, 0, second.err);
    assert(/same ranks S bcast: [0-9.]+x the saved run/.test(second.out), second.out);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("the benchmark refuses what it does not know, and says what it takes", async () => {
  for (const args of [["--sizes", "XL"], ["--patterns", "magic"], ["--cases", "9"], ["--repeats", "0"], ["--fast"]]) {
    const { code, err } = await bench(...args);
    assertEquals(code, 2, args.join(" "));
    assert(err.includes(args.at(-1)!) || err.includes(args[0]!), err);
  }
});
