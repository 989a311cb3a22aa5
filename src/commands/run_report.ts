/**
 * What a run did: the JSON of `--report`, and the table that a person reads.
 *
 * @module
 */

import type { Pattern, RedistribReport } from "../../mod.ts";
import type { Comparison } from "./compare.ts";
import { renderTable } from "./table.ts";
import { bytesText, counted, rateText, secondsText } from "./units.ts";

/** One move. */
export interface TransferReport {
  /** The model it came from. */
  readonly from: string;
  /** The model it went to. */
  readonly to: string;
  /** Steps of the plan. */
  readonly steps: number;
  /** Phases that the plan was lowered to. */
  readonly phases: number;
  /** Bytes that left ranks, all of them together. */
  readonly bytesSent: number;
  /** Bytes that arrived at ranks, all of them together. */
  readonly bytesReceived: number;
  /** Bytes that the reference would have sent for the same plan. */
  readonly referenceBytesSent: number;
  /** Bytes that would have arrived with the reference. */
  readonly referenceBytesReceived: number;
  /** The slowest rank's time. */
  readonly seconds: number;
  /** Bytes received over seconds, in 10^9 bytes per second. */
  readonly gbPerSecond: number;
  /** What all ranks held afterwards, compared with the source. */
  readonly verified: Comparison;
  /** By rank. */
  readonly perRank: readonly RedistribReport[];
}

/** A run. */
export interface RunReport {
  /** What ranks held in the end, compared with the source; `wrong` counts those of every move. */
  readonly verified: Comparison;
  /** One for each move, in order. */
  readonly transfers: readonly TransferReport[];
  /** How many worker processes. */
  readonly ranks: number;
  /** The layout, in its JSON form. */
  readonly layout: unknown;
  /** As given on the command line. */
  readonly layouts: string;
  /** How plans were made. */
  readonly pattern: Pattern;
  /** What was moved. */
  readonly input: {
    readonly file: string;
    readonly ids: number;
    readonly keys: readonly string[];
    readonly bytes: number;
  };
  /** What the synthesized keys were made from. */
  readonly seed: number;
  /** The keys that the input did not hold. */
  readonly synthesizedKeys: readonly string[];
  /** Of all that took part. */
  readonly versions: {
    readonly seqferry: string;
    readonly deno: string;
    readonly tokenizer: string | null;
    readonly backend: "cuda" | "cpu";
    readonly cudart: number;
    readonly nccl: number;
  };
  /** Files written for `--output`. */
  readonly outputs: readonly string[];
  /** Why the run did not come to its end; null when it did. */
  readonly error: { readonly name: string; readonly message: string } | null;
}

/** Puts the reports of all ranks together. */
export function transferReport(
  move: { from: string; to: string; plan: readonly unknown[] },
  perRank: readonly RedistribReport[],
  verified: Comparison,
): TransferReport {
  const total = (field: "bytesSent" | "bytesReceived" | "referenceBytesSent" | "referenceBytesReceived") =>
    perRank.reduce((sum, report) => sum + report[field], 0);
  const seconds = Math.max(...perRank.map((report) => report.seconds));
  const bytesReceived = total("bytesReceived");
  return {
    from: move.from,
    to: move.to,
    steps: move.plan.length,
    phases: Math.max(...perRank.map(({ phases }) => phases)),
    bytesSent: total("bytesSent"),
    bytesReceived,
    referenceBytesSent: total("referenceBytesSent"),
    referenceBytesReceived: total("referenceBytesReceived"),
    seconds,
    gbPerSecond: seconds > 0 ? bytesReceived / seconds / 1e9 : 0,
    verified,
    perRank,
  };
}

/** The table of all moves. */
export function transferTable(transfers: readonly TransferReport[]): string {
  return renderTable(
    [
      { title: "from → to" },
      { title: "steps", align: "right" },
      { title: "phases", align: "right" },
      { title: "moved", align: "right" },
      { title: "reference moves", align: "right" },
      { title: "time", align: "right" },
      { title: "GB/s", align: "right" },
      { title: "tensors checked", align: "right" },
      { title: "wrong", align: "right" },
    ],
    transfers.map((transfer) => [
      `${transfer.from} → ${transfer.to}`,
      String(transfer.steps),
      String(transfer.phases),
      bytesText(transfer.bytesReceived),
      bytesText(transfer.referenceBytesReceived),
      secondsText(transfer.seconds),
      rateText(transfer.gbPerSecond),
      transfer.verified.tensors.toLocaleString("en-US"),
      transfer.verified.wrong.toLocaleString("en-US"),
    ]),
  );
}

/** The outcome, in sentences. */
export function verdict(verified: Comparison, ranks: number): string {
  const { tensors, bytes, wrong, differences } = verified;
  const compared = `${counted(tensors, "tensor")} (${bytesText(bytes)}) on ${counted(ranks, "rank")}`;
  if (wrong === 0) return `${compared} compared with the source: every byte is the same\n`;
  const lines = differences.map(({ rank, id, key, what }) =>
    `  rank ${rank}, id ${id}${key === undefined ? "" : `, key ${key}`}: ${what}\n`
  );
  return `${compared} compared with the source: ${counted(wrong, "difference")}\n${lines.join("")}`;
}
