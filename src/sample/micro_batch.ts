/**
 * Micro-batches: parts of a batch that are computed one after another because the whole would not fit.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import type { SequenceSample } from "./sequence_sample.ts";

/** How to cut a batch into micro-batches. */
export interface MicroBatchSpec {
  /** The least number of micro-batches, from 1 up. */
  nMbs: number;
  /** The most tokens in one; 10^12 unless given, which leaves the number of micro-batches at `nMbs` and balances them. */
  maxTokensPerMb?: number;
}

/** The default of {@linkcode MicroBatchSpec.maxTokensPerMb}, the reference's. */
const DEFAULT_MAX_TOKENS = 1e12;

/** Micro-batches, and how to find one's way back. */
export interface SplitResult {
  /** The micro-batches. */
  samples: SequenceSample[];
  /** Where id `i` of all micro-batches one after another was in the batch. */
  forwardIndices: number[];
  /** Where id `i` of the batch is in all micro-batches one after another. */
  backwardIndices: number[];
}

/** The spec with its default. Throws a {@linkcode SampleError} for numbers that cannot be. */
export function checkMicroBatches(spec: MicroBatchSpec): Required<MicroBatchSpec> {
  const { nMbs, maxTokensPerMb = DEFAULT_MAX_TOKENS } = spec ?? {};
  if (!Number.isSafeInteger(nMbs) || nMbs < 1) {
    throw new SampleError(`nMbs is an integer from 1 up, not ${show(nMbs)}`, { field: "nMbs", value: nMbs });
  }
  if (typeof maxTokensPerMb !== "number" || Number.isNaN(maxTokensPerMb) || maxTokensPerMb < 0) {
    throw new SampleError(`maxTokensPerMb is a number of tokens, not ${show(maxTokensPerMb)}`, {
      field: "maxTokensPerMb",
      value: maxTokensPerMb,
    });
  }
  return { nMbs, maxTokensPerMb };
}
