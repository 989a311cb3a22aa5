import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Command, type Flags, helpOf, parseFlags } from "../../src/commands/args.ts";
import { InputError } from "../../src/commands/input_error.ts";

const command: Command = {
  name: "ship",
  summary: "Ships.",
  flags: {
    ranks: { value: "N", help: "how many" },
    verify: { help: "check" },
    speed: { value: "S", help: "how fast" },
  },
  run: () => Promise.resolve(0),
};
const parse = (...words: string[]): Flags => parseFlags(command, words);
const refusal = (...words: string[]): string => assertThrows(() => parse(...words), InputError).message;

Deno.test("parseFlags() takes values after a blank or an equals sign", () => {
  const flags = parse("--ranks", "4", "--speed=2.5", "--verify");
  assertEquals(flags.integer("ranks", { min: 1, max: 8 }), 4);
  assertEquals(flags.positive("speed"), 2.5);
  assert(flags.has("verify"));
  assertEquals(parse().text("ranks"), undefined);
});

Deno.test("parseFlags() refuses what the command does not have, in one sentence", () => {
  assertEquals(refusal("--rank", "4"), "seqferry ship has no flag --rank; it has --ranks, --verify, --speed, --help");
  assertEquals(refusal("-x"), "seqferry ship has no flag -x; it has --ranks, --verify, --speed, --help");
  assertEquals(refusal("four"), 'seqferry ship takes flags only, and "four" is none');
});

Deno.test("parseFlags() refuses every word that is no flag and no flag's value, wherever it stands", () => {
  const refused = (word: string) => `seqferry ship takes flags only, and ${JSON.stringify(word)} is none`;
  assertEquals(refusal("--ranks", "4", "five"), refused("five"));
  assertEquals(refusal("--ranks=4", "five"), refused("five"));
  assertEquals(refusal("--ranks", "4", "--", "five"), refused("--"));
  assertEquals(refusal("--", "--ranks", "4"), refused("--"));
  assertEquals(refusal("--verify", "false"), refused("false"));
  assertEquals(refusal("--verify", "true"), refused("true"));
  assertEquals(refusal("--help", "false"), refused("false"));
  assertEquals(refusal("-"), refused("-"));
  assertEquals(refusal(""), refused(""));
});

Deno.test("parseFlags() refuses missing, superfluous and doubled values", () => {
  assertEquals(refusal("--ranks"), "--ranks: it takes a value: --ranks N");
  assertEquals(refusal("--ranks", "--verify"), "--ranks: it takes a value: --ranks N");
  assertEquals(refusal("--ranks", "--"), "--ranks: it takes a value: --ranks N");
  assertEquals(refusal("--ranks="), "--ranks: it takes a value: --ranks N");
  assertEquals(refusal("--verify=yes"), "--verify: it takes no value");
  assertEquals(refusal("--ranks=1", "--ranks=2"), "--ranks: it is given twice");
});

Deno.test("Flags refuse values that are out of bounds or no numbers", () => {
  const bounds = { min: 1, max: 8 };
  for (const text of ["0", "9", "1.5", "four", "1e0", "0x2"]) {
    const error = assertThrows(() => parse("--ranks", text).integer("ranks", bounds), InputError);
    assertEquals(error.message, `--ranks: it is an integer from 1 to 8, not "${text}"`);
  }
  for (const text of ["0", "fast", "Infinity"]) {
    assertThrows(() => parse("--speed", text).positive("speed"), InputError, "--speed: it is a number above 0");
  }
  assertThrows(
    () => parse("--speed", "c").oneOf("speed", ["a", "b"]),
    InputError,
    '--speed: it is one of a, b, not "c"',
  );
});

Deno.test("helpOf() tells every flag", () => {
  assertEquals(
    helpOf(command),
    "Ships.\n\nseqferry ship [flags]\n\n  --ranks N  how many\n  --verify   check\n  --speed S  how fast\n",
  );
});
