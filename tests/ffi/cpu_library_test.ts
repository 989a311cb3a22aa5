import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { buildCpuLibrary, cpuLibrary } from "../../ffi/cpu_library.ts";
import type { BuildOptions } from "../../ffi/cpu_library.ts";
import { cpuSources } from "../../ffi/cpu_sources.ts";
import { LibraryNotFoundError } from "../../src/errors.ts";
import { childrenOf, eventually } from "../processes.ts";

const files = ["answer.c", "answer.h"];
const answer = (value: string) => `#include "answer.h"\nint answer(void) { return ${value}; }\n`;

/** Sources of a tiny library and an empty cache, in a folder that goes when the test ends. */
async function withSources(
  fn: (options: Required<Pick<BuildOptions, "sources" | "files" | "cacheDir">>, folder: string) => Promise<void>,
) {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/cpu`);
    await Deno.writeTextFile(`${folder}/cpu/answer.h`, "int answer(void);\n");
    await Deno.writeTextFile(`${folder}/cpu/answer.c`, answer("42"));
    await fn({ sources: new URL(`file://${folder}/cpu/`), files, cacheDir: `${folder}/cache/deep` }, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function existsSync(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

const inCache = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(`${folder}/cache/deep`))).map((e) => e.name);

Deno.test("cpuSources are exactly the sources in ffi/cpu", async () => {
  const names = (await Array.fromAsync(Deno.readDir(new URL("../../ffi/cpu/", import.meta.url))))
    .map((entry) => entry.name).filter((name) => /\.[ch]$/.test(name)).sort();
  assertEquals([...cpuSources], names);
});

Deno.test("buildCpuLibrary() compiles once, and anew when a source changes", () =>
  withSources(async (options, folder) => {
    const first = await buildCpuLibrary(options);
    assert(first.compiled);
    assertEquals(await buildCpuLibrary(options), { path: first.path, compiled: false });
    await Deno.writeTextFile(`${folder}/cpu/answer.h`, "int answer(void); /* changed */\n");
    const second = await buildCpuLibrary(options);
    assert(second.compiled);
    assertNotEquals(second.path, first.path);
    // Nothing but the two libraries is left behind.
    assertEquals((await inCache(folder)).length, 2);
  }));

Deno.test("buildCpuLibrary() makes one good library when several build it at once", () =>
  withSources(async (options, folder) => {
    const built = await Promise.all(Array.from({ length: 4 }, () => buildCpuLibrary(options)));
    assertEquals(new Set(built.map((library) => library.path)).size, 1);
    const names = await inCache(folder);
    assertEquals(names.length, 1);
    const bytes = await Deno.readFile(`${folder}/cache/deep/${names[0]}`);
    assertEquals([...bytes.subarray(0, 4)], [0x7f, 0x45, 0x4c, 0x46]);
  }));

Deno.test("buildCpuLibrary() says what the compiler said when it refuses the sources", () =>
  withSources(async (options, folder) => {
    await Deno.writeTextFile(`${folder}/cpu/answer.c`, answer("nowhere_declared"));
    const error = await assertRejects(() => buildCpuLibrary(options), LibraryNotFoundError);
    assertStringIncludes(error.message, "nowhere_declared");
    assertEquals(await inCache(folder), []);
  }));

Deno.test("buildCpuLibrary() says what to install when there is no compiler", () =>
  withSources(async (options) => {
    const error = await assertRejects(
      () => buildCpuLibrary({ ...options, compilers: ["/nowhere/cc", "no-such-compiler -m64"] }),
      LibraryNotFoundError,
    );
    assertEquals(error.tried, ["/nowhere/cc: no such program", "no-such-compiler -m64: no such program"]);
    assertStringIncludes(error.message, "apt install gcc");
  }));

Deno.test("buildCpuLibrary() tells of a compiler that makes nothing, and of a cache below what is no folder", () =>
  withSources(async (options, folder) => {
    const lacking = await assertRejects(
      () => buildCpuLibrary({ ...options, compilers: ["true"] }),
      LibraryNotFoundError,
    );
    assertEquals(lacking.tried, ["true: it ended well and made no library"]);
    await Deno.writeTextFile(`${folder}/file`, "");
    const { tried } = await assertRejects(
      () => buildCpuLibrary({ ...options, cacheDir: `${folder}/file/cache` }),
      LibraryNotFoundError,
    );
    assertStringIncludes(tried[0]!, `${folder}/file/cache`);
  }));

Deno.test("buildCpuLibrary() goes on to the next compiler when one is not there", () =>
  withSources(async (options) => {
    assert((await buildCpuLibrary({ ...options, compilers: ["/nowhere/cc", "cc -DEXTRA=1"] })).compiled);
  }));

/** A program that builds from `options` until it is killed. */
const endless = (options: BuildOptions, compiler: string) => `
  import { buildCpuLibrary } from ${JSON.stringify(new URL("../../ffi/cpu_library.ts", import.meta.url).href)};
  const options = ${JSON.stringify({ ...options, compilers: [compiler] })};
  await buildCpuLibrary({ ...options, sources: new URL(options.sources) });
`;

Deno.test("buildCpuLibrary() removes what a killed build left, and nothing of one that is under way", () =>
  withSources(async (options, folder) => {
    // A compiler that takes its time: it says that it runs, and stops.
    const compiler = `${folder}/slow`;
    await Deno.writeTextFile(compiler, `#!/bin/sh\ntouch ${folder}/running\nexec sleep 60\n`, { mode: 0o755 });
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", endless(options, compiler)],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await eventually("the compiler", () => existsSync(`${folder}/running`));
    const compilerProcess = childrenOf(child.pid);
    try {
      const good = { ...options, compilers: ["cc"] };
      const { path } = await buildCpuLibrary(good);
      assertEquals((await inCache(folder)).filter((name) => name.startsWith("build-")).length, 1);
      child.kill("SIGKILL");
      await child.status;
      assertEquals((await buildCpuLibrary(good)).path, path);
      assertEquals((await inCache(folder)).length, 1);
    } finally {
      for (const pid of compilerProcess) Deno.kill(pid, "SIGKILL");
    }
  }));

Deno.test("buildCpuLibrary() fetches the sources when the module came by URL", () =>
  withSources(async (options, folder) => {
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
      const name = new URL(request.url).pathname.slice(1);
      if (!files.includes(name)) return new Response("none", { status: 404 });
      return new Response(await Deno.readFile(`${folder}/cpu/${name}`));
    });
    try {
      const sources = new URL(`http://127.0.0.1:${server.addr.port}/`);
      const remote = await buildCpuLibrary({ ...options, sources });
      // The same sources are the same library, wherever they came from.
      assertEquals(await buildCpuLibrary(options), { path: remote.path, compiled: false });
      const error = await assertRejects(
        () => buildCpuLibrary({ ...options, sources, files: ["answer.c", "missing.c"] }),
        LibraryNotFoundError,
      );
      assertEquals(error.tried, [`${sources}missing.c: the server answered 404`]);
      assertStringIncludes(error.message, "SEQFERRY_CPU_LIBRARY");
    } finally {
      await server.shutdown();
    }
  }));

Deno.test(
  "buildCpuLibrary() names the flag when a permission is not there",
  { permissions: { env: true } },
  async () => {
    const remote = await assertRejects(
      () => buildCpuLibrary({ sources: new URL("https://example.org/ffi/cpu/"), files }),
      LibraryNotFoundError,
    );
    assertStringIncludes(remote.message, "needs --allow-net=example.org");
    const local = await assertRejects(
      () => buildCpuLibrary({ sources: new URL("file:///cpu/"), files }),
      LibraryNotFoundError,
    );
    assertStringIncludes(local.message, "needs --allow-read=/cpu/answer.c");
  },
);

Deno.test("cpuLibrary() takes a path that is given, made absolute", async () => {
  assertEquals(await cpuLibrary("/there/lib.so"), "/there/lib.so");
  assertEquals(await cpuLibrary("lib.so"), `${Deno.cwd()}/lib.so`);
});

const script = new URL("../../scripts/build_cpu_library.ts", import.meta.url).pathname;

Deno.test("scripts/build_cpu_library.ts prints the path of a library that is there", async () => {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--quiet", script] })
    .output();
  assert(success);
  assert((await Deno.stat(new TextDecoder().decode(stdout).trim())).isFile);
});

Deno.test("scripts/build_cpu_library.ts ends with 1 and a sentence when the machine has no compiler", async () => {
  const cache = await Deno.makeTempDir();
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", script],
      env: { PATH: "/nowhere", CC: "", SEQFERRY_CACHE_DIR: cache },
    }).output();
    assertEquals([code, stdout.length], [1, 0]);
    assertStringIncludes(new TextDecoder().decode(stderr), "takes a C compiler. Install one");
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});
