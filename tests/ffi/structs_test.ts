import { assertEquals, assertThrows } from "@std/assert";
import {
  encodeMemcpyAttributes,
  encodeNcclConfig,
  MEMCPY_ATTRIBUTES_BYTES,
  memcpyAttributesOffsets,
  NCCL_CONFIG_BYTES,
  ncclConfigOffsets,
} from "../../ffi/structs.ts";
import { cudaInclude as cuda, hasBatches, ncclInclude as nccl, printed } from "./headers.ts";

function layoutSource(head: string, type: string, fields: readonly string[]): string {
  const offsets = fields.map((field) => `printf("%zu\\n", offsetof(${type}, ${field}));`).join("\n");
  return `${head}\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n${offsets}\nprintf("%zu\\n", sizeof(${type}));\n}\n`;
}

Deno.test("ncclConfigOffsets agree with the C compiler's for the fields of 2.30", async () => {
  const declaration = `#include <stddef.h>
    typedef struct {
      size_t size; unsigned int magic; unsigned int version; int blocking, cgaClusterSize, minCTAs, maxCTAs;
      const char *netName; int splitShare, trafficClass; const char *commName; int collnetEnable, CTAPolicy, shrinkShare,
      nvlsCTAs, nChannelsPerNetPeer, nvlinkCentricSched, graphUsageMode, numRmaCtx, maxP2pPeers, graphStreamOrdering;
    } config;`;
  assertEquals(
    await printed(layoutSource(declaration, "config", Object.keys(ncclConfigOffsets))),
    [...Object.values(ncclConfigOffsets), NCCL_CONFIG_BYTES],
  );
});

Deno.test({
  name: `ncclConfigOffsets and encodeNcclConfig() agree with nccl.h${
    nccl === undefined ? " (ignored: no nccl.h beside a libnccl)" : ""
  }`,
  ignore: nccl === undefined || cuda === undefined,
  async fn() {
    const head = `#include <nccl.h>\n`;
    const flags = [`-I${nccl}`, `-I${cuda}`];
    // Fields newer than the installed header are left out.
    const text = await Deno.readTextFile(`${nccl}/nccl.h`);
    const fields = Object.entries(ncclConfigOffsets).filter(([field]) => new RegExp(`\\b${field};`).test(text));
    const sizes = await printed(layoutSource(head, "ncclConfig_t", fields.map(([field]) => field)), flags);
    assertEquals(sizes.slice(0, -1), fields.map(([, offset]) => offset));
    const initializer = `${head}#include <stdio.h>
      int main(void) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0; config.maxCTAs = 4; config.splitShare = 1;
        const unsigned char *bytes = (const unsigned char *)&config;
        printf("%d\\n%zu\\n", NCCL_VERSION_CODE, sizeof config);
        for (size_t i = 0; i < sizeof config; i++) printf("%d\\n", bytes[i]);
      }`;
    const [version = 0, size = 0, ...bytes] = await printed(initializer, flags);
    const ours = [...encodeNcclConfig({ version, blocking: false, maxCTAs: 4, splitShare: true })];
    // The first field is the size of the struct, ours always that of the longest release; what lies behind the last field is padding.
    const starts = fields.map(([, offset]) => offset).slice(1);
    for (const start of starts) {
      assertEquals(ours.slice(start, start + 4), bytes.slice(start, start + 4), `at ${start}`);
    }
    assertEquals(size, bytes.length);
  },
});

Deno.test({
  name: `memcpyAttributesOffsets agree with driver_types.h${
    hasBatches ? "" : " (ignored: no CUDA headers from 12.8 on)"
  }`,
  ignore: !hasBatches,
  async fn() {
    assertEquals(
      await printed(
        layoutSource("#include <driver_types.h>", "struct cudaMemcpyAttributes", Object.keys(memcpyAttributesOffsets)),
        [`-I${cuda}`],
      ),
      [...Object.values(memcpyAttributesOffsets), MEMCPY_ATTRIBUTES_BYTES],
    );
  },
});

Deno.test("encodeNcclConfig() leaves to NCCL what is not given", () => {
  const view = new DataView(encodeNcclConfig({ version: 21801 }).buffer);
  assertEquals(view.getBigUint64(0, true), 96n);
  assertEquals(view.getUint32(8, true), 0xcafebeef);
  assertEquals(view.getUint32(12, true), 21801);
  for (const [field, offset] of Object.entries(ncclConfigOffsets).slice(3)) {
    if (field === "netName" || field === "commName") assertEquals(view.getBigUint64(offset, true), 0n, field);
    else assertEquals(view.getInt32(offset, true), -2147483648, field);
  }
  const set = new DataView(
    encodeNcclConfig({ version: 23007, blocking: true, minCTAs: 2, maxCTAs: 3, splitShare: false }).buffer,
  );
  assertEquals([set.getInt32(16, true), set.getInt32(24, true), set.getInt32(40, true)], [1, 2, 0]);
});

Deno.test("encodeNcclConfig() names the field and the value when a number does not fit", () => {
  assertThrows(() => encodeNcclConfig({ version: 0 }), RangeError, "version is an integer from 1 to 2147483647, not 0");
  assertThrows(() => encodeNcclConfig({ version: 23007, maxCTAs: 1.5 }), RangeError, "maxCTAs");
  assertThrows(() => encodeNcclConfig({ version: 23007, minCTAs: 2 }), RangeError, "minCTAs is at most maxCTAs");
  assertThrows(() => encodeNcclConfig({ version: 23007, minCTAs: 2, maxCTAs: 1 }), RangeError, "minCTAs");
});

Deno.test("encodeMemcpyAttributes() puts the order first and the flags last", () => {
  const view = new DataView(encodeMemcpyAttributes({ srcAccessOrder: 3, flags: 1 }).buffer);
  assertEquals([view.byteLength, view.getUint32(0, true), view.getUint32(20, true)], [24, 3, 1]);
});
