import { assert, assertEquals } from "@std/assert";
import { CAPABILITIES, type CapabilityRow } from "../../ffi/capabilities.ts";
import * as constants from "../../ffi/constants.ts";
import { cudaCodeText, ncclCodeText } from "../../ffi/constants.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";
import { cudaInclude, hasBatches, ncclInclude, printed, type Prototype, prototypes } from "./headers.ts";

const includes = [...cudaInclude === undefined ? [] : ["cuda_runtime.h"]];
if (cudaInclude !== undefined && ncclInclude !== undefined) includes.push("nccl.h");
const flags = [`-I${cudaInclude}`, `-I${ncclInclude}`];
const head = includes.map((header) => `#include <${header}>\n`).join("") + "#include <stdio.h>\n";
const declared = includes.length === 0 ? new Map<string, Prototype>() : await prototypes(includes, flags);
const [cudaVersion = 0, ncclVersion = 0] = includes.length === 0 ? [] : await printed(
  `${head}\n#ifndef NCCL_VERSION_CODE\n#define NCCL_VERSION_CODE 0\n#endif
  int main(void) { printf("%d\\n%d\\n", CUDART_VERSION, NCCL_VERSION_CODE); }`,
  flags,
);

function test(name: string, fn: () => Promise<void>): void {
  const ignore = includes.length === 0;
  Deno.test({ name: `the headers${ignore ? " (ignored: not installed)" : ""}: ${name}`, ignore, fn });
}

/** Whether a function's form in a table is for the version of the header at hand. */
function isForThese(library: "libcudart" | "libnccl", key: string, name: string): boolean {
  if (key === "cudaMemcpyBatchAsync") return cudaVersion >= 13_000;
  if (key === "cudaMemcpyBatchAsync12") return cudaVersion >= 12_080 && cudaVersion < 13_000;
  const rows: CapabilityRow[] = Object.values(CAPABILITIES);
  const row = rows.find((row) => row.symbols.includes(name));
  const version = library === "libnccl" ? ncclVersion : cudaVersion;
  return version > 0 && (row === undefined || version >= row.since);
}

/** What is to be known of a parameter to call a function right: its size, and its class as the C compiler counts them. */
interface Kind {
  readonly bytes: number;
  readonly isStruct: boolean;
}

function kindOf(type: Deno.NativeResultType): Kind {
  if (typeof type === "object") return { bytes: 8 * type.struct.length, isStruct: true };
  const sizes: Record<string, number> = { i32: 4, u32: 4, u64: 8, usize: 8, buffer: 8, pointer: 8 };
  const bytes = sizes[type];
  assert(bytes !== undefined, `a table has the type ${type}, of which this test does not know the size`);
  return { bytes, isStruct: false };
}

test("every function of the tables has the parameters that the header declares, by number, size and kind", async () => {
  const names: string[] = [];
  const ours: Kind[][] = [];
  const types: string[][] = [];
  const tables = [["libcudart", cudartSymbols], ["libnccl", ncclSymbols]] as const;
  for (const [library, table] of tables) {
    const symbols: [string, Deno.ForeignFunction & { name?: string }][] = Object.entries(table);
    for (const [key, symbol] of symbols) {
      const name = symbol.name ?? key;
      if (!isForThese(library, key, name)) continue;
      const prototype = declared.get(name);
      assert(prototype !== undefined, `${name} is in no header`);
      assertEquals(symbol.parameters.length, prototype.parameters.length, `${key}: ${prototype.parameters.join("; ")}`);
      names.push(key);
      ours.push([symbol.result, ...symbol.parameters].map(kindOf));
      types.push([prototype.result, ...prototype.parameters]);
    }
  }
  // No more of the tables than one form of the batched copy may be passed over with both headers at hand.
  assert(names.length > 40);
  // 12 is the class of structs in GCC's typeclass.h.
  const lines = types.flat().map((type) =>
    `printf("%zu\\n%d\\n", sizeof(${type}), __builtin_classify_type(*(${type} *)0) == 12);`
  );
  const numbers = await printed(`${head}int main(void) {\n${lines.join("\n")}\n}\n`, flags);
  let at = 0;
  for (const [i, kinds] of ours.entries()) {
    const theirs = kinds.map((): Kind => ({ bytes: numbers[at++]!, isStruct: numbers[at++] === 1 }));
    assertEquals(kinds, theirs, `${names[i]}: ${types[i]!.join("; ")}`);
  }
});

/** The C names of the members of an object of constants. */
const ENUMERATIONS: readonly [object: Readonly<Record<string, number>>, name: (member: string) => string][] = [
  [constants.cudaMemcpyKind, (name) => `cudaMemcpy${upper(name)}`],
  [constants.cudaStreamFlags, (name) => `cudaStream${upper(name)}`],
  [constants.cudaEventFlags, (name) => `cudaEvent${upper(name)}`],
  [constants.cudaHostAllocFlags, (name) => `cudaHostAlloc${upper(name)}`],
  [constants.cudaHostRegisterFlags, (name) => `cudaHostRegister${upper(name)}`],
  [constants.cudaDeviceAttr, (name) => `cudaDevAttr${upper(name)}`],
  [constants.cudaMemPoolAttr, (name) => `cudaMemPoolAttr${upper(name)}`],
  [constants.ncclDataType, (name) => `nccl${upper(name)}`],
  [constants.ncclRedOp, (name) => `nccl${upper(name)}`],
];

function upper(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

test("every constant has the header's value", async () => {
  const pairs: [name: string, value: number][] = [];
  for (const [object, toName] of ENUMERATIONS) {
    for (const [member, value] of Object.entries(object)) {
      pairs.push([toName(member), value]);
    }
  }
  if (hasBatches) {
    for (const [member, value] of Object.entries(constants.cudaMemcpySrcAccessOrder)) {
      pairs.push([`cudaMemcpySrcAccessOrder${upper(member)}`, value]);
    }
  }
  for (const [name, value] of Object.entries(constants)) if (typeof value === "number") pairs.push([name, value]);
  const known = pairs.filter(([name]) =>
    name.startsWith("cuda") || name.startsWith("CUDA") ? true : ncclVersion > 0 && isInNccl(name)
  );
  const lines = known.map(([name]) => `printf("%d\\n", (int)(${name}));`);
  const values = await printed(`${head}int main(void) {\n${lines.join("\n")}\n}\n`, flags);
  assertEquals(known, known.map(([name], i) => [name, values[i]!]));
});

/** Constants that came after the oldest release. */
function isInNccl(name: string): boolean {
  if (name === "ncclTimeout") return ncclVersion >= CAPABILITIES.timeoutResult.since;
  if (name.startsWith("NCCL_SHRINK")) return ncclVersion >= CAPABILITIES.commShrink.since;
  // In C the older headers know it only where the half types' own header came first.
  if (name === "ncclBfloat16") return ncclVersion >= CAPABILITIES.float8.since;
  if (name.startsWith("ncclFloat8")) return ncclVersion >= CAPABILITIES.float8.since;
  return true;
}

test("the sizes of what is passed by value, and every status code", async () => {
  const codes: [name: string, code: number][] = [];
  for (let code = 0; code < 1000; code++) {
    const name = cudaCodeText(code)?.name;
    // The timeout and external device codes came with 11.x and 12.x; older headers lack them.
    if (name !== undefined && declaredIn(name)) codes.push([name, code]);
  }
  for (let code = 0; ncclVersion > 0 && code < 8; code++) codes.push([ncclCodeText(code)!.name, code]);
  const nccl = ncclVersion > 0
    ? [`printf("%zu\\n", sizeof(ncclUniqueId));`, `printf("%d\\n", NCCL_UNIQUE_ID_BYTES);`]
    : [];
  const lines = [
    `printf("%zu\\n%zu\\n", sizeof(cudaIpcMemHandle_t), sizeof(cudaIpcEventHandle_t));`,
    ...nccl,
    ...codes.map(([name]) => `printf("%d\\n", (int)(${name}));`),
  ];
  const values = await printed(`${head}int main(void) {\n${lines.join("\n")}\n}\n`, flags);
  const sizes = [64, 64, ...ncclVersion > 0 ? [128, 128] : []];
  assertEquals(values, [...sizes, ...codes.map(([, code]) => code)]);
});

function declaredIn(name: string): boolean {
  return cudaInclude !== undefined && new RegExp(`\\b${name}\\b`).test(driverTypes);
}

const driverTypes = cudaInclude === undefined ? "" : Deno.readTextFileSync(`${cudaInclude}/driver_types.h`);
