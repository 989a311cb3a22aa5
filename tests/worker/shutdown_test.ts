import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type RedistribStep, SequenceSample } from "../../mod.ts";
import { newToken } from "../../src/service/auth.ts";
import { Coordinator } from "../../src/service/coordinator.ts";
import { batchOf } from "../cluster.ts";
import { native } from "../native.ts";
import { childrenOf, eventually, isAlive } from "../processes.ts";

const WORKER = new URL("../../src/worker.ts", import.meta.url).href;
/** Launchers kill after 30 s; a worker takes a tenth of that. */
const GRACE_MS = 4_000;

/** Workers in processes of their own, with a coordinator in this one. */
class World implements AsyncDisposable {
  readonly coordinator: Coordinator;
  readonly workers: Deno.ChildProcess[];
  readonly token = newToken();

  constructor(worldSize: number, started: number, env: Record<string, string> = {}) {
    this.coordinator = Coordinator.listen({ worldSize, token: this.token, graceMs: 500 });
    this.workers = Array.from({ length: started }, (_, rank) =>
      new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--quiet",
          WORKER,
          "--coordinator",
          this.coordinator.url,
          "--rank",
          `${rank}`,
          "--backend",
          "cpu",
        ],
        env: { NO_COLOR: "1", SEQFERRY_TOKEN: this.token, SEQFERRY_CPU_LIBRARY: native.cudart.path, ...env },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      }).spawn());
  }

  /** Sends SIGTERM to a worker, and sees to it that it ends within the grace. Answers its exit code and last words. */
  async end(rank: number): Promise<{ code: number; words: string }> {
    const began = performance.now();
    const worker = this.workers[rank]!;
    worker.kill("SIGTERM");
    const { code, signal, stderr } = await worker.output();
    const ms = performance.now() - began;
    assert(signal === null && ms < GRACE_MS, `it ended by ${signal} after ${ms} ms`);
    return { code, words: new TextDecoder().decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.workers) {
      try {
        worker.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
    }
    await Promise.all(this.workers.map(async (worker) => {
      await worker.status;
      await worker.stdout.cancel().catch(() => {});
      await worker.stderr.cancel().catch(() => {});
    }));
    await this.coordinator[Symbol.asyncDispose]();
  }
}

const batch = batchOf(["a", "b"], { hidden: { dtype: "float32", trailingShape: [30_000] } });
const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a", "b"], keys: ["hidden"] }];

Deno.test("SIGTERM ends a worker that waits for the others to register", async () => {
  await using world = new World(2, 1);
  await eventually("its registration", () => world.coordinator.missingRanks().length === 1);
  assertEquals(await world.end(0), { code: 0, words: "" });
});

Deno.test("SIGTERM ends a worker in the middle of joining a peer that is stopped", async () => {
  await using world = new World(2, 2);
  await world.coordinator.registered({ timeoutMs: 30_000 });
  world.workers[1]!.kill("SIGSTOP");
  const starting = world.coordinator.start(null, { timeoutMs: 30_000 }).catch((error) => error);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { code, words } = await world.end(0);
  assertEquals(code, 1);
  assertStringIncludes(words, "worker of rank 0: it got SIGTERM");
  assert(await starting instanceof Error);
});

Deno.test("SIGTERM ends a worker in the middle of a transfer whose peer is stopped", async () => {
  await using world = new World(2, 2);
  await world.coordinator.start(null, { timeoutMs: 30_000 });
  await world.coordinator.worker(0).samples.put(batch);
  world.workers[1]!.kill("SIGSTOP");
  const moving = world.coordinator.redistribute(batch.meta(), plan, { timeoutMs: 30_000 }).catch((error) => error);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { code, words } = await world.end(0);
  assertEquals(code, 1);
  assertStringIncludes(words, "worker of rank 0: it got SIGTERM");
  // The one that ended gave up; the one that is stopped does not answer.
  const error = await moving;
  assertEquals([error.name, error.outstanding], ["DeadlineError", [1]]);
});

Deno.test("SIGTERM ends a worker whose clients neither finish what they send nor read what they get", async () => {
  await using world = new World(1, 1);
  await world.coordinator.start(null, { timeoutMs: 30_000 });
  const { samples } = world.coordinator.worker(0);
  await samples.put(batch);
  const { hostname, port } = new URL(samples.url);
  const connect = async (request: string) => {
    const connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(new TextEncoder().encode(request.replaceAll("\n", "\r\n")));
    return connection;
  };
  const head = `Host: x\nAuthorization: Bearer ${world.token}\n`;
  using _sends = await connect(`PUT /samples HTTP/1.1\n${head}Content-Length: 100000\n\nabc`);
  const body = JSON.stringify({ ids: ["a", "b"] });
  using _reads = await connect(`POST /samples/get HTTP/1.1\n${head}Content-Length: ${body.length}\n\n${body}`);
  using _silent = await Deno.connect({ hostname, port: Number(port) });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { code } = await world.end(0);
  assertEquals(code, 0);
});

Deno.test("SIGTERM ends a worker that builds its library, and the compiler with it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/slow`, `#!/bin/sh\necho $$ > ${folder}/pid\nexec sleep 60\n`, { mode: 0o755 });
    await using world = new World(1, 1, {
      SEQFERRY_CPU_LIBRARY: "",
      SEQFERRY_CACHE_DIR: `${folder}/cache`,
      CC: `${folder}/slow`,
    });
    await eventually("the compiler", () => childrenOf(world.workers[0]!.pid).length > 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const compiler = Number(await Deno.readTextFile(`${folder}/pid`));
    assert(isAlive(compiler));
    const { code, words } = await world.end(0);
    assertEquals(code, 1);
    assertStringIncludes(words, "before its libraries were open");
    await eventually("the end of the compiler", () => !isAlive(compiler));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("SIGTERM ends a worker at any moment of its start", async () => {
  for (const ms of [0, 30, 60, 90, 120, 150, 180, 220, 260, 300]) {
    await using world = new World(1, 1);
    await new Promise((resolve) => setTimeout(resolve, ms));
    world.workers[0]!.kill("SIGTERM");
    const { signal, code } = await world.workers[0]!.output();
    // Before the program has begun a signal does what it does to any process.
    assert(signal === "SIGTERM" || code === 0 || code === 1, `${ms} ms: ${signal} ${code}`);
  }
});

Deno.test("bytes that are no request harm neither worker nor coordinator", async () => {
  await using world = new World(1, 1);
  await world.coordinator.start(null, { timeoutMs: 30_000 });
  const { samples } = world.coordinator.worker(0);
  await samples.put(batch);
  const garbage = [
    "\0\0\0\0",
    "GET",
    "GET / HTTP/1.1\r\n\r\n",
    "GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    `GET /${"a".repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `PUT /samples HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.token}\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff`,
    `PUT /samples HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.token}\r\nContent-Length: -4\r\n\r\n`,
    `POST /samples/get HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.token}\r\nContent-Length: 20000\r\n\r\n${
      "[".repeat(20_000)
    }`,
    `GET /control HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x05.{]}x\x82\x7f\xff\xff\xff\xff",
  ];
  for (const url of [samples.url, world.coordinator.url]) {
    const { hostname, port } = new URL(url);
    for (const text of garbage) {
      const connection = await Deno.connect({ hostname, port: Number(port) });
      try {
        await connection.write(Uint8Array.from(text, (character) => character.charCodeAt(0)));
        await connection.closeWrite();
        const buffer = new Uint8Array(65536);
        while (await connection.read(buffer) !== null);
      } catch {
        // It was closed in our face.
      } finally {
        connection.close();
      }
    }
  }
  assertEquals((await samples.get(["a", "b"])).toSafetensors(), SequenceSample.gather(batch.unpack()).toSafetensors());
  assertEquals(world.coordinator.missingRanks(), []);
  assertEquals((await world.end(0)).code, 0);
});
