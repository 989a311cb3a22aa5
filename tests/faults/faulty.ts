/**
 * A rank whose libraries answer what a test wants: any function can be made to answer a code.
 *
 * @module
 */

import type { Libraries } from "../../ffi/open.ts";
import { DeviceRuntime } from "../../src/device/runtime.ts";
import { native } from "../native.ts";

/** What a function is to answer. */
export interface Answer {
  /** The code; where it is the asynchronous state that is to fail, the state. */
  code: number;
  /** How many calls answer it from now on; 1 unless given. */
  times?: number;
  /** How many calls go through before; none unless given. */
  after?: number;
}

/**
 * Called all the same, whatever is answered. A group that was opened must be closed: the depth is the thread's, and the thread has other ranks. What lets
 * something go answers errors of earlier work, too.
 */
const CALLED_ALL_THE_SAME = [
  "ncclGroupEnd",
  "cudaFree",
  "cudaEventDestroy",
  "cudaStreamDestroy",
  "cudaHostUnregister",
];

/** Where faults of one rank are armed. */
export class FaultyRuntime extends DeviceRuntime {
  /** The most device memory that it held since this was last set, in bytes. */
  mostBytes = 0;
  readonly #armed: Map<string, Required<Answer>>;
  readonly #fired: Set<string>;

  /** A rank of the stand-in with nothing armed. */
  constructor() {
    const armed = new Map<string, Required<Answer>>();
    const fired = new Set<string>();
    super(faultyLibraries(armed, fired), 0);
    this.#armed = armed;
    this.#fired = fired;
  }

  override allocate(byteLength: number): bigint {
    const address = super.allocate(byteLength);
    this.mostBytes = Math.max(this.mostBytes, this.liveBytes);
    return address;
  }

  /** The next call of a C function on this rank answers a code. */
  arm(name: string, { code, times = 1, after = 0 }: Answer): void {
    this.#fired.delete(name);
    this.#armed.set(name, { code, times, after });
  }

  /** All functions answer as they are from now on. */
  disarm(): void {
    this.#armed.clear();
  }

  /** Whether an armed function was called. */
  hasFired(name: string): boolean {
    return this.#fired.has(name);
  }
}

type Native = (...args: unknown[]) => unknown;

function faultyLibraries(armed: Map<string, Required<Answer>>, fired: Set<string>): Libraries {
  const wrap = <T extends object>(symbols: T): T =>
    Object.fromEntries(
      Object.entries(symbols).map(([name, call]: [string, Native | null]) => [
        name,
        call === null ? null : (...args: unknown[]) => {
          const answer = armed.get(name);
          if (answer === undefined || answer.after-- > 0) return call(...args);
          if (--answer.times <= 0) armed.delete(name);
          fired.add(name);
          if (CALLED_ALL_THE_SAME.includes(name)) call(...args);
          if (name === "ncclCommGetAsyncError") {
            (args[1] as Int32Array)[0] = answer.code;
            return 0;
          }
          return answer.code;
        },
      ]),
    ) as T;
  return {
    ...native,
    cudart: { ...native.cudart, symbols: wrap(native.cudart.symbols) },
    nccl: { ...native.nccl, symbols: wrap(native.nccl.symbols) },
  };
}
