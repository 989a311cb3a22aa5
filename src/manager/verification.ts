/**
 * Verification: each sender's digest of each item beside its receiver's.
 *
 * An item that is passed on is checked at every hop, so that all hops together check it from end to end.
 *
 * @module
 */

import type { Region } from "../device/slab.ts";
import type { Program } from "../transfer/program.ts";
import type { ReplicaGroup } from "../transfer/run.ts";
import type { Deadline } from "../wait.ts";

/** Bytes of one record: the item, u32 little-endian, and the first bytes of its SHA-256. */
const RECORD_BYTES = 16;

/** Records of all items that this rank sends. */
export async function digestsOfSent(
  program: Program,
  regionOf: (item: number) => Region,
  deadline: Deadline,
): Promise<Uint8Array> {
  const sent = new Set<number>();
  for (const { sends, broadcasts } of program.phases) {
    for (const { items } of sends) for (const item of items) sent.add(item);
    for (const { root, items } of broadcasts) if (root === program.rank) { for (const item of items) sent.add(item); }
  }
  const records = new Uint8Array(sent.size * RECORD_BYTES);
  const view = new DataView(records.buffer);
  let offset = 0;
  for (const item of sent) {
    view.setUint32(offset, item, true);
    records.set(await digest(regionOf(item), deadline), offset + 4);
    offset += RECORD_BYTES;
  }
  return records;
}

/** The items whose bytes on this rank are not those that their senders had, ascending. */
export async function mismatches(
  program: Program,
  replicaGroups: readonly ReplicaGroup[],
  recordsByRank: readonly Uint8Array[],
  regionOf: (item: number) => Region,
  deadline: Deadline,
): Promise<number[]> {
  const wrong = new Set<number>();
  const tables = recordsByRank.map((records) => tableOf(records));
  const compare = async (sender: number, items: Iterable<number>) => {
    for (const item of items) {
      const theirs = tables[sender]!.get(item);
      const mine = await digest(regionOf(item), deadline);
      if (theirs === undefined || theirs.some((byte, i) => byte !== mine[i])) wrong.add(item);
    }
  };
  for (const { receives, broadcasts } of program.phases) {
    for (const { peer, items } of receives) await compare(peer, items);
    for (const { group, root, items } of broadcasts) {
      if (root !== program.rank && replicaGroups[group]!.members.includes(root)) await compare(root, items);
    }
  }
  return [...wrong].sort((a, b) => a - b);
}

function tableOf(records: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  const table = new Map<number, Uint8Array>();
  for (let offset = 0; offset < records.byteLength; offset += RECORD_BYTES) {
    table.set(view.getUint32(offset, true), records.subarray(offset + 4, offset + RECORD_BYTES));
  }
  return table;
}

async function digest(region: Region, deadline: Deadline): Promise<Uint8Array> {
  const bytes = await region.whileReading((address) =>
    region.slab.runtime.copier.read(address, region.byteLength, deadline)
  );
  const full = await crypto.subtle.digest("SHA-256", new Uint8Array(bytes));
  return new Uint8Array(full, 0, RECORD_BYTES - 4);
}
