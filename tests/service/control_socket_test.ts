import { assertEquals, assertThrows } from "@std/assert";
import { SeqferryError } from "../../src/errors.ts";
import { ControlSocket } from "../../src/service/control_socket.ts";

/** Sends one message through a WebSocket and back. */
async function echo(message: unknown): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const closed = Promise.withResolvers<void>();
  const answering: ControlSocket[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    answering.push(
      new ControlSocket(socket, {
        message(json) {
          for (const control of answering) control.send(json);
        },
        closed() {},
      }),
    );
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
  const control = new ControlSocket(socket, { message: resolve, closed: () => closed.resolve() });
  socket.onopen = () => control.send(message);
  const answer = await promise;
  control.close();
  await closed.promise;
  return answer;
}

Deno.test("ControlSocket carries small messages", async () => {
  const message = { a: [1, "ü", null], b: "🎉" };
  assertEquals(await echo(message), message);
});

Deno.test("ControlSocket carries messages beyond one part whole, pairs of surrogates at the cut included", async () => {
  const text = "x" + "🎉".repeat(6 * 2 ** 20);
  assertEquals(await echo([text]) as unknown, [text]);
});

Deno.test("ControlSocket closes on what is no message, and tells why", async () => {
  for (const [sent, why] of [["?x", "a part of a control message begins with + or ."], [".{", "JSON"]] as const) {
    const closed = Promise.withResolvers<string>();
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      new ControlSocket(socket, { message() {}, closed: closed.resolve });
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
    const ended = new Promise((resolve) => socket.onclose = resolve);
    socket.onopen = () => socket.send(sent);
    assertEquals((await closed.promise).includes(why), true);
    await ended;
  }
});

Deno.test("ControlSocket does not listen to parts without end, be they empty", async () => {
  for (const part of [`+${"x".repeat(100)}`, "+"]) {
    const closed = Promise.withResolvers<string>();
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      new ControlSocket(socket, { message() {}, closed: closed.resolve }, 1000);
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
    const ended = new Promise((resolve) => socket.onclose = resolve);
    socket.onopen = () => {
      for (let sent = 0; sent <= 1000; sent += part.length) socket.send(part);
    };
    assertEquals(await closed.promise, "a control message has at most 1000 characters");
    await ended;
  }
});

Deno.test("ControlSocket sends nothing of a message that the other side would not take, and goes on", async () => {
  const got: unknown[] = [];
  const closed = Promise.withResolvers<string>();
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    new ControlSocket(socket, { message: (json) => got.push(json), closed: closed.resolve }, 1000);
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
  const control = new ControlSocket(socket, { message() {}, closed() {} }, 1000);
  await new Promise((resolve) => socket.onopen = resolve);
  // With two quotation marks and the mark of its part, 997 characters are 1000.
  assertThrows(
    () => control.send("x".repeat(998)),
    SeqferryError,
    "a control message has at most 1000 characters, not 1000",
  );
  // As JSON.stringify does for what no string holds.
  const huge = {
    toJSON() {
      throw new RangeError("Invalid string length");
    },
  };
  assertThrows(() => control.send(huge), SeqferryError, "not more than a string holds");
  control.send("x".repeat(997));
  control.close("that is all");
  assertEquals(await closed.promise, "that is all");
  assertEquals(got, ["x".repeat(997)]);
});
