import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../src/commands/input_error.ts";
import { parseRollouts } from "../../src/commands/rollouts.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const good = '{"prompt":"p","responses":["r"],"rewards":[1]}';

function refusal(text: string | Uint8Array): string {
  return assertThrows(
    () => parseRollouts(typeof text === "string" ? bytes(text) : text, "in.jsonl"),
    InputError,
  ).message;
}

Deno.test("parseRollouts() reads prompts with their responses and rewards, whichever name the responses go by", () => {
  const text = `${good}\n{"prompt":"q","generateds":["a","b"],"rewards":[0.5,-1],"id":"q7","solutions":["x"]}\n`;
  assertEquals(parseRollouts(bytes(text), "in.jsonl"), [
    { id: "0", prompt: "p", responses: ["r"], rewards: [1], line: 1 },
    { id: "q7", prompt: "q", responses: ["a", "b"], rewards: [0.5, -1], line: 2 },
  ]);
});

Deno.test("parseRollouts() passes blank lines over, takes CRLF and a byte-order mark, and numbers rollouts, not lines", () => {
  const rollouts = parseRollouts(bytes(`\uFEFF${good}\r\n\r\n  \n${good}`), "in.jsonl");
  assertEquals(rollouts.map(({ id, line }) => [id, line]), [["0", 1], ["1", 4]]);
});

Deno.test("parseRollouts() takes the largest float32 for a reward", () => {
  const line = '{"prompt":"p","responses":["r"],"rewards":[3.4028234663852886e38]}';
  assertEquals(parseRollouts(bytes(line), "f")[0]!.rewards, [3.4028234663852886e38]);
});

Deno.test("parseRollouts() takes an integer for an id", () => {
  assertEquals(parseRollouts(bytes('{"prompt":"p","responses":["r"],"rewards":[1],"id":42}'), "f")[0]!.id, "42");
});

Deno.test("parseRollouts() names file and line when a line is not JSON", () => {
  const message = refusal(`${good}\n{"prompt": oops\n`);
  assertEquals(message.startsWith("in.jsonl:2: the line is not JSON ("), true, message);
});

Deno.test("parseRollouts() names the line whose bytes are not UTF-8", () => {
  assertEquals(
    refusal(new Uint8Array([...bytes(`${good}\n`), 0x22, 0xff, 0x22])),
    "in.jsonl:2: the line is not UTF-8",
  );
});

const bad: readonly (readonly [string, string])[] = [
  ["[1]", "a rollout is an object, not [1]"],
  ['{"responses":["r"],"rewards":[1]}', 'the field "prompt" is missing'],
  ['{"prompt":5,"responses":["r"],"rewards":[1]}', '"prompt" is a string, not 5'],
  ['{"prompt":"p","rewards":[1]}', 'the field "responses" (or "generateds") is missing'],
  [
    '{"prompt":"p","responses":["r"],"generateds":["r"],"rewards":[1]}',
    'there are both "responses" and "generateds"; keep one',
  ],
  ['{"prompt":"p","responses":"r","rewards":[1]}', '"responses" is an array of strings, not "r"'],
  ['{"prompt":"p","generateds":[],"rewards":[]}', '"generateds" is empty; a prompt has at least one response'],
  ['{"prompt":"p","generateds":["r",null],"rewards":[1,2]}', "generateds[1] is a string, not null"],
  ['{"prompt":"p","responses":["r"]}', 'the field "rewards" is missing'],
  ['{"prompt":"p","responses":["r"],"rewards":1}', '"rewards" is an array of numbers, not 1'],
  ['{"prompt":"p","responses":["r","s"],"rewards":[1]}', "there are 2 responses, but 1 rewards"],
  ['{"prompt":"p","responses":["r"],"rewards":["1"]}', 'rewards[0] is a number that is finite as float32, not "1"'],
  [
    '{"prompt":"p","responses":["r"],"rewards":[1e999]}',
    "rewards[0] is a number that is finite as float32, not Infinity",
  ],
  [
    '{"prompt":"p","responses":["r","s"],"rewards":[0.1,-1e39]}',
    "rewards[1] is a number that is finite as float32, not -1e+39",
  ],
  [
    '{"prompt":"","responses":["r",""],"rewards":[1,1]}',
    "the prompt and response 1 are both empty, which leaves a sequence without tokens",
  ],
  [
    '{"prompt":"p","responses":["r"],"rewards":[1],"id":""}',
    '"id" is a string that is not empty, or an integer, not ""',
  ],
  [
    '{"prompt":"p","responses":["r"],"rewards":[1],"id":1.5}',
    '"id" is a string that is not empty, or an integer, not 1.5',
  ],
];
for (const [line, sentence] of bad) {
  Deno.test(`parseRollouts() refuses ${line}`, () => {
    assertEquals(refusal(`${good}\n${line}\n${good}`), `in.jsonl:2: ${sentence}`);
  });
}

Deno.test("parseRollouts() refuses an id that is there twice, also where one of the two is a number in the file", () => {
  const first = '{"prompt":"p","responses":["r"],"rewards":[1],"id":"1"}';
  assertEquals(refusal(`${first}\n${good}`), 'in.jsonl:2: the id "1" is that of line 1 already');
});

Deno.test("parseRollouts() refuses a file without rollouts", () => {
  assertEquals(refusal("\n \n"), "in.jsonl: there is no rollout in it");
});
