import { assertEquals } from "@std/assert";
import { exitCodeOf } from "../../src/commands/exit_code.ts";
import { InputError } from "../../src/commands/input_error.ts";
import { Interrupted } from "../../src/commands/interrupt.ts";
import { WorkerDiedError } from "../../src/commands/worker_processes.ts";
import { CudaError, LibraryNotFoundError } from "../../src/errors.ts";

const died = (code: number) => new WorkerDiedError(0, { success: false, code, signal: null }, "");

Deno.test("exitCodeOf() tells what this machine lacks, here or in a worker, from what failed", () => {
  assertEquals(exitCodeOf(new LibraryNotFoundError("libnccl", [], "Install it.")), 3);
  assertEquals(exitCodeOf(new CudaError("cudaSetDevice", 100, "cudaErrorNoDevice", "there is no CUDA device")), 3);
  assertEquals(exitCodeOf(died(3)), 3);
  assertEquals(exitCodeOf(new CudaError("cudaMalloc", 2, "cudaErrorMemoryAllocation", "no memory is left")), 1);
  assertEquals(exitCodeOf(died(1)), 1);
  assertEquals(exitCodeOf(new Error("anything")), 1);
});

Deno.test("exitCodeOf() tells bad input, and signals as shells do", () => {
  assertEquals(exitCodeOf(new InputError("--ids", "it is wrong")), 2);
  assertEquals(exitCodeOf(new Interrupted("SIGTERM", 15)), 143);
});
