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
import type { Register, ToCoordinator, WorkerCommand } from "../../src/service/messages.ts";
import { parseToWorker } from "../../src/service/protocol.ts";
import { encodeError } from "../../src/service/wire_error.ts";

const TOKEN = newToken();

/** What a scripted worker does with a command: answers with a value, or with an error, or (undefined) not at all. */
type Script = (command: WorkerCommand, send: (progress: { bytes: number; totalBytes: number }) => void) => unknown;

/** A worker that speaks the protocol and moves nothing. */
class ScriptedWorker {
  readonly commands: WorkerCommand[] = [];
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
        if (message.type === "refused") return this.refused.resolve(message.reason);
        const { id, command } = message;
        this.commands.push(command);
        const result = script(
          command,
          (progress) => send({ type: "progress", id, ...progress, phase: 0, phases: 1 }),
        );
        if (result instanceof Error) send({ type: "error", id, error: encodeError(result) });
        else if (result !== undefined) send({ type: "result", id, result });
      },
      closed: (reason) => this.closed.resolve(reason),
    });
    socket.onopen = () =>
      send({
        type: "register",
        protocol: 1,
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

Deno.test("Coordinator passes its caller's AbortSignal on", async () => {
  const waiting: Script = (command, send) => {
    if (command.name === "redistribute") return undefined;
    return obedient(command, send);
  };
  await withWorkers([waiting], async (coordinator, workers) => {
    await coordinator.start(null);
    const controller = new AbortController();
    const moving = coordinator.redistribute(meta, [], { signal: controller.signal });
    controller.abort(new SeqferryError("enough"));
    await assertRejects(() => moving, SeqferryError, "enough");
    assert(workers[0]!.commands.some(({ name }) => name === "abort"));
  });
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

Deno.test("Coordinator refuses ranks beyond the world, ranks that are there, and other protocols", async () => {
  await withWorkers([obedient], async (coordinator) => {
    await coordinator.registered();
    const beyond = new ScriptedWorker(coordinator.url, 1, obedient);
    assertEquals(await beyond.refused.promise, "its rank is 1, and there are 1 ranks");
    const twice = new ScriptedWorker(coordinator.url, 0, obedient);
    assertEquals(await twice.refused.promise, "there is a worker of rank 0 already");
    const other = new ScriptedWorker(coordinator.url, 0, obedient, { protocol: 2 as 1 });
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
