import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { openLibraries } from "../../ffi/open.ts";
import { SeqferryError } from "../../src/errors.ts";
import { compileStub } from "./stub_library.ts";

/** What the probe printed. */
interface Probe {
  readonly backend?: string;
  readonly cudart?: [path: string, version: number];
  readonly nccl?: [path: string, version: number];
  readonly cpu?: boolean;
  readonly calls?: number[];
  readonly error?: string;
  readonly message?: string;
  readonly tried?: string[];
}

/** Opens in a process of its own: an opened library stays open, and permissions and environment are a process's. */
async function probe(flags: readonly string[], options: unknown, env: Record<string, string> = {}): Promise<Probe> {
  const script = new URL("./open_probe.ts", import.meta.url).pathname;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--quiet", ...flags, script, JSON.stringify(options)],
    env,
  }).output();
  const text = new TextDecoder().decode(stdout);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`the probe printed: ${text}\n${new TextDecoder().decode(stderr)}`);
  }
}

async function withFolder(fn: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await fn(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("openLibraries() opens what the environment names, with leave for those files and variables alone", () =>
  withFolder(async (folder) => {
    const [cudart, nccl] = [`${folder}/libcudart.so`, `${folder}/libnccl.so`];
    await compileStub(cudart, { cudaVersion: 12_080 });
    await compileStub(nccl, { ncclVersion: 21_801 });
    const found = await probe(
      [`--allow-ffi=${cudart},${nccl}`, "--allow-env=SEQFERRY_CUDART,SEQFERRY_NCCL"],
      { backend: "cuda" },
      { SEQFERRY_CUDART: cudart, SEQFERRY_NCCL: nccl },
    );
    assertEquals(found, {
      backend: "cuda",
      cudart: [cudart, 12_080],
      nccl: [nccl, 21_801],
      cpu: false,
      calls: [0, 0],
    });
  }));

Deno.test("openLibraries() finds wheels through PYTHONPATH", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/nvidia/cu13/lib`, { recursive: true });
    await Deno.mkdir(`${folder}/nvidia/nccl/lib`, { recursive: true });
    await compileStub(`${folder}/nvidia/cu13/lib/libcudart.so.13`);
    await compileStub(`${folder}/nvidia/nccl/lib/libnccl.so.2`);
    const found = await probe(["-A"], { backend: "cuda" }, {
      PYTHONPATH: folder,
      SEQFERRY_CUDART: `${folder}/nvidia/cu13/lib`,
      // A loader that has a libnccl of its own would come first.
      LD_LIBRARY_PATH: "",
      SEQFERRY_NCCL: "",
    });
    assertEquals(found.cudart, [`${folder}/nvidia/cu13/lib/libcudart.so.13`, 13_000]);
    assertStringIncludes(found.nccl?.[0] ?? "", "libnccl.so.2");
  }));

Deno.test("openLibraries() finds what the loader finds by name, and says where when it may", () =>
  withFolder(async (folder) => {
    await compileStub(`${folder}/libcudart.so.13`, { cudaVersion: 13_010 });
    await compileStub(`${folder}/libnccl.so.2`);
    const env = { LD_LIBRARY_PATH: folder, SEQFERRY_CUDART: "", SEQFERRY_NCCL: "" };
    const all = await probe(["-A"], { backend: "cuda" }, env);
    assertEquals([all.cudart, all.nccl], [[`${folder}/libcudart.so.13`, 13_010], [`${folder}/libnccl.so.2`, 23_007]]);
    const ffi = await probe(["--allow-ffi"], { backend: "cuda" }, env);
    assertEquals([ffi.cudart, ffi.nccl], [["libcudart.so.13", 13_010], ["libnccl.so.2", 23_007]]);
  }));

Deno.test("openLibraries() tells why when a library is too old, lacks a function, or is none", () =>
  withFolder(async (folder) => {
    const good = `${folder}/libcudart.so`;
    await compileStub(good);
    await compileStub(`${folder}/old.so`, { ncclVersion: 21_706 });
    await compileStub(`${folder}/poor.so`, { lacks: ["ncclSend"] });
    await Deno.writeTextFile(`${folder}/text.so`, "no library");
    const reason = async (path: string) => {
      const { error, tried } = await probe(["-A"], { backend: "cuda", cudartPath: good, ncclPath: path });
      assertEquals([error, tried?.length], ["LibraryNotFoundError", 1], path);
      return tried?.[0] ?? "";
    };
    assertStringIncludes(await reason(`${folder}/old.so`), "libnccl 2.17.6 is older than 2.18.1");
    assertStringIncludes(await reason(`${folder}/poor.so`), "ncclSend");
    assertStringIncludes(await reason(`${folder}/text.so`), "text.so (given path)");
    assertStringIncludes(await reason(`${folder}/none.so`), "No such file");
  }));

Deno.test("openLibraries() passes over a libcudart that the driver is too old for", () =>
  withFolder(async (folder) => {
    await compileStub(`${folder}/libnccl.so.2`);
    const found = async (driverVersion: number) => {
      await compileStub(`${folder}/libcudart.so.13`, { cudaVersion: 13_000, driverVersion });
      await compileStub(`${folder}/libcudart.so.12`, { cudaVersion: 12_090, driverVersion });
      const { cudart, error, tried } = await probe(["-A"], {
        backend: "cuda",
        cudartPath: folder,
        ncclPath: `${folder}/libnccl.so.2`,
      });
      return cudart ?? [error, tried];
    };
    const [newer, older] = [`${folder}/libcudart.so.13`, `${folder}/libcudart.so.12`];
    assertEquals(await found(13_020), [newer, 13_000]);
    assertEquals(await found(13_000), [newer, 13_000]);
    // Within a major version a driver may be older than the library.
    assertEquals(await found(12_040), [older, 12_090]);
    const [error, tried] = await found(11_080) as [string, string[]];
    assertEquals(error, "LibraryNotFoundError");
    assertStringIncludes(
      tried[0]!,
      `${newer} (given path): libcudart 13.0 needs a later driver: this machine's is for CUDA 11.8`,
    );
    assertStringIncludes(tried[1]!, `${older} (given path): libcudart 12.9 needs a later driver`);
  }));

Deno.test("openLibraries() lists every place and what to install when there is no leave to look", async () => {
  const { error, message = "", tried = [] } = await probe([], { backend: "cuda" });
  assertEquals(error, "LibraryNotFoundError");
  assertStringIncludes(message, "libcudart was not found. Install");
  assert(tried.length > 10);
  assert(tried.includes("libcudart.so.13 (the loader's own search): not permitted (needs --allow-ffi)"));
});

Deno.test("openLibraries() gives the stand-in both names when it is the backend", () =>
  withFolder(async (folder) => {
    const path = `${folder}/libseqferry_cpu.so`;
    await compileStub(path);
    const expected = { backend: "cpu", cudart: [path, 13_000], nccl: [path, 23_007], cpu: true, calls: [0, 0] };
    assertEquals<unknown>(await probe([`--allow-ffi=${path}`], { backend: "cpu", cpuPath: path }), expected);
    assertEquals<unknown>(
      await probe([`--allow-ffi=${path}`, "--allow-env=SEQFERRY_CPU_LIBRARY"], { backend: "cpu" }, {
        SEQFERRY_CPU_LIBRARY: path,
      }),
      expected,
    );
  }));

Deno.test("openLibraries() refuses a stand-in of another interface, or none at all", () =>
  withFolder(async (folder) => {
    await compileStub(`${folder}/other.so`, { abi: 999 });
    const other = await probe(["-A"], { backend: "cpu", cpuPath: `${folder}/other.so` });
    assertEquals(other.error, "LibraryNotFoundError");
    assertStringIncludes(other.message ?? "", "version 999 of the interface");
    const none = await probe(["-A"], { backend: "cpu", cpuPath: `${folder}/none.so` });
    assertEquals(none.error, "LibraryNotFoundError");
    assertStringIncludes(none.tried?.[0] ?? "", `${folder}/none.so`);
  }));

Deno.test("openLibraries() asks for the backend's name when it may not see whether there is a device", async () => {
  const { error, message = "" } = await probe(["--allow-read"], { backend: "auto" });
  assertEquals(error, "SeqferryError");
  assertStringIncludes(message, "name the backend");
});

Deno.test("openLibraries() refuses a backend that there is not", async () => {
  await assertRejects(
    // @ts-expect-error: the value is wrong on purpose.
    () => openLibraries({ backend: "metal" }),
    SeqferryError,
    'backend is "auto", "cuda" or "cpu", not "metal"',
  );
});
