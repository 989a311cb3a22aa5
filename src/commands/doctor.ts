/**
 * `doctor`: versions, paths and environment, and what is missing.
 *
 * @module
 */

import { cudaVersionText, ncclVersionText } from "../../ffi/capabilities.ts";
import { openLibraries } from "../../ffi/open.ts";
import { openRuntime } from "../../mod.ts";
import type { Command } from "./args.ts";
import { DONE, LACKING } from "./exit_code.ts";
import { messageOf } from "./input_error.ts";
import { print } from "./print.ts";
import { bytesText } from "./units.ts";
import { VERSION } from "./version.ts";

/** The command. */
export const doctorCommand: Command = {
  name: "doctor",
  summary: "Tells versions, paths and environment of all that seqferry uses, and what is missing.",
  flags: {
    backend: { value: "B", help: "cpu, cuda or auto: what the exit code is about; auto unless given" },
  },
  run: async (flags) => {
    const wanted = flags.oneOf("backend", ["cpu", "cuda", "auto"]) ?? "auto";
    print(`seqferry  ${VERSION}\n`);
    print(`deno      ${Deno.version.deno}, V8 ${Deno.version.v8}, TypeScript ${Deno.version.typescript}\n`);
    print(
      `system    ${Deno.build.os} ${Deno.osRelease()}, ${Deno.build.arch}, ${navigator.hardwareConcurrency} cores\n`,
    );
    print(`memory    ${bytesText(Deno.systemMemoryInfo().total)}\n`);
    print(`compiler  ${await compiler()}\n`);
    const outcomes = new Map<string, boolean>();
    for (const backend of ["cuda", "cpu"] as const) outcomes.set(backend, await tellBackend(backend));
    const healthy = wanted === "auto" ? await tellAuto() : outcomes.get(wanted)!;
    print("\nenvironment\n");
    for (const [name, value] of Object.entries(Deno.env.toObject()).sort(([a], [b]) => a < b ? -1 : 1)) {
      if (!/^(NCCL_|CUDA_|SEQFERRY_)|^(LD_LIBRARY_PATH|CC|VIRTUAL_ENV|CONDA_PREFIX)$/.test(name)) continue;
      print(`  ${name}=${name === "SEQFERRY_TOKEN" ? "(not shown)" : value}\n`);
    }
    return healthy ? DONE : LACKING;
  },
};

/** Tells of one backend's libraries and first device; whether both are there. */
async function tellBackend(backend: "cuda" | "cpu"): Promise<boolean> {
  print(`\n${backend === "cuda" ? "CUDA" : "CPU stand-in"}\n`);
  try {
    const { cudart, nccl } = await openLibraries({ backend });
    print(`  libcudart  ${cudaVersionText(cudart.version)}  ${cudart.path}\n`);
    print(`  libnccl    ${ncclVersionText(nccl.version)}  ${nccl.path}\n`);
    using runtime = await openRuntime({ backend });
    const { freeBytes, totalBytes } = runtime.memoryInfo();
    print(`  device 0   ${bytesText(freeBytes)} of ${bytesText(totalBytes)} free\n`);
    return true;
  } catch (error) {
    print(`  ${messageOf(error).replaceAll("\n", "\n  ")}\n`);
    return false;
  }
}

/** Tells what "auto" takes; whether it works. */
async function tellAuto(): Promise<boolean> {
  try {
    using runtime = await openRuntime();
    print(`\nauto takes ${runtime.backend === "cuda" ? "CUDA" : "the CPU stand-in"}\n`);
    return true;
  } catch (error) {
    print(`\nauto fails: ${messageOf(error).split("\n", 1)[0]}\n`);
    return false;
  }
}

/** The first C compiler that answers, and its version. */
async function compiler(): Promise<string> {
  const named = Deno.env.get("CC");
  for (const candidate of [...(named ? [named] : []), "cc", "gcc", "clang"]) {
    const [program = candidate, ...flags] = candidate.split(" ").filter((word) => word !== "");
    try {
      const output = await new Deno.Command(program, { args: [...flags, "--version"], stdin: "null" }).output();
      if (output.success) return `${candidate}: ${new TextDecoder().decode(output.stdout).split("\n", 1)[0]}`;
    } catch {
      // The next one.
    }
  }
  return "none found (cc, gcc, clang); it is needed to build the CPU stand-in";
}
