/**
 * The flags of a command: declared as data, parsed, and told in help.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { show } from "../show.ts";
import { InputError } from "./input_error.ts";

/** One flag. */
export interface Flag {
  /** What its value stands for in help, e.g. `FILE`; absent for a flag without a value. */
  readonly value?: string;
  /** What it does, in one line. */
  readonly help: string;
}

/** A command that a person types. */
export interface Command {
  /** Its name. */
  readonly name: string;
  /** What it does, in one line. */
  readonly summary: string;
  /** Its flags by name, without dashes. `help` comes by itself. */
  readonly flags: Readonly<Record<string, Flag>>;
  /** Does it. Returns the exit code. */
  run(flags: Flags): Promise<number>;
}

/** The flags that were given. */
export class Flags {
  readonly #values: ReadonlyMap<string, string | true>;

  /** Takes each given flag's value, `true` where it has none. */
  constructor(values: ReadonlyMap<string, string | true>) {
    this.#values = values;
  }

  /** Whether a flag without a value was given. */
  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** A flag's value, or undefined where it was not given. */
  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return value === true ? undefined : value;
  }

  /**
   * A flag's value as an integer.
   *
   * @throws {InputError} where it is none, or outside the bounds.
   */
  integer(name: string, bounds: { min: number; max: number }): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw new InputError(`--${name}`, `it is an integer from ${bounds.min} to ${bounds.max}, not ${show(text)}`);
    }
    return value;
  }

  /**
   * A flag's value as a number above zero.
   *
   * @throws {InputError} where it is none.
   */
  positive(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value) || value <= 0) {
      throw new InputError(`--${name}`, `it is a number above 0, not ${show(text)}`);
    }
    return value;
  }

  /**
   * A flag's value as one of a few words.
   *
   * @throws {InputError} where it is none of them.
   */
  oneOf<Word extends string>(name: string, choices: readonly Word[]): Word | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const choice = choices.find((word) => word === text);
    if (choice === undefined) {
      throw new InputError(`--${name}`, `it is one of ${choices.join(", ")}, not ${show(text)}`);
    }
    return choice;
  }
}

/**
 * Parses the words after a command's name.
 *
 * @throws {InputError} for a flag that the command does not have, a missing or superfluous value, a flag given twice, and any other word.
 */
export function parseFlags(command: Command, words: readonly string[]): Flags {
  const names = [...Object.keys(command.flags), "help"];
  const takesValue = (name: string) => command.flags[name]?.value !== undefined;
  const given = new Set<string>();
  const parsed = parseArgs(words, {
    string: names.filter(takesValue),
    boolean: names.filter((name) => !takesValue(name)),
    unknown(word, key) {
      if (key === undefined) return; // No flag; see below.
      throw new InputError(
        "",
        `seqferry ${command.name} has no flag ${word.split("=", 1)[0]}; it has ${
          names.map((name) => `--${name}`).join(", ")
        }`,
      );
    },
  });
  const stray = strayWord(words, takesValue);
  if (stray !== undefined) {
    throw new InputError("", `seqferry ${command.name} takes flags only, and ${show(stray)} is none`);
  }
  for (const word of words) {
    const name = /^--([^=]+)/.exec(word)?.[1];
    if (name === undefined || !names.includes(name)) continue;
    if (given.has(name)) throw new InputError(`--${name}`, "it is given twice");
    given.add(name);
    if (!takesValue(name) && word.includes("=")) throw new InputError(`--${name}`, "it takes no value");
  }
  const values = new Map<string, string | true>();
  for (const name of given) {
    const value = parsed[name];
    if (takesValue(name)) {
      if (typeof value !== "string" || value === "") {
        throw new InputError(`--${name}`, `it takes a value: --${name} ${command.flags[name]!.value}`);
      }
      values.set(name, value);
    } else {
      values.set(name, true);
    }
  }
  return new Flags(values);
}

/**
 * The first word that is neither a flag nor the value of the flag before it, or undefined. The parser passes some over:
 * `--` and all behind it, `-`, and `true` or `false` behind a flag without a value.
 */
function strayWord(words: readonly string[], takesValue: (name: string) => boolean): string | undefined {
  return words.find((word, i) => {
    const flag = /^--([^=]+)$/.exec(words[i - 1] ?? "")?.[1];
    const isValue = flag !== undefined && takesValue(flag);
    return !isValue && !/^--?[^-]/.test(word);
  });
}

/** A command's help. */
export function helpOf(command: Command): string {
  const rows = Object.entries(command.flags).map(([name, { value, help }]) => [
    `  --${name}${value === undefined ? "" : ` ${value}`}`,
    help,
  ]);
  const width = Math.max(...rows.map(([flag]) => flag!.length));
  return `${command.summary}\n\nseqferry ${command.name} [flags]\n\n${
    rows.map(([flag, help]) => `${flag!.padEnd(width)}  ${help}\n`).join("")
  }`;
}
