import { assertEquals } from "@std/assert";
import { cpuAccountNames } from "../../ffi/cpu_extras.ts";

Deno.test("cpuAccountNames are the accounts of the C header, in its order", async () => {
  const header = await Deno.readTextFile(new URL("../../ffi/cpu/accounts.h", import.meta.url));
  const slots = [...header.matchAll(/^\s*ACCOUNT_([A-Z_]+),/gm)].map((match) => match[1]?.toLowerCase() ?? "");
  const camel = slots.map((slot) => slot.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()));
  assertEquals(camel, [...cpuAccountNames, "count"]);
});
