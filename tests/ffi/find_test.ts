import { assert, assertEquals } from "@std/assert";
import { libcudart, libnccl, search } from "../../ffi/find.ts";
import type { Surroundings } from "../../ffi/find.ts";

/** A machine out of a list of files and variables. */
function machine(
  files: readonly string[],
  env: Record<string, string> = {},
  links: Record<string, string> = {},
): Surroundings {
  const below = (folder: string) => files.filter((file) => file.startsWith(`${folder}/`));
  return {
    env: (variable) => env[variable],
    list(folder) {
      const names = below(folder).map((file) => file.slice(folder.length + 1).split("/")[0] ?? "");
      return names.length === 0 ? undefined : [...new Set(names)].sort();
    },
    kind: (path) => files.includes(path) ? "file" : below(path).length > 0 ? "folder" : undefined,
    link: (path) => links[path],
    arch: "x86_64",
  };
}

const paths = (files: readonly string[], env: Record<string, string> = {}, spec = libnccl, path?: string) =>
  search(spec, path, machine(files, env)).candidates.map((candidate) => candidate.path);

Deno.test("search() offers the explicit path alone when one is given", () => {
  const files = ["/usr/lib64/libnccl.so.2", "/opt/own/libnccl.so.2"];
  assertEquals(paths(files, { SEQFERRY_NCCL: "/from/env.so" }, libnccl, "/mine.so"), ["/mine.so"]);
  assertEquals(paths(files, { SEQFERRY_NCCL: "/from/env.so" }), ["/from/env.so"]);
});

Deno.test("search() takes a folder for the libraries in it when the explicit path is one", () => {
  const files = ["/own/libnccl.so.2"];
  assertEquals(paths(files, {}, libnccl, "/own"), ["/own/libnccl.so.2"]);
  assertEquals(paths([], { SEQFERRY_NCCL: "/unseen/" }), ["/unseen/libnccl.so.2"]);
});

Deno.test("search() looks into the virtual environment that a python3 on the PATH is a link to", () => {
  const library = "/opt/torch/.venv/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2";
  const from = (links: Record<string, string>) =>
    search(libnccl, undefined, machine([library], { PATH: "/usr/bin:/own/bin" }, links)).candidates
      .map(({ path }) => path);
  assertEquals(from({ "/own/bin/python3": "/opt/torch/.venv/bin/python3" }), ["libnccl.so.2", library]);
  assertEquals(from({ "/own/bin/python3": "python3.12" }), ["libnccl.so.2"]);
});

Deno.test("search() goes from the loader to CUDA homes, Python, conda and the system", () => {
  const found = paths([
    "/usr/lib/x86_64-linux-gnu/libnccl.so.2",
    "/conda/lib/libnccl.so.2",
    "/conda/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/venv/lib/python3.9/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/venv/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/extra/nvidia/nccl/lib/libnccl.so.2",
    "/opt/py/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/home/me/.local/lib/python3.10/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/usr/lib/python3/dist-packages/nvidia/nccl/lib/libnccl.so.2",
    "/usr/local/cuda-9.2/lib64/libnccl.so.2",
    "/usr/local/cuda-12.9/lib64/libnccl.so.2",
    "/usr/local/cuda/targets/x86_64-linux/lib/libnccl.so.2",
    "/cuda/lib64/libnccl.so.2",
  ], {
    CUDA_HOME: "/cuda/",
    CONDA_PREFIX: "/conda",
    VIRTUAL_ENV: "/venv",
    PYTHONPATH: "/none:/extra",
    HOME: "/home/me",
    PATH: "/opt/py/bin:/bin:bin",
  });
  assertEquals(found, [
    "libnccl.so.2",
    "/cuda/lib64/libnccl.so.2",
    "/usr/local/cuda/targets/x86_64-linux/lib/libnccl.so.2",
    "/usr/local/cuda-12.9/lib64/libnccl.so.2",
    "/usr/local/cuda-9.2/lib64/libnccl.so.2",
    "/extra/nvidia/nccl/lib/libnccl.so.2",
    "/venv/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/venv/lib/python3.9/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/conda/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/home/me/.local/lib/python3.10/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/opt/py/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2",
    "/usr/lib/python3/dist-packages/nvidia/nccl/lib/libnccl.so.2",
    "/conda/lib/libnccl.so.2",
    "/usr/lib/x86_64-linux-gnu/libnccl.so.2",
  ]);
});

Deno.test("search() prefers the newest CUDA runtime when several lie in one place", () => {
  const site = "/venv/lib/python3.12/site-packages/nvidia";
  assertEquals(
    paths(
      [
        `${site}/cuda_runtime/lib/libcudart.so.12`,
        `${site}/cu13/lib/libcudart.so.13`,
        "/usr/local/cuda/lib64/libcudart.so.11.0",
        "/usr/local/cuda/lib64/libcudart.so.13",
      ],
      { VIRTUAL_ENV: "/venv" },
      libcudart,
    ),
    [
      "libcudart.so.13",
      "libcudart.so.12",
      "libcudart.so.11.0",
      "/usr/local/cuda/lib64/libcudart.so.13",
      "/usr/local/cuda/lib64/libcudart.so.11.0",
      `${site}/cu13/lib/libcudart.so.13`,
      `${site}/cuda_runtime/lib/libcudart.so.12`,
    ],
  );
});

Deno.test("search() tells of every place that it passed over", () => {
  const { candidates, passedOver } = search(
    libnccl,
    undefined,
    machine(["/usr/lib64/libc.so.6"], { CUDA_HOME: "/cuda" }),
  );
  assertEquals(candidates.map((candidate) => candidate.path), ["libnccl.so.2"]);
  for (
    const line of [
      "CONDA_PREFIX: not set",
      "/cuda/lib64 (CUDA_HOME): no such folder",
      "/usr/lib64 (system): no libnccl.so.2",
    ]
  ) assert(passedOver.includes(line), `${line} is not in\n${passedOver.join("\n")}`);
});

Deno.test("search() goes on without what it may not see, and names the permission", () => {
  const closed: Surroundings = {
    env: () => "not permitted",
    list: () => "not permitted",
    kind: () => "not permitted",
    link: () => undefined,
    arch: "aarch64",
  };
  const { candidates, passedOver } = search(libcudart, undefined, closed);
  assertEquals(candidates.map((candidate) => candidate.path), [...libcudart.sonames]);
  assert(passedOver.includes("SEQFERRY_CUDART: not permitted (needs --allow-env=SEQFERRY_CUDART)"));
  assert(
    passedOver.includes("/usr/local/cuda/targets/sbsa-linux/lib (CUDA toolkit): not permitted (needs --allow-read)"),
  );
});
