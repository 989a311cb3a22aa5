import { assertEquals, assertThrows } from "@std/assert";
import {
  parseHealth,
  parseHoldings,
  parseReport,
  parseSampleRequest,
  parseToCoordinator,
  parseToWorker,
  parseUniqueId,
  ProtocolError,
} from "../../src/service/protocol.ts";

const registration = {
  type: "register",
  protocol: 2,
  rank: 3,
  hostname: null,
  port: 4000,
  pid: 17,
  backend: "cpu",
  device: 0,
  cudart: { path: "/lib/a.so", version: 13000 },
  nccl: { path: "/lib/a.so", version: 23007 },
};
const error = {
  name: "PlanError",
  message: "m",
  fields: { place: "plan[0]" },
  cause: { name: "E", message: "c", fields: {} },
};

const toCoordinator = [
  registration,
  { type: "result", id: 0, result: { any: ["thing"] } },
  { type: "error", id: 1, error },
  { type: "progress", id: 1, bytes: 5, totalBytes: 10, phase: 0, phases: 2 },
];
const commands = [
  { name: "createUniqueId" },
  { name: "init", worldSize: 2, uniqueId: "AAAA", layout: null, timeoutMs: 5.5 },
  { name: "setupProcessGroups", timeoutMs: 5 },
  { name: "redistribute", meta: {}, plan: [{}], verify: false, timeoutMs: 5 },
  { name: "remove", ids: ["a"] },
  { name: "abort", of: 7, reason: error },
  { name: "shutdown" },
];

for (const message of toCoordinator) {
  Deno.test(`parseToCoordinator() takes a message of type ${message.type}`, () => {
    assertEquals<unknown>(parseToCoordinator(message), message);
  });
}
for (const command of commands) {
  Deno.test(`parseToWorker() takes the command ${command.name}`, () => {
    const message = { type: "request", id: 9, command };
    assertEquals<unknown>(parseToWorker(message), message);
  });
}

Deno.test("parseToWorker() takes a refusal and a ping", () => {
  assertEquals<unknown>(parseToWorker({ type: "ping" }), { type: "ping" });
  assertEquals<unknown>(parseToWorker({ type: "refused", reason: "no" }), { type: "refused", reason: "no" });
});

const badToCoordinator: readonly (readonly [unknown, string])[] = [
  [null, "a message to the coordinator is not valid"],
  [{ type: "hello" }, "at type"],
  [{ ...registration, rank: -1 }, "at rank"],
  [{ ...registration, rank: 1.5 }, "at rank"],
  [{ ...registration, port: 65536 }, "at port"],
  [{ ...registration, backend: "tpu" }, "at backend"],
  [{ ...registration, cudart: { path: "x" } }, "at cudart.version"],
  [{ ...registration, extra: 1 }, "at extra"],
  [{ ...registration, protocol: 1 }, "the worker speaks another protocol than version 2"],
  [{ type: "error", id: 1, error: { name: "E" } }, "at error.message"],
  [{ type: "progress", id: 1, bytes: "5", totalBytes: 10, phase: 0, phases: 2 }, "at bytes"],
];
for (const [json, text] of badToCoordinator) {
  Deno.test(`parseToCoordinator() refuses ${JSON.stringify(json).slice(0, 80)} with "${text}"`, () => {
    assertThrows(() => parseToCoordinator(json), ProtocolError, text);
  });
}

for (const command of commands) {
  for (const field of Object.keys(command)) {
    if (field === "layout" || field === "meta") continue;
    Deno.test(`parseToWorker() refuses ${command.name} without ${field}`, () => {
      const { [field]: _, ...rest } = command as Record<string, unknown>;
      assertThrows(() => parseToWorker({ type: "request", id: 0, command: rest }), ProtocolError, field);
    });
  }
}

Deno.test("bodies and results are checked, too", () => {
  assertEquals(parseUniqueId("AAAA"), "AAAA");
  assertThrows(() => parseUniqueId("not base64!"), ProtocolError);
  assertEquals(parseHoldings({ ids: ["a"], storageSize: 1 }).ids, ["a"]);
  assertThrows(() => parseHoldings({ ids: "a", storageSize: 1 }), ProtocolError, "at ids");
  assertEquals(parseSampleRequest({ ids: ["a"] }), { ids: ["a"] });
  assertThrows(() => parseSampleRequest({ ids: ["a"], keys: [1] }), ProtocolError, "at keys.0");
  assertThrows(() => parseHealth({ rank: 0 }), ProtocolError);
  assertThrows(() => parseReport({ transferId: "t" }), ProtocolError);
});
