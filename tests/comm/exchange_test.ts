import { assert, assertEquals, assertRejects } from "@std/assert";
import { Communicator } from "../../mod.ts";
import { Exchange } from "../../src/comm/exchange.ts";
import { Deadline, WaitEndedError } from "../../src/wait.ts";
import { FaultyRuntime } from "../faults/faulty.ts";

const WORLD_SIZE = 3;

/** Ranks that one thread drives, with an exchange each. */
class Ranks implements AsyncDisposable {
  private constructor(
    readonly runtimes: readonly FaultyRuntime[],
    readonly communicators: readonly Communicator[],
    readonly exchanges: readonly Exchange[],
  ) {}

  static async open(): Promise<Ranks> {
    const runtimes = Array.from({ length: WORLD_SIZE }, () => new FaultyRuntime());
    const uniqueId = runtimes[0]!.createUniqueId();
    const communicators = await Promise.all(
      runtimes.map((runtime, rank) => Communicator.init(runtime, { uniqueId, rank, worldSize: WORLD_SIZE })),
    );
    return new Ranks(runtimes, communicators, communicators.map((communicator) => new Exchange(communicator)));
  }

  gather(payloads: readonly Uint8Array[], timeoutMs = 10_000): Promise<PromiseSettledResult<Uint8Array[]>[]> {
    const calls = this.exchanges.map((exchange, rank) =>
      exchange.gather("a word", payloads[rank]!, new Deadline({ timeoutMs }))
    );
    return Promise.allSettled(calls);
  }

  /** Lets a rank stop before the given round. */
  stop(rank: number, round: number): void {
    const communicator = this.communicators[rank]!;
    const group = communicator.group.bind(communicator);
    let rounds = 0;
    communicator.group = (...options) => ++rounds === round ? Promise.reject(new Error("stopped")) : group(...options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.communicators.map((communicator) => communicator[Symbol.asyncDispose]()));
    for (const exchange of this.exchanges) exchange[Symbol.dispose]();
    for (const runtime of this.runtimes) runtime[Symbol.dispose]();
  }
}

function payload(length: number, seed: number): Uint8Array {
  return new Uint8Array(length).map((_, i) => i * 31 + seed);
}

function values(results: readonly PromiseSettledResult<Uint8Array[]>[]): Uint8Array[][] {
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

Deno.test("an exchange brings everyone's bytes to all, whatever their lengths", async () => {
  await using ranks = await Ranks.open();
  // A slot has room for 1012.
  const lengths = [0, 1, 15, 16, 17, 1011, 1012, 1013, 5000];
  const kept: { words: Uint8Array[]; brought: Uint8Array[] }[] = [];
  for (const [i, length] of lengths.entries()) {
    const brought = Array.from(
      { length: WORLD_SIZE },
      (_, rank) => payload(rank === 0 ? length : lengths[(i + rank) % lengths.length]!, i + rank),
    );
    for (const words of values(await ranks.gather(brought))) kept.push({ words, brought });
  }
  // Looked at when all rounds are over: words are not overwritten by what comes later.
  for (const { words, brought } of kept) {
    assertEquals(words, brought);
    for (const { byteOffset, length } of words) assert(length === 0 || byteOffset % 4 === 0);
  }
});

// A word that is too long for a slot takes three rounds: the first tells its length, the second whether all have memory for it, the third brings it.
for (const round of [1, 2, 3]) {
  Deno.test(`an exchange names the rank that is missing in round ${round}, and no other`, async () => {
    await using ranks = await Ranks.open();
    ranks.stop(1, round);
    const results = await ranks.gather(Array(WORLD_SIZE).fill(payload(2000, 7)), 300);
    const raised = (results[0] as PromiseRejectedResult).reason;
    assert(raised instanceof WaitEndedError, String(raised));
    assertEquals(await ranks.exchanges[0]!.missing(new Deadline({ timeoutMs: 1000 })), [1]);
    assertEquals(await ranks.exchanges[2]!.missing(new Deadline({ timeoutMs: 1000 })), [1]);
    assert(ranks.communicators[0]!.isOpen);
  });
}

Deno.test("an exchange names nobody where no round is under way", async () => {
  await using ranks = await Ranks.open();
  for (const length of [10, 2000]) {
    values(await ranks.gather(Array(WORLD_SIZE).fill(payload(length, 1))));
    assertEquals(await ranks.exchanges[0]!.missing(new Deadline()), []);
  }
  const late = new Deadline({ timeoutMs: 0 });
  await assertRejects(() => ranks.exchanges[0]!.gather("a word", payload(1, 1), late), WaitEndedError);
  assertEquals(await ranks.exchanges[0]!.missing(new Deadline()), []);
});

Deno.test("memory that a failed exchange may still write to is let go after the abort", async () => {
  await using ranks = await Ranks.open();
  const [first] = ranks.communicators;
  ranks.stop(1, 3);
  let letGo = 0;
  const symbols = ranks.runtimes[0]!.libraries.cudart.symbols as { cudaHostUnregister: (bytes: Uint8Array) => number };
  const unregister = symbols.cudaHostUnregister;
  symbols.cudaHostUnregister = (bytes) => {
    letGo++;
    return unregister(bytes);
  };
  await ranks.gather(Array(WORLD_SIZE).fill(payload(2000, 7)), 300);
  // Whoever gives the exchange up before the communicator's end has come through.
  ranks.exchanges[0]![Symbol.dispose]();
  assertEquals(letGo, 0);
  first!.abort();
  await first!.ended();
  assertEquals(letGo, 2);
});
