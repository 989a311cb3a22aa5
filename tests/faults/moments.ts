/**
 * The moments of a transfer: before, in and after each agreement and each phase, on each rank.
 *
 * The listener of a runtime is told of every moment on that rank. It may fire a signal, kill the process, arm an error, or hold the rank by an
 * answer that takes its time.
 *
 * @module
 */

import { Communicator } from "../../src/comm/communicator.ts";
import { Exchange } from "../../src/comm/exchange.ts";
import type { Runtime } from "../../src/device/runtime.ts";

/** Told `before the agreement`, `in phase 0`, `after the commit` and so on. */
export type Listener = (moment: string) => void | Promise<void>;

const listeners = new WeakMap<Runtime, Listener>();
const owners = new WeakMap<Exchange, Runtime>();
const { group } = Communicator.prototype;
const { gather } = Exchange.prototype;
let gathering: Exchange | null = null;

/** Tells `listener` of the moments of a rank, until it is taken off with null. */
export function listen(runtime: Runtime, listener: Listener | null): void {
  if (listener === null) listeners.delete(runtime);
  else listeners.set(runtime, listener);
}

Communicator.prototype.group = async function (what, issue, deadline) {
  if (gathering !== null) owners.set(gathering, this.runtime);
  const tell = (when: string) => listeners.get(this.runtime)?.(`${when} ${what}`);
  const held = tell("before");
  if (held !== undefined) await held;
  // What is called up to the first await issues the group: it is on its way when the listener hears of it.
  const issued = group.call(this, what, issue, deadline);
  issued.catch(() => {});
  await tell("in");
  const result = await issued;
  if (!what.startsWith("phase ")) return result;
  // A phase is over when its event has passed.
  const isDone = result.isDone.bind(result);
  let told = false;
  result.isDone = () => {
    if (!isDone()) return false;
    if (!told) void tell("after");
    return told = true;
  };
  return result;
};

Exchange.prototype.gather = async function (what, payload, deadline, enqueued) {
  gathering = this;
  const words = gather.call(this, what, payload, deadline, enqueued);
  gathering = null;
  const all = await words;
  await listeners.get(owners.get(this)!)?.(`after ${what}`);
  return all;
};
