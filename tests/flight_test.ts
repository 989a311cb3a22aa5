import { assert, assertEquals } from "@std/assert";
import { compareFlights, type FlightEntry, FlightRecorder, type RedistribStep, SeqferryError } from "../mod.ts";
import { batchOf, Cluster } from "./cluster.ts";

function entry(fields: Partial<FlightEntry>): Omit<FlightEntry, "at"> {
  return { transfer: 1, stage: "phase", phase: 0, event: "enqueued", ...fields };
}

function recordOf(entries: readonly Partial<FlightEntry>[]): FlightEntry[] {
  const recorder = new FlightRecorder();
  for (const fields of entries) recorder.record(entry(fields));
  return recorder.entries();
}

Deno.test("FlightRecorder keeps the newest entries, oldest first", () => {
  const recorder = new FlightRecorder(3);
  for (let phase = 0; phase < 5; phase++) {
    recorder.record(entry({ phase }));
    assert(recorder.entries().length <= 3);
  }
  const entries = recorder.entries();
  assertEquals(entries.map(({ phase }) => phase), [2, 3, 4]);
  assert(entries[0]!.at <= entries[2]!.at);
});

Deno.test("compareFlights() tells who is missing, who is late, and who issued something else", () => {
  const agreed = { stage: "agreement", phase: -1 } as const;
  const { transfer, positions, differences, sentences } = compareFlights(
    new Map([
      [
        0,
        recordOf([{ transfer: 0 }, agreed, { ...agreed, event: "finished" }, { sends: [{ peer: 1, bytes: 100 }] }, {
          event: "finished",
        }]),
      ],
      [
        1,
        recordOf([agreed, { ...agreed, event: "finished" }, {
          receives: [{ peer: 0, bytes: 90 }],
          steps: [2],
          keys: ["tokens"],
        }]),
      ],
      [2, recordOf([{ transfer: 0 }])],
      [3, []],
    ]),
  );
  assertEquals(transfer, 1);
  assertEquals(positions.map(({ state }) => state), ["furthest", "late", "missing", "missing"]);
  assertEquals(differences, [{ phase: 0, from: 0, to: 1, sent: 100, received: 90 }]);
  assertEquals(sentences.length, 4);
  assert(
    sentences[0]!.includes("rank 1 is late: phase 0 is enqueued (steps 2; keys tokens; 0 bytes out, 90 in)"),
    sentences[0],
  );
});

Deno.test("compareFlights() goes by what has finished: phases are enqueued ahead", () => {
  const ahead = [{}, { phase: 1 }];
  const { positions } = compareFlights(
    new Map([[0, recordOf([...ahead, { phase: 0, event: "finished" }])], [1, recordOf(ahead)]]),
  );
  assertEquals(positions.map(({ state }) => state), ["furthest", "late"]);
});

Deno.test("compareFlights() names a receive without a send", () => {
  const { differences } = compareFlights(
    new Map([[0, recordOf([{}])], [1, recordOf([{ receives: [{ peer: 0, bytes: 8 }] }])]]),
  );
  assertEquals(differences, [{ phase: 0, from: 0, to: 1, sent: null, received: 8 }]);
});

Deno.test("an error of a transfer carries the flight record, and the records of all ranks name who is late", async () => {
  const batch = batchOf(["a"], { tokens: { dtype: "int64", trailingShape: [] } });
  const plan: RedistribStep[] = [
    { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["tokens"] },
    { commType: "bcast", root: 1, srcs: [1], dsts: [2], ids: ["a"], keys: ["tokens"] },
  ];
  await using cluster = await Cluster.open(3);
  cluster.managers[0]!.store(batch);
  const ends = await cluster.settle((manager, rank) =>
    manager.redistribute(batch.meta(), plan, {
      timeoutMs: 300,
      onProgress: ({ phase }) => {
        if (rank === 1 && phase === 0) throw new SeqferryError("rank 1 gives up");
      },
    })
  );
  const flights = new Map(
    ends.map((end, rank) => [rank, (end as PromiseRejectedResult).reason.flight as FlightEntry[]]),
  );
  const phase = flights.get(1)!.find(({ stage, event }) => stage === "phase" && event === "enqueued")!;
  assertEquals([phase.steps, phase.keys, phase.receives?.map(({ peer }) => peer)], [[0], ["tokens"], [0]]);
  const { positions, differences } = compareFlights(flights);
  // What rank 1 had enqueued before it gave up may have reached rank 2, which then is no later than rank 0.
  assertEquals(positions.slice(0, 2).map(({ state }) => state), ["furthest", "late"]);
  assertEquals(differences, []);
  assertEquals(positions[1]!.last?.event, "failed");
  assertEquals(cluster.managers[2]!.flight(), flights.get(2));
});
