/**
 * The CPU stand-in's shared library: built on first use with the machine's C compiler, and cached by a hash of its sources.
 *
 * Nothing here asks for a permission. What it takes to build: `--allow-read`, `--allow-write`, `--allow-env` and `--allow-run` (of the
 * compiler), and `--allow-net` where this module came by URL. A library that was built before is named by SEQFERRY_CPU_LIBRARY, and then
 * `--allow-ffi` of that file and `--allow-env` of that variable are enough.
 *
 * @module
 */

import { LibraryNotFoundError } from "../src/errors.ts";
import { BuildFolder, removeLeftovers } from "./build_folder.ts";
import { cpuSources } from "./cpu_sources.ts";
import { granted } from "./find.ts";

/** What the stand-in is compiled with. */
export const cpuCompilerFlags: readonly string[] = [
  "-O2",
  "-std=gnu11",
  "-fPIC",
  "-shared",
  "-pthread",
  "-fvisibility=hidden",
  // Deno unloads what a worker or a test module opened when that ends; the library's own threads must not lose their code.
  "-Wl,-z,nodelete",
];

/** What errors call it. */
const NAME = "the CPU stand-in";

/** How to build, for tests and for those who build by hand. */
export interface BuildOptions {
  /** Where the sources are: a folder's URL, ending in a slash; beside this module unless given. */
  readonly sources?: URL;
  /** The names of the sources in it. */
  readonly files?: readonly string[];
  /** The compilers to try, in order; `$CC`, cc, gcc, clang unless given. */
  readonly compilers?: readonly string[];
  /** The folder of the cache. */
  readonly cacheDir?: string;
  /** The NCCL that it stands in for, 21801 to 23007; 23007 unless given. Functions of later releases are left out. */
  readonly ncclVersion?: number;
  /** The CUDA runtime that it stands in for, 11080 to 13000; 13000 unless given. */
  readonly cudaVersion?: number;
}

/** A stand-in that is there. */
export interface BuiltLibrary {
  /** The absolute path of the shared library. */
  readonly path: string;
  /** Whether it had to be compiled. */
  readonly compiled: boolean;
}

/**
 * The path of the stand-in: the one named, or the one that SEQFERRY_CPU_LIBRARY names, or one built for the sources that go with this code.
 *
 * @throws {LibraryNotFoundError} when it cannot be built; the error says what to install or to set.
 */
export async function cpuLibrary(path?: string): Promise<string> {
  const named = path ?? variable("SEQFERRY_CPU_LIBRARY");
  if (named !== undefined) {
    // An absolute path is not searched for by the loader, and matches the scope of --allow-ffi.
    return absolute(named);
  }
  return (await buildCpuLibrary()).path;
}

/**
 * Builds the stand-in, unless the cache has it.
 *
 * @throws {LibraryNotFoundError} as {@linkcode cpuLibrary}; a compiler's own words are in its message.
 */
export async function buildCpuLibrary(options: BuildOptions = {}): Promise<BuiltLibrary> {
  if (Deno.build.os !== "linux") {
    throw new LibraryNotFoundError(NAME, [], `It runs on Linux only, and this is ${Deno.build.os}.`);
  }
  const base = options.sources ?? new URL("./cpu/", import.meta.url);
  const sources = await readSources(base, options.files ?? cpuSources);
  const flags = [...cpuCompilerFlags, ...versionFlags(options)];
  const file = `libseqferry_cpu-${await digest(sources, flags)}.so`;
  const explicit = options.cacheDir ?? variable("SEQFERRY_CACHE_DIR");
  const folders = explicit === undefined ? userCacheFolders() : [absolute(explicit)];
  for (const folder of folders) {
    if (granted({ name: "read", path: folder }) && granted({ name: "write", path: folder })) {
      await removeLeftovers(folder);
    }
    if (await exists(`${folder}/${file}`)) return { path: `${folder}/${file}`, compiled: false };
  }
  const folder = await writableFolder(folders, explicit === undefined);
  await compile(sources, `${folder}/${file}`, options.compilers ?? compilers(), flags);
  return { path: `${folder}/${file}`, compiled: true };
}

/** What makes it a stand-in for other releases than the newest. */
function versionFlags({ ncclVersion, cudaVersion }: BuildOptions): string[] {
  return [
    ...ncclVersion === undefined ? [] : [`-DSEQFERRY_CPU_NCCL_VERSION=${ncclVersion}`],
    ...cudaVersion === undefined ? [] : [`-DSEQFERRY_CPU_CUDA_VERSION=${cudaVersion}`],
  ];
}

/** One source file. */
interface Source {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

async function readSources(base: URL, files: readonly string[]): Promise<Source[]> {
  const tried: string[] = [];
  const local = base.protocol === "file:";
  const sources = await Promise.all(files.map(async (name): Promise<Source | undefined> => {
    const url = new URL(name, base);
    try {
      if (local) {
        needPermission({ name: "read", path: url }, `--allow-read=${decodeURIComponent(url.pathname)}`);
        return { name, bytes: await Deno.readFile(url) };
      }
      needPermission({ name: "net", host: url.host }, `--allow-net=${url.host}`);
      const response = await fetch(url);
      if (!response.ok) {
        await response.body?.cancel();
        throw new Error(`the server answered ${response.status}`);
      }
      return { name, bytes: new Uint8Array(await response.arrayBuffer()) };
    } catch (error) {
      tried.push(`${url}: ${error instanceof Error ? error.message : error}`);
      return undefined;
    }
  }));
  if (tried.length > 0) {
    throw new LibraryNotFoundError(
      NAME,
      tried.sort(),
      (local ? "Its C sources could not be read. " : "Its C sources could not be fetched. ") +
        "Give the permission named below, or set SEQFERRY_CPU_LIBRARY to a stand-in built elsewhere " +
        "(`deno run -A scripts/build_cpu_library.ts` in a clone prints its path).",
    );
  }
  return sources.filter((source) => source !== undefined);
}

/** A hash of all that decides what the library is: sources, flags, machine. */
async function digest(sources: readonly Source[], flags: readonly string[]): Promise<string> {
  const text = [Deno.build.target, ...flags];
  for (const { name, bytes } of sources) text.push(name, await sha256(bytes));
  return (await sha256(new TextEncoder().encode(text.join("\n")))).slice(0, 24);
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** The user's folders for what can be made again. */
function userCacheFolders(): string[] {
  const xdg = variable("XDG_CACHE_HOME");
  if (xdg !== undefined && xdg.startsWith("/")) return [`${xdg}/seqferry`];
  const home = variable("HOME");
  return home === undefined ? [] : [`${home}/.cache/seqferry`];
}

/**
 * The first folder that can be written, made where it is not there. Where none can, a fresh one for temporary files, if allowed: never a
 * folder of a name that others can guess, since what lies in it is run.
 */
async function writableFolder(folders: readonly string[], orTemporary: boolean): Promise<string> {
  const tried: string[] = [];
  for (const folder of folders) {
    try {
      needPermission({ name: "write", path: folder }, `--allow-write=${folder}`);
      await Deno.mkdir(folder, { recursive: true });
      await using _probe = await BuildFolder.make(folder);
      return folder;
    } catch (error) {
      tried.push(`${folder}: ${error instanceof Error ? error.message : error}`);
    }
  }
  if (orTemporary && granted({ name: "write" })) return await Deno.makeTempDir({ prefix: "seqferry-" });
  throw new LibraryNotFoundError(
    NAME,
    tried.length > 0 ? tried : ["a folder for temporary files: not permitted (needs --allow-write)"],
    "There is no folder to build it in. Set SEQFERRY_CACHE_DIR to one that can be written, " +
      "or SEQFERRY_CPU_LIBRARY to a stand-in built elsewhere.",
  );
}

/** The compilers to try. */
function compilers(): string[] {
  const cc = variable("CC");
  return cc === undefined ? ["cc", "gcc", "clang"] : [cc, "cc", "gcc", "clang"];
}

/** Compiles into a folder of its own, then renames: another process may be building the same library. */
async function compile(
  sources: readonly Source[],
  path: string,
  compilers: readonly string[],
  libraryFlags: readonly string[],
): Promise<void> {
  const tried: string[] = [];
  await using folder = await BuildFolder.make(path.slice(0, path.lastIndexOf("/")));
  const work = folder.path;
  for (const { name, bytes } of sources) await Deno.writeFile(`${work}/${name}`, bytes);
  const units = sources.map((source) => source.name).filter((name) => name.endsWith(".c"));
  for (const compiler of compilers) {
    // $CC may carry flags, as make allows.
    const [program = compiler, ...flags] = compiler.split(" ").filter((word) => word !== "");
    if (!granted({ name: "run", command: program })) {
      tried.push(`${compiler}: not permitted (needs --allow-run=${program})`);
      continue;
    }
    const output = await run(program, [...flags, ...libraryFlags, "-o", "library.so", ...units], work);
    if (typeof output === "string") {
      tried.push(`${compiler}: ${output}`);
      continue;
    }
    if (!output.success) {
      throw new LibraryNotFoundError(
        NAME,
        [`${compiler}: exit code ${output.code}\n${new TextDecoder().decode(output.stderr).trimEnd()}`],
        "The C compiler refused its sources. Try another compiler by setting CC.",
      );
    }
    if (!await exists(`${work}/library.so`)) {
      tried.push(`${compiler}: it ended well and made no library`);
      continue;
    }
    await Deno.rename(`${work}/library.so`, path);
    return;
  }
  throw new LibraryNotFoundError(
    NAME,
    tried,
    "It is built on first use and that takes a C compiler. Install one (`apt install gcc libc6-dev`, `dnf install gcc`, " +
      "`apk add gcc musl-dev linux-headers`), or set CC to one, or set SEQFERRY_CPU_LIBRARY to a stand-in built elsewhere.",
  );
}

/** Runs a program, which ends with this process; a string says why it could not be started. */
async function run(program: string, args: string[], cwd: string): Promise<Deno.CommandOutput | string> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, { args, cwd, stdin: "null", stdout: "null", stderr: "piped" }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "no such program";
    if (error instanceof Deno.errors.PermissionDenied) return "not an executable file";
    if (error instanceof Deno.errors.NotCapable) return error.message;
    throw error;
  }
  const end = () => child.kill();
  addEventListener("unload", end);
  try {
    return await child.output();
  } finally {
    removeEventListener("unload", end);
  }
}

async function exists(path: string): Promise<boolean> {
  if (!granted({ name: "read", path })) return false;
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    // Not there, or in a folder of somebody else's, or below what is no folder.
    return false;
  }
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

/** An environment variable; undefined where it is unset, empty, or not permitted. */
function variable(name: string): string | undefined {
  const value = granted({ name: "env", variable: name }) ? Deno.env.get(name) : undefined;
  return value === "" ? undefined : value;
}

/** Throws where a permission is not there, naming the flag that gives it. */
function needPermission(permission: Deno.PermissionDescriptor, flag: string): void {
  if (!granted(permission)) throw new Error(`not permitted (needs ${flag})`);
}
