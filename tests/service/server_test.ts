import { assert, assertEquals } from "@std/assert";
import { Server, streamOf } from "../../src/service/server.ts";

const failed = () => new Response("it failed", { status: 500 });
const LENGTH = 20_000_000;

/** Answers to `/slow` after a while, to `/large` with many bytes, to `/echo` with what it gets, to `/never` never. */
async function handle(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 200));
  if (pathname === "/never") await new Promise(() => {});
  if (pathname === "/large") return new Response(streamOf(new Uint8Array(LENGTH)));
  return new Response(pathname === "/echo" ? await request.bytes() : pathname);
}

async function connect(server: Server, request: string): Promise<Deno.TcpConn> {
  const { hostname, port } = server.addr;
  const connection = await Deno.connect({ hostname, port });
  await connection.write(new TextEncoder().encode(request.replaceAll("\n", "\r\n")));
  await new Promise((resolve) => setTimeout(resolve, 50));
  return connection;
}

/** Everything until the connection is closed, read without haste. */
async function lengthOf(connection: Deno.TcpConn): Promise<number> {
  const buffer = new Uint8Array(1_000_000);
  let length = 0;
  try {
    for (;;) {
      const count = await connection.read(buffer);
      if (count === null) return length;
      length += count;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  } catch {
    return length;
  }
}

for (const path of ["/quick", "/slow", "/large"]) {
  Deno.test(`Server.end() lets an answer to ${path} come to its end`, async () => {
    const server = new Server({ token: null }, handle, failed);
    using connection = await connect(server, `GET ${path} HTTP/1.1\nHost: localhost\n\n`);
    const reading = lengthOf(connection);
    const began = performance.now();
    await server.end(5000);
    assert(performance.now() - began < 4000);
    assert(await reading > (path === "/large" ? LENGTH : path.length));
  });
}

const unfinished: readonly (readonly [what: string, request: string, token: string | null])[] = [
  ["is refused in the middle of its body", "POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nabc", "x".repeat(16)],
  ["is answered in the middle of its body", "POST / HTTP/1.1\nHost: localhost\nContent-Length: 10\n\nabc", null],
  ["does not finish what is waited for", "POST /echo HTTP/1.1\nHost: localhost\nContent-Length: 10\n\nabc", null],
  ["does not read its answer", "GET /large HTTP/1.1\nHost: localhost\n\n", null],
  ["gets no answer", "GET /never HTTP/1.1\nHost: localhost\n\n", null],
  ["sends half a head", "GET /quick HTTP/1.1\nHo", null],
  ["sends nothing", "", null],
];
for (const [what, request, token] of unfinished) {
  Deno.test(`Server.end() does not wait beyond its grace for a client that ${what}`, async () => {
    const server = new Server({ token }, handle, failed);
    using connection = await connect(server, request);
    const began = performance.now();
    await server.end(300);
    assert(performance.now() - began < 2000);
    // The connection is closed from this side.
    await lengthOf(connection);
  });
}

Deno.test("Server answers what its handler throws", async () => {
  const server = new Server({ token: null }, () => {
    throw new Error("no");
  }, failed);
  const { hostname, port } = server.addr;
  const response = await fetch(`http://${hostname}:${port}/`);
  assertEquals([response.status, await response.text()], [500, "it failed"]);
  await server.end(1000);
});

Deno.test("streamOf() gives all bytes in their order", async () => {
  const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => i % 251);
  assertEquals(await new Response(streamOf(bytes)).bytes(), bytes);
  assertEquals(await new Response(streamOf(new Uint8Array())).bytes(), new Uint8Array());
});
