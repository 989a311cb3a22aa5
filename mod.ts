/** The public door of seqferry. Re-exports only. @module */
export * from "./src/errors.ts";
export type { WaitOptions } from "./src/wait.ts";
