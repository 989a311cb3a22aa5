import { assertEquals } from "@std/assert";
import { Progress, type ProgressTarget } from "../../src/commands/progress.ts";
import { renderTable, widthOf } from "../../src/commands/table.ts";
import { bytesText, counted, secondsText } from "../../src/commands/units.ts";

Deno.test("renderTable() aligns columns, numbers to the right, without trailing blanks", () => {
  const text = renderTable([{ title: "move" }, { title: "steps", align: "right" }, { title: "note" }], [
    ["a → b", "2", "x"],
    ["日本", "1234567", ""],
  ]);
  assertEquals(
    text,
    [
      "move     steps  note",
      "─────  ───────  ────",
      "a → b        2  x",
      "日本   1234567",
      "",
    ].join("\n"),
  );
});

Deno.test("renderTable() prints the head alone when there are no rows", () => {
  assertEquals(renderTable([{ title: "a" }], []), "a\n─\n");
});

Deno.test("widthOf() counts terminal columns", () => {
  assertEquals([widthOf("abc"), widthOf("é"), widthOf("e\u0301"), widthOf("日本"), widthOf("👩‍👧‍👦")], [3, 1, 1, 4, 2]);
});

Deno.test("bytesText() keeps three digits", () => {
  const bytes = [0, 1, 999, 1000, 1234, 99_949, 999_499, 999_500, 1_500_000, 2.5e9, 7e18];
  assertEquals(bytes.map(bytesText), [
    "0 B",
    "1 B",
    "999 B",
    "1.00 kB",
    "1.23 kB",
    "99.9 kB",
    "999 kB",
    "1.00 MB",
    "1.50 MB",
    "2.50 GB",
    "7000 PB",
  ]);
});

Deno.test("secondsText() chooses the unit", () => {
  assertEquals([0.0000005, 0.00085, 0.0123, 4.56, 61].map(secondsText), [
    "0.50 us",
    "850 us",
    "12.3 ms",
    "4.56 s",
    "61.0 s",
  ]);
});

Deno.test("counted() has a singular and a plural", () => {
  assertEquals([counted(1, "step"), counted(0, "step"), counted(1234, "byte")], ["1 step", "0 steps", "1,234 bytes"]);
});

function target(isTerminal: boolean): ProgressTarget & { text: string } {
  return {
    isTerminal,
    text: "",
    write(text) {
      this.text += text;
    },
  };
}

Deno.test("Progress draws a bar on a terminal and leaves one line", () => {
  const terminal = target(true);
  const progress = new Progress("a → b", terminal);
  progress.done("moved 1 B");
  assertEquals(terminal.text, `\r\x1b[Ka → b ${"░".repeat(24)}\r\x1b[Ka → b: moved 1 B\n`);
});

Deno.test("Progress writes plain lines elsewhere", () => {
  const file = target(false);
  const progress = new Progress("a → b", file);
  progress.update(1, 2);
  progress.clear();
  progress.done("moved 1 B");
  assertEquals(file.text, "a → b: moved 1 B\n");
});
