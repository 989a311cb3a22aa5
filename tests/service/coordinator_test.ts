import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import {
  DeadlineError,
  parseLayouts,
  PeerLostError,
  RedistributeRefusedError,
  SeqferryError,
  SequenceSample,
} from "../../mod.ts";
import { bearer, newToken } from "../../src/service/auth.ts";
import { ControlSocket } from "../../src/service/control_socket.ts";
import { Coordinator } from "../../src/service/coordinator.ts";
import type { Register, Request, ToCoordinator, WorkerCommand } from "../../src/service/messages.ts";
import { parseToWorker } from "../../src/service/protocol.ts";
import { RemoteWorker } from "../../src/service/remote_worker.ts";
import { encodeError } from "../../src/service/wire_error.ts";
import { eventually } from "../processes.ts";

const TOKEN = newToken();

/** What a scripted worker does with a command: answers with a value or an error, at once or later, or (undefined) never. */
type Script = (command: WorkerCommand, send: (progress: { bytes: number; totalBytes: number }) => void) => unknown;

/** A worker that speaks the protocol and moves nothing. */
class ScriptedWorker {
  readonly requests: Request[] = [];
  pings = 0;
  readonly closed = Promise.withResolvers<string>();
  readonly refused = Promise.withResolvers<string>();
  readonly control: ControlSocket;

  constructor(url: string, rank: number, script: Script, change: Partial<Register> = {}) {
    const target = new URL("/control", url.replace("http:", "ws:"));
    const socket = new WebSocket(target, { headers: bearer(TOKEN) });
    const send = (message: ToCoordinator) => this.control.send(message);
    this.control = new ControlSocket(socket, {
      message: (json) => {
        const message = parseToWorker(json);
        if (message.type === "ping") {
          this.pings++;
          return;
        }
        if (message.type === "refused") return this.refused.resolve(message.reason);
        this.requests.push(message);
        const { id, command } = message;
        const answer = (result: unknown) => {
          if (result instanceof Error) send({ type: "error", id, error: encodeError(result) });
          else if (result !== undefined) send({ type: "result", id, result });
        };
        const result = script(
          command,
          (progress) => send({ type: "progress", id, ...progress, phase: 0, phases: 1 }),
        );
        if (result instanceof Promise) void result.then(answer);
        else answer(result);
      },
      closed: (reason) => this.closed.resolve(reason),
    });
    socket.onopen = () =>
      send({
        type: "register",
        protocol: 2,
        rank,
        hostname: "127.0.0.1",
        port: 1,
        pid: 1,
        backend: "cpu",
        device: 0,
        cudart: { path: "a", version: 1 },
        nccl: { path: "a", version: 1 },
        ...change,
      });
  }

  /** What it was told to do so far. */
  get commands(): WorkerCommand[] {
    return this.requests.map(({ command }) => command);
  }

  /** The requests that it was told to give up. */
  get givenUp(): Request[] {
    return this.commands.filter((command) => command.name === "abort").map(({ of }) =>
      this.requests.find(({ id }) => id === of)!
    );
  }
}

const report = {
  transferId: "t",
  phases: 1,
  bytesSent: 1,
  bytesReceived: 2,
  referenceBytesSent: 3,
  referenceBytesReceived: 4,
  seconds: 0.5,
  installed: 1,
};

const obedient: Script = ({ name }) => name === "createUniqueId" ? "AAAA" : name === "redistribute" ? report : null;

const meta = new SequenceSample({
  ids: ["a"],
  keys: ["k"],
  dtypes: { k: "uint8" },
  trailingShapes: { k: [] },
  seqlens: { k: [[1]] },
});

/** Runs a test with a coordinator, and waits until all connections have closed. */
async function withWorkers(
  scripts: readonly Script[],
  test: (coordinator: Coordinator, workers: ScriptedWorker[]) => Promise<void>,
): Promise<void> {
  const coordinator = Coordinator.listen({ worldSize: scripts.length, token: TOKEN, graceMs: 300 });
  const workers = scripts.map((script, rank) => new ScriptedWorker(coordinator.url, rank, script));
  try {
    await test(coordinator, workers);
  } finally {
    await coordinator[Symbol.asyncDispose]();
    await Promise.all(workers.map(({ closed }) => closed.promise));
  }
}

Deno.test("Coordinator.start() has rank 0 make the unique id, and gives it to all with size and layout", async () => {
  const layout = parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2");
  await withWorkers([obedient, obedient], async (coordinator, workers) => {
    await coordinator.start(layout);
    assertEquals(workers.map(({ commands }) => commands.map(({ name }) => name)), [
      ["createUniqueId", "init", "setupProcessGroups"],
      ["init", "setupProcessGroups"],
    ]);
    for (const { commands } of workers) {
      const init = commands.find((command) => command.name === "init")!;
      assertEquals([init.worldSize, init.uniqueId, init.layout], [2, "AAAA", layout.toJSON()]);
    }
  });
});

Deno.test("Coordinator.redistribute() gives all ranks the same plan, and adds their progress up", async () => {
  const script: Script = (command, send) => {
    if (command.name === "redistribute") send({ bytes: 1, totalBytes: 4 });
    return obedient(command, send);
  };
  await withWorkers([script, script], async (coordinator, workers) => {
    await coordinator.start(null);
    const seen: unknown[] = [];
    const plan = [{ commType: "bcast" as const, root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }];
    const reports = await coordinator.redistribute(meta, plan, { onProgress: (done) => seen.push(done) });
    assertEquals<unknown>(reports, [report, report]);
    assertEquals(seen, [{ bytes: 1, totalBytes: 4 }, { bytes: 2, totalBytes: 8 }]);
    const [first, second] = workers.map(({ commands }) => commands.at(-1)!);
    assertEquals({ ...first, timeoutMs: 0 }, { ...second, timeoutMs: 0 });
    assert(first!.name === "redistribute");
    assertEquals(first!.plan, [{ comm_type: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }]);
  });
});

Deno.test("Coordinator raises a refusal of all ranks with its fields", async () => {
  const refusing: Script = (command, send) =>
    command.name === "redistribute"
      ? new RedistributeRefusedError([{ rank: 1, reason: "no such id", id: "a", key: "k" }])
      : obedient(command, send);
  await withWorkers([refusing, refusing], async (coordinator) => {
    await coordinator.start(null);
    const error = await assertRejects(() => coordinator.redistribute(meta, []), RedistributeRefusedError);
    assertEquals(error.refusals, [{ rank: 1, reason: "no such id", id: "a", key: "k" }]);
  });
});

Deno.test("Coordinator has the others give up at once when a worker is lost, and names it", async () => {
  const waiting: Script = (command, send) => {
    if (command.name === "redistribute") return undefined;
    return obedient(command, send);
  };
  await withWorkers([waiting, waiting, waiting], async (coordinator, workers) => {
    await coordinator.start(null);
    const moving = coordinator.redistribute(meta, []);
    moving.catch(() => {});
    while (workers.some(({ commands }) => commands.at(-1)!.name !== "redistribute")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const began = performance.now();
    workers[1]!.control.close("it fell over");
    while (!workers[0]!.commands.some(({ name }) => name === "abort")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert(performance.now() - began < 1000);
    // The scripted workers never answer: they are not waited for beyond a grace.
    const error = await assertRejects(() => moving, PeerLostError, "the worker of rank 1 is gone");
    assertEquals(error.rank, 1);
    await assertRejects(() => coordinator.worker(1).request({ name: "shutdown" }), PeerLostError);
  });
});

Deno.test("Coordinator names the worker that does not answer, at its own deadline and a little", async () => {
  const mute: Script = (command, send) => {
    if (command.name === "redistribute" || command.name === "abort") return undefined;
    return obedient(command, send);
  };
  await withWorkers([obedient, mute], async (coordinator) => {
    await coordinator.start(null);
    const error = await assertRejects(() => coordinator.redistribute(meta, [], { timeoutMs: 50 }), DeadlineError);
    assertEquals([error.outstanding, error.outcome], [[1], "unknown"]);
    assert(error.message.startsWith("the transfer: the worker of rank 1 does not answer"), error.message);
  });
});

Deno.test("Coordinator has nobody give up what all have answered, and else names the request", async () => {
  let mute = false;
  const refusing: Script = (command, send) =>
    command.name === "redistribute"
      ? new RedistributeRefusedError([{ rank: 0, reason: "no such id" }])
      : obedient(command, send);
  const other: Script = (command, send) =>
    mute && command.name === "redistribute" ? undefined : refusing(command, send);
  await withWorkers([refusing, other], async (coordinator, workers) => {
    await coordinator.start(null);
    await assertRejects(() => coordinator.redistribute(meta, []), RedistributeRefusedError);
    assertEquals(workers.map(({ givenUp }) => givenUp.length), [0, 0]);
    mute = true;
    await assertRejects(
      () => coordinator.redistribute(meta, []),
      DeadlineError,
      "the worker of rank 1 does not answer",
    );
    const asked = workers[1]!.requests.filter(({ command }) => command.name === "redistribute");
    assertEquals(workers.map(({ givenUp }) => givenUp), [[], [asked[1]!]]);
  });
});

Deno.test("Coordinator sends the longest time that JSON has where its caller wants none", async () => {
  await withWorkers([obedient], async (coordinator, workers) => {
    await coordinator.start(null, { timeoutMs: Infinity });
    await coordinator.redistribute(meta, [], { timeoutMs: Infinity });
    const times = workers[0]!.commands.flatMap((command) => "timeoutMs" in command ? [command.timeoutMs] : []);
    assertEquals(times, [1, 2, 3].map(() => Number.MAX_SAFE_INTEGER));
  });
});

Deno.test("Coordinator.start() ends by its signal and its deadline while rank 0 makes the unique id", async () => {
  const mute: Script = (command, send) => command.name === "createUniqueId" ? undefined : obedient(command, send);
  await withWorkers([mute, obedient], async (coordinator, workers) => {
    await coordinator.registered();
    const began = performance.now();
    const signal = AbortSignal.timeout(50);
    const error = await assertRejects(() => coordinator.start(null, { signal }), DeadlineError, "making the unique id");
    assert(performance.now() - began < 1000);
    assertEquals([error.outstanding, error.cause], [[0], signal.reason]);
    assertEquals(workers[0]!.givenUp.map(({ command }) => command), [{ name: "createUniqueId" }]);
    const late = await assertRejects(() => coordinator.start(null, { timeoutMs: 50 }), DeadlineError);
    assertEquals([late.outstanding, workers[1]!.commands], [[0], []]);
  });
});

Deno.test("what onProgress throws comes out of that redistribution alone", async () => {
  const script: Script = (command, send) => {
    if (command.name === "redistribute") { for (const bytes of [1, 4]) send({ bytes, totalBytes: 4 }); }
    return obedient(command, send);
  };
  await withWorkers([script, script], async (coordinator, workers) => {
    await coordinator.start(null);
    let told = 0;
    const onProgress = () => {
      told++;
      throw new Error("no place to draw");
    };
    await assertRejects(() => coordinator.redistribute(meta, [], { onProgress }), Error, "no place to draw");
    assertEquals([told, workers.map(({ givenUp }) => givenUp)], [2, [[], []]]);
    assertEquals<unknown>(await coordinator.redistribute(meta, []), [report, report]);
  });
});

/** A worker that has a transfer under way until it is told to give up, and then answers as told. */
function busy(answer: unknown): Script {
  const given = Promise.withResolvers<unknown>();
  return (command, send) => {
    if (command.name === "redistribute") return given.promise;
    if (command.name === "abort") given.resolve(answer);
    return obedient(command, send);
  };
}

const gaveUp = (outcome: "unchanged" | "unknown") =>
  new DeadlineError("it gave up", { phase: 0, outstanding: [], outcome });
const signalled: readonly (readonly [answers: readonly unknown[], outcome: string, outstanding: number[]])[] = [
  [[gaveUp("unchanged"), gaveUp("unchanged")], "unchanged", []],
  [[gaveUp("unchanged"), gaveUp("unknown")], "unknown", []],
  [[gaveUp("unchanged"), undefined], "unknown", [1]],
];
for (const [answers, outcome, outstanding] of signalled) {
  const told = answers.map((answer) => answer instanceof DeadlineError ? answer.outcome : "nothing").join(" and ");
  Deno.test(`Coordinator passes its caller's AbortSignal on, and merges that the ranks say ${told}`, async () => {
    await withWorkers(answers.map(busy), async (coordinator, workers) => {
      await coordinator.start(null);
      const controller = new AbortController();
      const moving = coordinator.redistribute(meta, [], { signal: controller.signal });
      controller.abort(new SeqferryError("enough"));
      const error = await assertRejects(() => moving, DeadlineError, "the transfer was given up: enough");
      assertEquals([error.outcome, error.outstanding, error.cause], [outcome, outstanding, controller.signal.reason]);
      for (const { givenUp } of workers) assertEquals(givenUp.map(({ command }) => command.name), ["redistribute"]);
    });
  });
}

Deno.test("Coordinator returns the reports where all ranks had moved when the signal fired", async () => {
  await withWorkers([busy(report), busy(report)], async (coordinator) => {
    await coordinator.start(null);
    const signal = AbortSignal.timeout(20);
    assertEquals<unknown>(await coordinator.redistribute(meta, [], { signal }), [report, report]);
  });
});

Deno.test("Coordinator sends nothing where the signal has fired before", async () => {
  await withWorkers([obedient], async (coordinator, workers) => {
    await coordinator.start(null);
    const before = workers[0]!.requests.length;
    const signal = AbortSignal.abort(new SeqferryError("enough"));
    const error = await assertRejects(() => coordinator.redistribute(meta, [], { signal }), DeadlineError);
    assertEquals([error.outcome, error.cause, workers[0]!.requests.length], ["unchanged", signal.reason, before]);
  });
});

Deno.test("a command that is too long to be sent is refused, and the connection goes on", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const worker = new RemoteWorker({ rank: 0 } as Register, "http://127.0.0.1:1", null, (message) => {
    if (message.type === "request" && message.command.name === "remove") throw new SeqferryError("too long");
    resolve(message.type);
  });
  await assertRejects(() => worker.request({ name: "remove", ids: ["a"] }), SeqferryError, "too long");
  const next = worker.request({ name: "shutdown" });
  assertEquals(await promise, "request");
  worker.receive({ type: "result", id: 1, result: null });
  assertEquals(await next, null);
});

Deno.test("Coordinator.registered() names the ranks that are missing at its deadline", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 3, token: TOKEN });
  const worker = new ScriptedWorker(coordinator.url, 1, obedient);
  await assertRejects(
    () => coordinator.registered({ timeoutMs: 500 }),
    SeqferryError,
    "within 500 ms no worker registered for rank 0, 2",
  );
  worker.control.close();
  await worker.closed.promise;
});

Deno.test("a worker that is lost before the world starts leaves its rank to another", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 2, token: TOKEN, graceMs: 300 });
  const [lost, other] = [0, 1].map((rank) => new ScriptedWorker(coordinator.url, rank, obedient));
  await coordinator.registered();
  lost!.control.close("it fell over");
  await lost!.closed.promise;
  await eventually("its loss", () => coordinator.missingRanks().length > 0);
  const response = await fetch(coordinator.url + "/health", { headers: bearer(TOKEN) });
  assertEquals(await response.json(), { worldSize: 2, missingRanks: [0] });
  await assertRejects(() => coordinator.registered({ timeoutMs: 50 }), SeqferryError, "registered for rank 0");
  assertThrows(() => coordinator.worker(0), SeqferryError, "no worker of rank 0");
  const again = new ScriptedWorker(coordinator.url, 0, obedient);
  await coordinator.start(null);
  assertEquals(again.commands.map(({ name }) => name), ["createUniqueId", "init", "setupProcessGroups"]);
  // From now on its rank is not taken by a worker that has no part in this world.
  again.control.close("it fell over, too");
  await again.closed.promise;
  const late = new ScriptedWorker(coordinator.url, 0, obedient);
  assertEquals(await late.refused.promise, "there is a worker of rank 0 already");
  await assertRejects(() => coordinator.redistribute(meta, []), PeerLostError);
  await coordinator[Symbol.asyncDispose]();
  for (const worker of [other!, late]) await worker.closed.promise;
});

Deno.test("Coordinator.start() can be called again after a failure, and not after a success", async () => {
  let failing = true;
  const script: Script = (command, send) =>
    command.name === "init" && failing ? new SeqferryError("not yet") : obedient(command, send);
  await withWorkers([obedient, script], async (coordinator, workers) => {
    await assertRejects(() => coordinator.start(null), SeqferryError, "not yet");
    failing = false;
    await coordinator.start(null);
    await assertRejects(() => coordinator.start(null), SeqferryError, "the world has started already");
    assertEquals(workers[1]!.commands.map(({ name }) => name), ["init", "init", "setupProcessGroups"]);
  });
});

Deno.test("Coordinator tells its workers again and again that it is there", async () => {
  const coordinator = Coordinator.listen({ worldSize: 1, token: TOKEN, pingMs: 20 });
  const worker = new ScriptedWorker(coordinator.url, 0, obedient);
  await eventually("some pings", () => worker.pings > 2);
  await coordinator[Symbol.asyncDispose]();
  await worker.closed.promise;
});

Deno.test("Coordinator answers an upgrade that is none with 400", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 1, token: null });
  const { hostname, port } = new URL(coordinator.url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const request = "GET /control HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n";
  await connection.write(new TextEncoder().encode(request));
  const buffer = new Uint8Array(1024);
  const count = await connection.read(buffer);
  const answer = new TextDecoder().decode(buffer.subarray(0, count!));
  assert(answer.startsWith("HTTP/1.1 400 ") && answer.includes("no request for a WebSocket"), answer);
});

Deno.test("Coordinator ends within its grace whatever a client does that does not know the token", async () => {
  const coordinator = Coordinator.listen({ worldSize: 1, token: TOKEN, graceMs: 300 });
  const { hostname, port } = new URL(coordinator.url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"));
  await connection.read(new Uint8Array(1024));
  const began = performance.now();
  await coordinator[Symbol.asyncDispose]();
  assert(performance.now() - began < 2000);
});

Deno.test("Coordinator refuses ranks beyond the world, ranks that are there, and other protocols", async () => {
  await withWorkers([obedient], async (coordinator) => {
    await coordinator.registered();
    const beyond = new ScriptedWorker(coordinator.url, 1, obedient);
    assertEquals(await beyond.refused.promise, "its rank is 1, and there are 1 ranks");
    const twice = new ScriptedWorker(coordinator.url, 0, obedient);
    assertEquals(await twice.refused.promise, "there is a worker of rank 0 already");
    const other = new ScriptedWorker(coordinator.url, 0, obedient, { protocol: 1 as 2 });
    assert((await other.closed.promise).includes("another protocol"));
    for (const worker of [beyond, twice]) await worker.closed.promise;
  });
});

Deno.test("Coordinator turns away who does not show the token", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 1, token: TOKEN });
  for (const path of ["/control", "/health", "/"]) {
    const response = await fetch(coordinator.url + path);
    await response.body?.cancel();
    assertEquals(response.status, 401);
  }
  const response = await fetch(coordinator.url + "/health", { headers: bearer(TOKEN) });
  assertEquals(await response.json(), { worldSize: 1, missingRanks: [0] });
  const plain = await fetch(coordinator.url + "/control", { headers: bearer(TOKEN) });
  await plain.body?.cancel();
  assertEquals(plain.status, 426);
});

Deno.test("Coordinator.listen() needs a token where other machines can reach it", () => {
  const error = assertThrows(() => Coordinator.listen({ worldSize: 1, hostname: "0.0.0.0", token: null }));
  assertInstanceOf(error, SeqferryError);
});

Deno.test("Coordinator.registered() waits for ever where it is told so", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 1, token: null });
  for (const timeoutMs of [Infinity, 2 ** 40]) {
    const signal = AbortSignal.timeout(50);
    const error = await coordinator.registered({ timeoutMs, signal }).catch((error) => error);
    assertEquals(error.name, "TimeoutError", `${error}`);
  }
});
