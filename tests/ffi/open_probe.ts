// deno-lint-ignore-file no-console -- run by open_test.ts, which reads what this prints
/** Opens the libraries as its argument says (the options as JSON) and prints what came of it, as JSON. */

import { openLibraries } from "../../ffi/open.ts";
import { LibraryNotFoundError } from "../../src/errors.ts";

try {
  const { backend, cudart, nccl, cpu } = await openLibraries(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify({
    backend,
    cudart: [cudart.path, cudart.version],
    nccl: [nccl.path, nccl.version],
    cpu: cpu !== null,
    calls: [cudart.symbols.cudaStreamSynchronize(0n), nccl.symbols.ncclGroupStart()],
  }));
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const tried = error instanceof LibraryNotFoundError ? error.tried : [];
  console.log(JSON.stringify({ error: error.name, message: error.message, tried }));
}
