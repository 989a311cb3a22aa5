import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import * as errors from "../../src/errors.ts";
import { decodeError, encodeError, RemoteError } from "../../src/service/wire_error.ts";
import { parseWireError } from "../../src/service/protocol.ts";

/** There and back, by way of JSON text. */
const travel = (error: unknown): Error => decodeError(parseWireError(JSON.parse(JSON.stringify(encodeError(error)))));

const facts = { phase: 2, outstanding: [1, 3], outcome: "unknown" } as const;
const all: readonly Error[] = [
  new errors.SeqferryError("plain"),
  new errors.CudaError("cudaMalloc", 2, "cudaErrorMemoryAllocation", "out of memory"),
  new errors.NcclError("ncclSend", 4, "ncclInvalidArgument", "invalid argument", "the last words"),
  new errors.LibraryNotFoundError("libnccl", ["/a", "/b"], "Install it."),
  new errors.LayoutError("bad dims", { field: "dims[1]", value: [0] }),
  new errors.SampleError("bad sample"),
  new errors.PlanError("bad plan", { place: "plan[0]", id: "a", key: "k", rank: 1 }),
  new errors.ManagerBusyError("busy"),
  new errors.ClosedError("closed"),
  new errors.RedistributeRefusedError([{ rank: 1, reason: "no such id", id: "a", key: "k" }]),
  new errors.VerificationError([{ rank: 0, reason: "differs" }]),
  new errors.DeadlineError("late", facts),
  new errors.PeerLostError("gone", { rank: 3, phase: 0, outcome: "unchanged" }),
];

for (const error of all) {
  Deno.test(`${error.name} crosses the wire with class, sentence and fields`, () => {
    const back = travel(error);
    assertEquals(back.constructor, error.constructor);
    assert(Error.isError(back));
    assertEquals(back.message, error.message);
    assertEquals(back.name, error.name);
    assertEquals({ ...back }, { ...encodeError(error).fields });
    for (const [field, value] of Object.entries(error)) {
      if (value !== undefined) assertEquals((back as unknown as Record<string, unknown>)[field], value, field);
    }
  });
}

Deno.test("every error class of seqferry is tried above", () => {
  assertEquals(all.map(({ name }) => name).sort(), Object.values(errors).map(({ name }) => name).sort());
});

Deno.test("causes cross the wire, too", () => {
  const back = travel(new errors.DeadlineError("late", facts, { cause: new errors.PlanError("root", { rank: 2 }) }));
  assertInstanceOf(back.cause, errors.PlanError);
  assertEquals(back.cause.rank, 2);
});

Deno.test("a chain of causes that closes on itself ends", () => {
  const error = new Error("round");
  error.cause = error;
  assertEquals(travel(error).message, "Error: round");
});

Deno.test("an error of another class arrives as a RemoteError that names it", () => {
  const back = travel(Object.assign(new SyntaxError("oops"), { at: 5n }));
  assertInstanceOf(back, RemoteError);
  assertEquals([back.remoteName, back.message, (back as unknown as { at: string }).at], [
    "SyntaxError",
    "SyntaxError: oops",
    "5",
  ]);
});

Deno.test("what is no error crosses the wire as its text", () => {
  assertEquals(travel("just words").message, "Error: just words");
});

Deno.test("fields of an error from elsewhere cannot take the place of what every error has", () => {
  const names = ["name", "message", "stack", "cause", "toString", "constructor", "hasOwnProperty", "__proto__"];
  const fields = JSON.parse(`{${names.map((name) => `"${name}": 1`).join(", ")}, "place": "plan[0]"}`);
  for (const [name, Class] of [["PlanError", errors.PlanError], ["Other", RemoteError]] as const) {
    const error = decodeError(parseWireError({ name, message: "bad plan", fields }));
    assertEquals([Error.isError(error), error.constructor, error.cause], [true, Class, undefined]);
    assert(error.message.endsWith("bad plan"));
    assert(`${error}`.endsWith("bad plan") && typeof error.stack === "string");
    assertEquals(Object.entries(error).find(([field]) => field === "place"), ["place", "plan[0]"]);
  }
});
