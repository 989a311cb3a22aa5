/**
 * seqferry moves batches of reinforcement-learning sequences between GPU workers whose models have different parallel layouts.
 *
 * **Concepts.** A {@linkcode SequenceSample} is a batch: ids, and per id and key packed data with ragged lengths. A {@linkcode ClusterLayout} says which shard
 * of which model sits on which rank. A {@linkcode GlobalStorageTracker} knows which rank holds and owns which (id, key). A {@linkcode RedistribPlanner} turns
 * "these ranks are to have these ids" into a plan: plain data, the same on all ranks. A {@linkcode DataManager} holds one rank's samples in
 * device memory and executes plans together with its peers, all or nothing.
 *
 * **Lifecycle of one rank.** {@linkcode openRuntime} opens libcudart and libnccl (or the CPU stand-in that offers the same functions);
 * {@linkcode Communicator.init} joins the other ranks with a unique id that one of them made; {@linkcode DataManager.create} takes the communicator;
 * `store`, `redistribute`, `get`; then dispose in the reverse order, which `await using` does.
 *
 * ```ts ignore
 * using runtime = await openRuntime();
 * const communicator = await Communicator.init(runtime, { uniqueId, rank, worldSize });
 * await using manager = await DataManager.create({ communicator, layout });
 * for (const sample of batch.unpack()) manager.store(sample);
 * const report = await manager.redistribute(meta, plan);
 * const sample = await manager.get("prompt-17").toHost();
 * ```
 *
 * The import graph of this module has relative imports and Deno built-ins only, so that it can be imported by URL.
 *
 * @module
 */

export * from "./src/errors.ts";
export { Deadline, WaitEndedError, type WaitOptions } from "./src/wait.ts";
export * from "./src/flight.ts";

export { type Axis, type Coord, ProcessTopology } from "./src/layout/process_topology.ts";
export { ModelShardId } from "./src/layout/model_shard_id.ts";
export {
  ClusterLayout,
  type ClusterLayoutInit,
  type ModelPlacement,
  type ProcessGroupKeys,
} from "./src/layout/cluster_layout.ts";
export { findMinimalSuperset } from "./src/layout/find_minimal_superset.ts";
export { parseLayouts, type ParseLayoutsOptions } from "./src/layout/parse_layouts.ts";

export type { DType } from "./src/sample/dtype.ts";
export type { HostTensor, TensorHandle } from "./src/sample/tensor.ts";
export * from "./src/sample/sequence_sample.ts";

export * from "./src/plan/step.ts";
export { parsePlan, planToJSON } from "./src/plan/plan_json.ts";
export { validatePlan, type ValidatePlanOptions } from "./src/plan/validate_plan.ts";
export { GlobalStorageTracker, type Holding } from "./src/plan/storage_tracker.ts";
export type { ClusterSpec, CostModel, Link } from "./src/plan/cluster_spec.ts";
export * from "./src/plan/planner.ts";
export { DEFAULT_COST_MODEL } from "./src/plan/cost_model.ts";
export type { PlanMeta, SizedMeta } from "./src/plan/plan_meta.ts";
export { simulatePlan, type SimulatePlanOptions, type Simulation } from "./src/plan/simulate.ts";

export { openRuntime, type Runtime, type RuntimeOptions } from "./src/device/runtime.ts";
export { DeviceBuffer } from "./src/device/device_buffer.ts";
export { type AddressWords, CopyBatch } from "./src/device/copy_batch.ts";
export { Event, Stream } from "./src/device/stream.ts";
export { Communicator, type CommunicatorOptions } from "./src/comm/communicator.ts";
export { GroupCalls, IssuedGroup } from "./src/comm/group.ts";

export { Catalogue, type CatalogueKey } from "./src/transfer/catalogue.ts";
export { type LoweringOptions, lowerPlan } from "./src/transfer/lower.ts";
export type { GroupBroadcast, Message, Phase, Program } from "./src/transfer/program.ts";
export {
  ExportedTensor,
  exportTensor,
  type ImportedTensor,
  importTensor,
  type TensorExport,
} from "./src/transfer/tensor_export.ts";

export { DataManager, type DataManagerOptions } from "./src/manager/data_manager.ts";
export type { RedistribReport, RedistributeOptions } from "./src/manager/transfer.ts";
