/**
 * `plan`: what would move, without a device.
 *
 * @module
 */

import { planToJSON } from "../../mod.ts";
import { AVAILABLE_PATTERNS } from "../plan/planner.ts";
import type { Command } from "./args.ts";
import { DONE } from "./exit_code.ts";
import { InputError } from "./input_error.ts";
import { print } from "./print.ts";
import { standardError } from "./progress.ts";
import { DEFAULT_LAYOUTS, DEFAULT_PATTERN, readLayouts, readStages } from "./run.ts";
import type { Stage } from "./stages.ts";
import { renderTable } from "./table.ts";

/** The keys of a sample made from rollouts. */
const DEFAULT_KEYS = "packed_input_ids,prompt_mask,packed_logprobs,rewards,version,values";

/** The command. */
export const planCommand: Command = {
  name: "plan",
  summary: "Prints the plan of each move: as JSON on standard output, as a table on standard error. Needs no device.",
  flags: {
    layouts: { value: "TEXT", help: `the layouts in order of travel; "${DEFAULT_LAYOUTS}" unless given` },
    ranks: { value: "N", help: "the number of ranks; the smallest that fits unless given" },
    ids: { value: "N", help: "the number of ids, named 0, 1, ...; 16 unless given" },
    keys: { value: "LIST", help: `the keys, parted by commas; ${DEFAULT_KEYS} unless given` },
    pattern: {
      value: "P",
      help: `how plans are made: ${AVAILABLE_PATTERNS.join(", ")}; ${DEFAULT_PATTERN} unless given`,
    },
  },
  run: (flags) => {
    const layout = readLayouts(flags.text("layouts") ?? DEFAULT_LAYOUTS, flags.integer("ranks", { min: 1, max: 512 }));
    const count = flags.integer("ids", { min: 1, max: 1_000_000 }) ?? 16;
    const keys = (flags.text("keys") ?? DEFAULT_KEYS).split(",");
    if (keys.includes("") || new Set(keys).size !== keys.length) {
      throw new InputError("--keys", "they are names parted by commas, none empty and none twice");
    }
    const pattern = flags.oneOf("pattern", AVAILABLE_PATTERNS) ?? DEFAULT_PATTERN;
    const ids = Array.from({ length: count }, (_, i) => String(i));
    const { stages } = readStages(layout, { ids, keys }, pattern);
    print(planText(stages));
    const rows = stages.flatMap(({ from, to, plan }) =>
      plan.map((step, i) => [
        i === 0 ? `${from} → ${to}` : "",
        String(i),
        step.commType,
        step.srcs === null ? String(step.root) : step.srcs.join(" "),
        step.dsts === null ? String(step.root) : step.dsts.join(" "),
        String(new Set(step.ids.flat()).size),
        step.keys.join(" "),
      ])
    );
    standardError.write(renderTable(
      [
        { title: "from → to" },
        { title: "step", align: "right" },
        { title: "kind" },
        { title: "from ranks" },
        { title: "to ranks" },
        { title: "ids", align: "right" },
        { title: "keys" },
      ],
      rows,
    ));
    return Promise.resolve(DONE);
  },
};

/** The plans as JSON, a step a line. */
function planText(stages: readonly Stage[]): string {
  const moves = stages.map(({ from, to, plan }) => {
    const steps = planToJSON(plan).map((step) => `    ${JSON.stringify(step)}`);
    const list = steps.length === 0 ? "[]" : `[\n${steps.join(",\n")}\n  ]`;
    return `  {"from": ${JSON.stringify(from)}, "to": ${JSON.stringify(to)}, "plan": ${list}}`;
  });
  return `[\n${moves.join(",\n")}\n]\n`;
}
