import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  CudaError,
  DeadlineError,
  type HostTensor,
  parseLayouts,
  type RedistribStep,
  RedistributeRefusedError,
  SampleError,
  SeqferryError,
  SequenceSample,
} from "../../mod.ts";
import { newToken } from "../../src/service/auth.ts";
import { Coordinator } from "../../src/service/coordinator.ts";
import type { Redistribute } from "../../src/service/messages.ts";
import type { WorkerClient } from "../../src/service/worker_client.ts";
import { within } from "../../src/wait.ts";
import { WorkerService } from "../../src/service/worker_service.ts";
import { native } from "../native.ts";

const TOKEN = newToken();

/** Two ids of two keys; `size` bytes each. */
function batch(size = 3): SequenceSample {
  const tensor = (from: number): HostTensor => ({
    dtype: "uint8",
    shape: [2 * size],
    bytes: Uint8Array.from({ length: 2 * size }, (_, i) => from + i),
  });
  return new SequenceSample({
    ids: ["a", "b"],
    keys: ["k", "l"],
    dtypes: { k: "uint8", l: "uint8" },
    trailingShapes: { k: [], l: [] },
    seqlens: { k: [[size], [1, size - 1]], l: [[size], [size]] },
    data: { k: tensor(0), l: tensor(100) },
    metadata: { line: [1, "zwei"] },
  });
}

const plan: readonly RedistribStep[] = [
  { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a", "b"], keys: ["k", "l"] },
];

/** Told to both ranks, it brings one tensor from rank 0 to rank 1. */
const bringA: Redistribute = {
  name: "redistribute",
  meta: batch().meta().toJSON(),
  plan: [{ comm_type: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }],
  verify: false,
  timeoutMs: 60_000,
};

function startWorkers({ url, worldSize }: Coordinator): Promise<WorkerService[]> {
  const options = { coordinator: new URL(url), backend: "cpu", rehearse: false, token: TOKEN } as const;
  return Promise.all(Array.from({ length: worldSize }, (_, rank) => WorkerService.start({ ...options, rank })));
}

/** Two ranks in this process, in one world. */
async function withWorld(
  test: (coordinator: Coordinator, clients: WorkerClient[], services: WorkerService[]) => Promise<void>,
): Promise<void> {
  await using coordinator = Coordinator.listen({ worldSize: 2, token: TOKEN, graceMs: 2000 });
  const services = await startWorkers(coordinator);
  try {
    await coordinator.start(parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2"), { timeoutMs: 20_000 });
    await test(coordinator, services.map((_, rank) => coordinator.worker(rank).samples), services);
  } finally {
    await Promise.all(services.map((service) => service.close("the test is over", true)));
  }
}

Deno.test("workers take samples over HTTP, redistribute, and give them back bit for bit", () =>
  withWorld(async (coordinator, [first, second]) => {
    const sample = batch();
    await first!.put(sample);
    assertEquals(await first!.holdings(), { ids: ["a", "b"], storageSize: 2 });
    assertEquals(await second!.holdings(), { ids: [], storageSize: 0 });
    const reports = await coordinator.redistribute(sample, plan, { timeoutMs: 20_000, verify: true });
    assertEquals(reports.map(({ installed }) => installed), [0, 4]);
    assertEquals((await second!.get(["a", "b"])).toSafetensors(), sample.toSafetensors());
    const part = await second!.get(["b"], ["l"]);
    assertEquals([part.ids, part.keys], [["b"], ["l"]]);
    assertEquals((part.data!.l as HostTensor).bytes, Uint8Array.of(103, 104, 105));
    assertEquals(part.metadata, { line: ["zwei"] });
  }));

Deno.test("a worker stores all of a batch or nothing", () =>
  withWorld(async (_, [first]) => {
    const [a] = batch().unpack();
    await first!.put(a!);
    await assertRejects(() => first!.put(batch()), SampleError, 'rank 0 holds the id "a" already');
    assertEquals((await first!.holdings()).ids, ["a"]);
  }));

Deno.test("a worker names the id that it does not hold, and refuses bytes that are no safetensors", () =>
  withWorld(async (coordinator, [first]) => {
    await assertRejects(() => first!.get(["nope"]), SampleError, 'rank 0 does not hold the id "nope"');
    await assertRejects(() => first!.get([]), SampleError, "at least one id");
    const response = await fetch(`${first!.url}/samples`, {
      method: "PUT",
      headers: { authorization: `Bearer ${TOKEN}` },
      body: "not safetensors",
    });
    assertEquals([response.status, (await response.json()).name], [400, "SampleError"]);
    await coordinator.worker(0).request({ name: "remove", ids: ["unknown"] });
  }));

Deno.test("a worker lets removed ids go", () =>
  withWorld(async (coordinator, [first]) => {
    await first!.put(batch());
    await coordinator.worker(0).request({ name: "remove", ids: ["a"] });
    assertEquals(await first!.holdings(), { ids: ["b"], storageSize: 1 });
  }));

Deno.test("a refusal comes with its fields through worker and coordinator", () =>
  withWorld(async (coordinator, [first]) => {
    await first!.put(batch().select(["k"]));
    const error = await assertRejects(() => coordinator.redistribute(batch(), plan), RedistributeRefusedError);
    assertEquals(error.refusals.map(({ rank, id, key }) => [rank, id, key]), [[0, "a", "l"], [0, "b", "l"]]);
    // Nothing has moved, and the world is whole.
    const reports = await coordinator.redistribute(batch().select(["k"]), [
      { ...plan[0]!, keys: ["k"] } as RedistribStep,
    ]);
    assertEquals(reports[1]!.installed, 2);
  }));

Deno.test("health and samples are answered in the middle of a transfer, which abort ends", () =>
  withWorld(async (coordinator, [first, second]) => {
    await first!.put(batch());
    // Rank 1 is never told to take part: rank 0 waits for it.
    const giveUp = new AbortController();
    const moving = coordinator.worker(0).request(bringA, { signal: giveUp.signal });
    moving.catch(() => {});
    let health = await first!.health();
    while (health.state !== "moving") health = await first!.health();
    assertEquals([health.rank, health.worldSize, health.storageSize, health.backend], [0, 2, 2, "cpu"]);
    await assertRejects(
      () => first!.put(new SequenceSample({ ...batch().unpack()[0]!, ids: ["c"] })),
      SeqferryError,
      "in the middle of a transfer",
    );
    giveUp.abort(new SeqferryError("enough"));
    const error = await assertRejects(() => moving, DeadlineError);
    assertEquals([error.outcome, (error.cause as Error).message], ["unchanged", "enough"]);
    assertEquals((await first!.health()).state, "failed");
    assertEquals((await first!.holdings()).ids, ["a", "b"]);
    assertEquals((await second!.health()).state, "ready");
  }));

Deno.test("a worker that is to give one request up goes on with the others", () =>
  withWorld(async (coordinator, [first, second]) => {
    await first!.put(batch());
    const giveUp = new AbortController();
    // Rank 0 waits for rank 1 with the first, and the other one waits for its turn.
    const moving = coordinator.worker(0).request(bringA);
    const next = coordinator.worker(0).request(bringA, { signal: giveUp.signal });
    next.catch(() => {});
    while ((await first!.health()).state !== "moving");
    giveUp.abort(new SeqferryError("enough"));
    await coordinator.worker(1).request(bringA);
    await moving;
    const error = await assertRejects(() => next, DeadlineError);
    assertEquals([error.outcome, (error.cause as Error).message], ["unchanged", "enough"]);
    assertEquals((await second!.holdings()).ids, ["a"]);
    // The world is whole.
    await coordinator.redistribute(batch(), plan);
  }));

Deno.test("ranks join and move without a deadline where the caller wants none", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 1, token: TOKEN });
  const [service] = await startWorkers(coordinator);
  await using _service = service!;
  await coordinator.start(null, { timeoutMs: Infinity });
  await coordinator.worker(0).samples.put(batch());
  const [report] = await coordinator.redistribute(batch(), [], { timeoutMs: Infinity });
  assertEquals(report!.installed, 0);
});

/** Two ranks in this process that have registered, and what goes wrong in libraries that they share. */
async function withRegistered(
  test: (coordinator: Coordinator, services: WorkerService[], fail: (rules: string) => void) => Promise<void>,
): Promise<void> {
  const fail = (rules: string) => {
    assertEquals(native.cpu!.seqferryCpuFaults(new TextEncoder().encode(`${rules}\0`)), 0);
  };
  await using coordinator = Coordinator.listen({ worldSize: 2, token: TOKEN, graceMs: 2000 });
  const services = await startWorkers(coordinator);
  try {
    await coordinator.registered();
    await test(coordinator, services, fail);
  } finally {
    fail("");
    await Promise.all(services.map((service) => service.close("the test is over", true)));
  }
}

Deno.test("workers that had joined a world that came to nothing join the next one", () =>
  withRegistered(async (coordinator, services, fail) => {
    fail("cudaMalloc@1:2=2");
    await assertRejects(() => coordinator.start(null, { timeoutMs: 20_000 }), CudaError, "was told to answer");
    fail("");
    await coordinator.start(null, { timeoutMs: 20_000 });
    const clients = services.map((_, rank) => coordinator.worker(rank).samples);
    for (const client of clients) assertEquals((await client.health()).state, "ready");
    await clients[0]!.put(batch());
    await coordinator.redistribute(batch(), plan, { timeoutMs: 20_000 });
    assertEquals((await clients[1]!.holdings()).ids, ["a", "b"]);
  }));

Deno.test("a worker does not leave a world in which it holds samples", () =>
  withRegistered(async (coordinator, _, fail) => {
    fail("cudaMalloc@1:2=2");
    await assertRejects(() => coordinator.start(null, { timeoutMs: 20_000 }), CudaError);
    fail("");
    const { samples } = coordinator.worker(0);
    await samples.put(batch());
    const words = "rank 0 holds 2 ids in the world that it is in: remove them before it joins another";
    await assertRejects(() => coordinator.start(null, { timeoutMs: 20_000 }), SeqferryError, words);
    assertEquals((await samples.get(["a", "b"])).toSafetensors(), batch().toSafetensors());
    await coordinator.worker(0).request({ name: "remove", ids: ["a", "b"] });
    await coordinator.start(null, { timeoutMs: 20_000 });
  }));

Deno.test("a worker that closes takes no command more, and all who close it wait for the same end", () =>
  withWorld(async (coordinator, [first], services) => {
    await first!.put(batch());
    const [service] = services;
    let ended = false;
    const closing = service!.close("it is enough", true).then(() => ended = true);
    const error = await assertRejects(() => coordinator.worker(0).request(bringA), SeqferryError);
    assert(/is closing|is gone/.test(error.message), error.message);
    await service!.close("once more", false);
    assert(ended);
    await closing;
    assertEquals(await service!.ended, { orderly: true, reason: "it is enough" });
  }));

Deno.test("a worker ends within its grace, and with it the connections of clients that do not finish", () =>
  withWorld(async (_, [first], services) => {
    const { hostname, port } = new URL(first!.url);
    using connection = await Deno.connect({ hostname, port: Number(port) });
    const head = `PUT /samples HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: 10\r\n\r\nabc`;
    await connection.write(new TextEncoder().encode(head));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const began = performance.now();
    await services[0]!.close("it is enough", true);
    assert(performance.now() - began < 4000);
    await connection.read(new Uint8Array(1024)).catch(() => {});
  }));

Deno.test("a worker shows nothing to who does not know the token", () =>
  withWorld(async (_, [first]) => {
    for (const path of ["/health", "/samples", "/nope"]) {
      const response = await fetch(first!.url + path, { headers: { authorization: "Bearer wrong" } });
      await response.body?.cancel();
      assertEquals(response.status, 401);
    }
  }));

Deno.test("workers end in order when the coordinator shuts down", () =>
  withWorld(async (coordinator, _, services) => {
    await coordinator.shutdown();
    const ends = await Promise.all(services.map(({ ended }) => ended));
    assertEquals(ends, [0, 1].map(() => ({ orderly: true, reason: "the coordinator said so" })));
  }));

Deno.test("workers end by themselves when the coordinator is gone", () =>
  withWorld(async (coordinator, _, services) => {
    await coordinator[Symbol.asyncDispose]();
    for (const { ended } of services) {
      const { orderly, reason } = await ended;
      assert(!orderly);
      assert(reason.startsWith(`the coordinator at ${coordinator.url} is gone`), reason);
    }
  }));

Deno.test("a worker ends when there is no coordinator", async () => {
  const service = await WorkerService.start({
    coordinator: new URL("http://127.0.0.1:9"),
    rank: 0,
    backend: "cpu",
    token: TOKEN,
  });
  assertEquals((await service.ended).orderly, false);
});

Deno.test("a worker ends when its coordinator accepts the connection and says nothing", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept();
  const service = await WorkerService.start({
    coordinator: new URL(`http://127.0.0.1:${listener.addr.port}`),
    rank: 0,
    backend: "cpu",
    token: TOKEN,
    silenceMs: 200,
  });
  using _connection = await accepting;
  const { orderly, reason } = await service.ended;
  assertEquals(orderly, false);
  assert(reason.endsWith("is gone: it said nothing for 0.2 s"), reason);
});

Deno.test("a worker lives while its coordinator says that it is there, and ends when that stops", async () => {
  for (const pingMs of [50, 60_000]) {
    await using coordinator = Coordinator.listen({ worldSize: 1, token: TOKEN, pingMs });
    await using service = await WorkerService.start({
      coordinator: new URL(coordinator.url),
      rank: 0,
      backend: "cpu",
      token: TOKEN,
      silenceMs: 500,
    });
    await coordinator.registered();
    const ended = await within(1500, service.ended);
    assertEquals(ended?.orderly, pingMs === 50 ? undefined : false);
  }
});

Deno.test("WorkerService.start() needs a token where other machines can reach it", async () => {
  const coordinator = new URL("http://127.0.0.1:9");
  await assertRejects(
    () => WorkerService.start({ coordinator, rank: 0, backend: "cpu", hostname: "0.0.0.0", token: null }),
    SeqferryError,
    "needs a token",
  );
});
