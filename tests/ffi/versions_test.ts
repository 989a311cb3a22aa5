import { assert, assertEquals } from "@std/assert";
import { CAPABILITIES, capabilities, type CapabilityRow, OLDEST_CUDART, OLDEST_NCCL } from "../../ffi/capabilities.ts";
import { cudaMemcpySrcAccessOrder, NCCL_UNIQUE_ID_BYTES } from "../../ffi/constants.ts";
import { buildCpuLibrary } from "../../ffi/cpu_library.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";
import { type Libraries, openLibraries } from "../../ffi/open.ts";
import { encodeMemcpyAttributes, encodeNcclConfig } from "../../ffi/structs.ts";
import type { ProbeResult } from "./redistribute_probe.ts";

/** The oldest and the newest, and one where both forms of the batched copy and of NCCL's later calls change. */
const RELEASES = [
  { ncclVersion: OLDEST_NCCL, cudaVersion: OLDEST_CUDART },
  { ncclVersion: 22703, cudaVersion: 12080 },
  { ncclVersion: 23007, cudaVersion: 13000 },
] as const;

const built: { release: typeof RELEASES[number]; path: string; libraries: Libraries }[] = [];
for (const release of RELEASES) {
  const { path } = await buildCpuLibrary(release);
  built.push({ release, path, libraries: await openLibraries({ backend: "cpu", cpuPath: path }) });
}

/** Capabilities of behaviour, and of what the stand-in does not stand in for. */
const BEYOND: readonly string[] = [
  "ncclGroupSimulateEnd",
  "ncclCommWindowRegister",
  "ncclCommWindowDeregister",
  "ncclCommGrow",
  "ncclCommGetUniqueId",
  "ncclPutSignal",
  "ncclSignal",
  "ncclWaitSignal",
  "ncclCommSuspend",
  "ncclCommResume",
  "ncclCommMemStats",
];

for (const { release, path, libraries } of built) {
  const name = `NCCL ${release.ncclVersion} and CUDA ${release.cudaVersion}`;

  Deno.test(`the stand-in for ${name} says so, and has the functions of those releases only`, () => {
    assertEquals([libraries.nccl.version, libraries.cudart.version], [release.ncclVersion, release.cudaVersion]);
    const has: Readonly<Record<string, boolean>> = capabilities(release.ncclVersion, release.cudaVersion);
    const rows: [string, CapabilityRow][] = Object.entries(CAPABILITIES);
    const tables: [Deno.ForeignLibraryInterface, Record<string, unknown>][] = [
      [cudartSymbols, libraries.cudart.symbols],
      [ncclSymbols, libraries.nccl.symbols],
    ];
    for (const [table, symbols] of tables) {
      for (const [key, declared] of Object.entries(table)) {
        const symbol = "name" in declared && declared.name !== undefined ? declared.name : key;
        assert(!BEYOND.includes(symbol), `${symbol} is in a table, and the stand-in is said to lack it`);
        const row = rows.filter(([, row]) => row.symbols.includes(symbol));
        // It runs no kernels.
        const isThere = !row.some(([each]) => each === "kernels") &&
          (row.length === 0 || row.some(([each]) => has[each]));
        assertEquals(symbols[key] !== null, isThere, key);
      }
    }
  });

  Deno.test(`a communicator of ${name} takes configs of every size that was ever right`, async () => {
    const { symbols } = libraries.nccl;
    assertEquals(libraries.cudart.symbols.cudaSetDevice(0), 0);
    for (const size of [24, 40, 48, 72, 80, 88, 96]) {
      const id = new Uint8Array(NCCL_UNIQUE_ID_BYTES);
      assertEquals(symbols.ncclGetUniqueId(id), 0);
      const config = encodeNcclConfig({ version: release.ncclVersion, blocking: true }).slice(0, size);
      new DataView(config.buffer).setBigUint64(0, BigInt(size), true);
      const comm = new BigUint64Array(1);
      assertEquals(symbols.ncclCommInitRankConfig(comm, 1, id, 0, config), 0, `${size} bytes`);
      assertEquals(await symbols.ncclCommDestroy(comm[0]!), 0);
    }
  });

  Deno.test(`a plan is carried out on ${name}, bit for bit`, async () => {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", new URL("redistribute_probe.ts", import.meta.url).href],
      env: { SEQFERRY_CPU_LIBRARY: path, SEQFERRY_CPU_STRICT: "1" },
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    const result: ProbeResult = JSON.parse(new TextDecoder().decode(stdout));
    assertEquals(result.versions, { cudart: release.cudaVersion, nccl: release.ncclVersion });
    assertEquals(result.tensors, 4 * 6 * 15);
  });
}

/** Device memory of `bytes` bytes with a stream, as handles. */
function setUp({ cudart }: Libraries, bytes: bigint): { address: bigint; stream: bigint } {
  const [address, stream] = [new BigUint64Array(1), new BigUint64Array(1)];
  assertEquals(cudart.symbols.cudaSetDevice(0), 0);
  assertEquals(cudart.symbols.cudaMalloc(address, bytes), 0);
  assertEquals(cudart.symbols.cudaStreamCreateWithFlags(stream, 1), 0);
  return { address: address[0]!, stream: stream[0]! };
}

for (const { release, libraries } of built) {
  const { symbols } = libraries.cudart;
  const { memcpyBatch12, memcpyBatch13 } = capabilities(release.ncclVersion, release.cudaVersion);
  if (!memcpyBatch12 && !memcpyBatch13) continue;

  Deno.test(
    `copies in batches arrive by CUDA ${release.cudaVersion}'s form${
      memcpyBatch12 ? ", and it tells which copy failed" : ""
    }`,
    () => {
      const { address, stream } = setUp(libraries, 4096n);
      const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
      assertEquals(symbols.cudaMemcpyFromHost(address, bytes, 1000n, 1), 0);
      const attributes = encodeMemcpyAttributes({ srcAccessOrder: cudaMemcpySrcAccessOrder.stream });
      const first = new BigUint64Array(1);
      const copy = (to: bigint[], failed: BigUint64Array<ArrayBuffer>): number => {
        const from = new BigUint64Array([address, address + 500n]);
        const sizes = new BigUint64Array([500n, 500n]);
        const tos = new BigUint64Array(to);
        return memcpyBatch12
          ? symbols.cudaMemcpyBatchAsync12!(tos, from, sizes, 2n, attributes, first, 1n, failed, stream)
          : symbols.cudaMemcpyBatchAsync!(tos, from, sizes, 2n, attributes, first, 1n, stream);
      };
      const failed = new BigUint64Array([7n]);
      assertEquals(copy([address + 2500n, address + 2000n], failed), 0);
      assertEquals(symbols.cudaStreamSynchronize(stream), 0);
      const back = new Uint8Array(1000);
      assertEquals(symbols.cudaMemcpyToHost(back, address + 2000n, 1000n, 2), 0);
      assertEquals([...back.subarray(500)], [...bytes.subarray(0, 500)]);
      assertEquals([...back.subarray(0, 500)], [...bytes.subarray(500)]);
      assertEquals(copy([address + 2500n, address + 4000n], failed), 1);
      assertEquals(failed[0], memcpyBatch12 ? 1n : 7n);
      assertEquals([symbols.cudaStreamDestroy(stream), symbols.cudaFree(address)], [0, 0]);
    },
  );
}
