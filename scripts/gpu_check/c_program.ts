/**
 * The C side of the speed checks: `calls.c`, compiled on the spot.
 *
 * @module
 */

import { Missed, Skip } from "./check.ts";
import { runToEnd } from "./peer_process.ts";

const SOURCE = new URL("calls.c", import.meta.url).pathname;

/**
 * Compiles the program into a folder; answers its path. Any C compiler does, for it includes nothing of NVIDIA's.
 *
 * @throws {Skip} where there is no compiler, {@linkcode Missed} where the compiler refuses.
 */
export async function compileCalls(folder: string): Promise<string> {
  const target = `${folder}/calls`;
  const named = Deno.env.get("CC");
  for (const compiler of [...named ? [named] : [], "cc", "gcc", "clang", "nvcc"]) {
    const [program = compiler, ...flags] = compiler.split(" ").filter((word) => word !== "");
    const args = [...flags, ...program === "nvcc" ? ["-x", "c"] : ["-std=gnu11"], "-O2", SOURCE, "-o", target, "-ldl"];
    const compiled = await runToEnd(program, args, { timeoutMs: 60_000 }).catch(() => null);
    if (compiled?.success === true) return target;
    if (compiled !== null) {
      throw new Missed(`${compiler} does not compile calls.c: ${compiled.stderr.split("\n", 1)[0]}`);
    }
  }
  throw new Skip("there is no C compiler: cc, gcc, clang and nvcc were not found, and CC names none");
}
