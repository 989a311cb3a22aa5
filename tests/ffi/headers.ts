/**
 * NVIDIA's headers, where they are installed beside the libraries, and what C says about them.
 *
 * @module
 */

import { libcudart, libnccl, search } from "../../ffi/find.ts";

/** The folder beside an installed library's that has a header; undefined where none is installed. */
function includeFolder(spec: typeof libnccl, header: string): string | undefined {
  for (const { path } of search(spec).candidates) {
    if (!path.startsWith("/")) continue;
    const folder = `${path.slice(0, path.lastIndexOf("/"))}/../include`;
    try {
      Deno.statSync(`${folder}/${header}`);
      return folder;
    } catch {
      // Only the library is installed there.
    }
  }
  return undefined;
}

/** Where `cuda_runtime.h` is, with all that it includes; undefined where it is not. */
export const cudaInclude: string | undefined = await withAllIncludes(
  includeFolder(libcudart, "cuda_runtime.h"),
  "cuda_runtime.h",
);

/** Where `nccl.h` is, and the CUDA headers that it includes; undefined where they are not. */
export const ncclInclude: string | undefined = cudaInclude === undefined
  ? undefined
  : await withAllIncludes(includeFolder(libnccl, "nccl.h"), "nccl.h", cudaInclude);

/** Whether the CUDA headers know copies in batches (12.8 on). */
export const hasBatches: boolean = cudaInclude !== undefined &&
  Deno.readTextFileSync(`${cudaInclude}/driver_types.h`).includes("cudaMemcpyAttributes {");

/** The header's folder, if what it includes is there too: NVIDIA's wheels keep that in other wheels. */
async function withAllIncludes(
  folder: string | undefined,
  header: string,
  ...others: string[]
): Promise<string | undefined> {
  if (folder === undefined) return undefined;
  const includes = [folder, ...others].map((one) => `-I${one}`);
  const args = ["-w", "-fsyntax-only", "-x", "c", ...includes, `${folder}/${header}`];
  const { success } = await new Deno.Command("cc", { args, stderr: "null" }).output();
  return success ? folder : undefined;
}

/** Compiles and runs C that prints one number a line. */
export async function printed(source: string, flags: readonly string[] = []): Promise<number[]> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/print.c`, source);
    const args = ["-w", ...flags, "print.c", "-o", "print"];
    const compiled = await new Deno.Command("cc", { args, cwd: folder, stderr: "piped" }).output();
    if (!compiled.success) throw new Error(new TextDecoder().decode(compiled.stderr));
    const { stdout } = await new Deno.Command(`${folder}/print`).output();
    return new TextDecoder().decode(stdout).trim().split("\n").map(Number);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A function as a header declares it: C types, without the parameters' names. */
export interface Prototype {
  /** Type of what it answers. */
  readonly result: string;
  /** Types of its parameters. */
  readonly parameters: readonly string[];
}

/** The functions that headers declare, after the preprocessor. */
export async function prototypes(
  includes: readonly string[],
  flags: readonly string[],
): Promise<Map<string, Prototype>> {
  const compiler = new Deno.Command("cc", {
    args: ["-E", "-P", "-w", ...flags, "-x", "c", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = compiler.stdin.getWriter();
  await writer.write(new TextEncoder().encode(includes.map((header) => `#include <${header}>\n`).join("")));
  await writer.close();
  const text = new TextDecoder().decode((await compiler.output()).stdout)
    .replace(/__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)/g, " ").replace(/\s+/g, " ");
  const found = new Map<string, Prototype>();
  for (const [, result, name, list] of text.matchAll(/([\w ]+?[\s*]+)((?:cuda|nccl)\w+)\s*\(([^()]*)\)\s*;/g)) {
    const parameters = list!.trim() === "void" || list!.trim() === "" ? [] : list!.split(",").map(withoutName);
    found.set(name!, { result: result!.replace(/\b(extern|static|inline)\b/g, "").trim(), parameters });
  }
  return found;
}

/** `const void *sendbuff` is of type `const void *`. */
function withoutName(parameter: string): string {
  const text = parameter.trim();
  const match = /^(.*[\s*])(\w+)$/.exec(text);
  const isName = match !== null && !/^(?:int|char|float|double|long|short|unsigned|void)$/.test(match[2]!);
  return isName && !/^(?:(?:const|struct|enum|unsigned)\s*)+$/.test(match[1]!) ? match[1]!.trim() : text;
}
