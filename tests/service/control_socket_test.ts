import { assertEquals } from "@std/assert";
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

Deno.test("ControlSocket does not listen to parts without end", async () => {
  const closed = Promise.withResolvers<string>();
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    new ControlSocket(socket, { message() {}, closed: closed.resolve }, 1000);
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
  const ended = new Promise((resolve) => socket.onclose = resolve);
  socket.onopen = () => {
    for (let part = 0; part < 20; part++) socket.send(`+${"x".repeat(100)}`);
  };
  assertEquals(await closed.promise, "a control message has at most 1000 characters");
  await ended;
});
