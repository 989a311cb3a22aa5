import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { SeqferryError } from "../../src/errors.ts";
import { bearer, Gate, isLoopback, newToken, requireToken } from "../../src/service/auth.ts";
import { Coordinator } from "../../src/service/coordinator.ts";

const request = (headers: Record<string, string>) => new Request("http://127.0.0.1/health", { headers });

Deno.test("Gate admits the token and nothing else", () => {
  const token = newToken();
  const gate = new Gate(token);
  assertEquals(gate.refusal(request(bearer(token))), null);
  for (const headers of [{}, bearer(newToken()), bearer(token + "x"), { authorization: token }, bearer("")]) {
    assertEquals(gate.refusal(request(headers))?.status, 401);
  }
});

Deno.test("Gate without a token turns away what a browser sends for a page", () => {
  const gate = new Gate(null);
  assertEquals(gate.refusal(request({})), null);
  assertEquals(gate.refusal(request({ origin: "http://evil.example" }))?.status, 401);
});

Deno.test("Gate without a token takes only who calls this machine by its own names", () => {
  const gate = new Gate(null);
  for (const host of ["localhost:4000", "127.0.0.1:4000", "127.8.8.8", "[::1]:4000", "LOCALHOST"]) {
    assertEquals(gate.refusal(request({ host })), null, host);
  }
  // A page whose name points to this machine is of the same origin as this service: the browser names no origin.
  for (const host of ["evil.example:4000", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example", "[", ""]) {
    assertEquals(gate.refusal(request({ host }))?.status, 401, host);
  }
  assertEquals(gate.refusal(new Request("http://evil.example/health"))?.status, 401);
});

Deno.test("a service without a token turns away who calls it by another name", async () => {
  await using coordinator = Coordinator.listen({ worldSize: 1, token: null });
  const { hostname, port } = new URL(coordinator.url);
  for (const [host, status] of [[`localhost:${port}`, "200"], ["evil.example", "401"]]) {
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(new TextEncoder().encode(`GET /health HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
    const buffer = new Uint8Array(1024);
    const count = await connection.read(buffer);
    assertEquals(new TextDecoder().decode(buffer.subarray(0, count!)).split(" ")[1], status);
  }
});

Deno.test("newToken() is new each time and passes requireToken()", () => {
  const token = newToken();
  requireToken(token, "0.0.0.0");
  assertNotEquals(token, newToken());
});

Deno.test("requireToken() lets only loopback go without, and refuses tokens that are short or not for a header", () => {
  requireToken(null, "127.0.0.1");
  assertThrows(() => requireToken(null, "0.0.0.0"), SeqferryError, "needs a token");
  assertThrows(() => requireToken("short", "127.0.0.1"), SeqferryError, "at least 16");
  assertThrows(() => requireToken("a token with blanks in it", "127.0.0.1"), SeqferryError, "without blanks");
});

Deno.test("isLoopback() knows this machine's own addresses", () => {
  for (const own of ["127.0.0.1", "127.8.8.8", "::1", "localhost"]) assert(isLoopback(own), own);
  for (const other of ["0.0.0.0", "10.0.0.1", "::", "example.com", "127.0.0.1.example.com"]) {
    assert(!isLoopback(other), other);
  }
});
