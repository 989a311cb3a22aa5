/**
 * Handing tensors to other processes on the same device, and taking theirs, without a copy.
 *
 * The one that gives describes its tensor by CUDA IPC handles: the allocation, where in it the tensor lies, and an event behind everything that writes
 * it. The one that takes opens both, waits for the event, and has the same bytes at an address of its own. A description is plain JSON, so that a
 * process in another language takes part too: `scripts/python/seqferry_ipc.py` does it for PyTorch.
 *
 * @module
 */

import { CUDA_IPC_HANDLE_SIZE } from "../../ffi/constants.ts";
import { closeMemory, memoryHandle, openMemory, pciBusId } from "../device/ipc.ts";
import { deviceRuntime, type Runtime } from "../device/runtime.ts";
import { Slab } from "../device/slab.ts";
import { Event } from "../device/stream.ts";
import { isCount } from "../count.ts";
import { ClosedError, SeqferryError } from "../errors.ts";
import { type DType, isDType, itemSize } from "../sample/dtype.ts";
import type { HostTensor, TensorHandle } from "../sample/tensor.ts";
import { show } from "../show.ts";
import { Deadline, pollUntil, type WaitOptions } from "../wait.ts";
import { DeviceTensor } from "./device_tensor.ts";

/** Where another process finds a tensor. Plain JSON; good as long as its giver holds it. */
export interface TensorExport {
  /** Element type. */
  readonly dtype: DType;
  /** Row-major shape. */
  readonly shape: readonly number[];
  /** Size in bytes: the product of `shape` times the item size. */
  readonly byteLength: number;
  /** The device's place on the PCI bus, e.g. `0000:01:00.0`. */
  readonly device: string;
  /** `cudaIpcMemHandle_t` of the allocation that the tensor lies in: 64 bytes in base64. */
  readonly memory: string;
  /** Where in that allocation the tensor begins, in bytes. */
  readonly offset: number;
  /** `cudaIpcEventHandle_t` of the event behind all that writes the tensor: 64 bytes in base64. Null where its giver waited for that itself. */
  readonly event: string | null;
}

/** A tensor that other processes may have open. Disposing it says that none has any more. */
export class ExportedTensor implements Disposable {
  /** What to send to the one who takes it. */
  readonly description: TensorExport;
  readonly #end: () => void;

  /** Made by {@linkcode exportTensor}. */
  constructor(description: TensorExport, end: () => void) {
    this.description = description;
    this.#end = end;
  }

  /** Lets the tensor's memory go and move again. Every process that opened it must have closed it. */
  [Symbol.dispose](): void {
    this.#end();
  }
}

/**
 * Lets other processes on the same device open a stored tensor: one of the handles that `DataManager.get` gives.
 *
 * Until what this returns is disposed the tensor's memory stays where it is, also when its id is updated or removed or its manager disposed. Whoever opens
 * it is to read it only: other samples may share its bytes.
 *
 * @throws {SeqferryError} for a tensor that is not on a device of this process.
 * @throws {ClosedError} for a tensor whose id is gone.
 * @throws {CudaError} where the device or its driver has no IPC.
 */
export function exportTensor(tensor: TensorHandle | HostTensor): ExportedTensor {
  if (!(tensor instanceof DeviceTensor)) throw new SeqferryError("only a tensor in device memory can be exported");
  const { region, dtype, shape, byteLength } = tensor;
  if (region.released) throw new ClosedError("the tensor is gone: its id was updated or removed");
  const { slab } = region;
  const { runtime } = slab;
  const event = new Event(runtime, "interprocess");
  try {
    // What writes stored tensors: uploads and compaction go through this stream, and a transfer has passed its own before it installs.
    event.record(runtime.copier.stream);
    const description: TensorExport = {
      dtype,
      shape: [...shape],
      byteLength,
      device: pciBusId(runtime),
      memory: memoryHandle(runtime, slab.address).toBase64(),
      offset: Number(region.address - slab.address),
      event: event.ipcHandle().toBase64(),
    };
    const { promise, resolve } = Promise.withResolvers<void>();
    let ended = false;
    // A region that is being read neither moves nor goes.
    region.whileReading(() => promise);
    return new ExportedTensor(description, () => {
      if (ended) return;
      ended = true;
      event[Symbol.dispose]();
      resolve();
    });
  } catch (error) {
    event[Symbol.dispose]();
    throw error;
  }
}

/**
 * Another process's tensor, opened here. `DataManager.store` takes it as it is, without a copy. Disposing it closes the memory as soon as no sample holds it
 * any more; the giver may dispose its export only after that.
 */
export interface ImportedTensor extends TensorHandle, Disposable {}

class OpenedTensor extends DeviceTensor implements ImportedTensor {
  #disposed = false;

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.region.release();
  }
}

/**
 * Opens another process's tensor on the same device; resolves when its bytes are there.
 *
 * @param runtime The device that it is on.
 * @param description What the giver's export says; checked, since it comes from elsewhere.
 * @param options How long to wait for the giver's event.
 * @throws {SeqferryError} for a description that cannot be, or of another device.
 * @throws {CudaError} where the handles cannot be opened: the giver is gone, or is this process.
 */
export async function importTensor(
  runtime: Runtime,
  description: TensorExport,
  options: WaitOptions = {},
): Promise<ImportedTensor> {
  const deadline = new Deadline(options);
  const device = deviceRuntime(runtime);
  const { dtype, shape, byteLength, offset, memory, event, device: there } = checkedTensorExport(description);
  const here = pciBusId(device);
  if (there.toLowerCase() !== here) {
    throw new SeqferryError(`the exported tensor is on device ${there}, and this runtime drives ${here}`);
  }
  if (event !== null) {
    using written = new Event(device, event);
    await pollUntil("the event of an imported tensor", () => written.isDone(), deadline);
  }
  const address = openMemory(device, memory);
  const slab = new Slab(device, offset + byteLength, { address, giveBack: () => closeMemory(device, address) });
  const region = slab.region(offset, byteLength);
  slab.seal();
  return new OpenedTensor(region, dtype, shape);
}

/** What a description says, its handles as bytes. */
interface CheckedExport extends Omit<TensorExport, "memory" | "event"> {
  readonly memory: Uint8Array;
  readonly event: Uint8Array | null;
}

/**
 * Reads a description that came from elsewhere. Whether its handles are any process's is for the driver to say.
 *
 * @throws {SeqferryError} that names the field, when it is not of that form or does not hold together.
 */
export function checkedTensorExport(description: unknown): CheckedExport {
  if (typeof description !== "object" || description === null) {
    throw new SeqferryError(`an exported tensor is described by an object, not ${show(description)}`);
  }
  const { dtype, shape, byteLength, offset, device, memory, event } = description as Record<string, unknown>;
  if (!isDType(dtype)) throw new SeqferryError(`dtype of an exported tensor is ${show(dtype)}, which is none`);
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw new SeqferryError(`shape of an exported tensor is sizes from 0 up, not ${show(shape)}`);
  }
  const expected = shape.reduce((product: number, size: number) => product * size, itemSize(dtype));
  if (byteLength !== expected || !Number.isSafeInteger(expected)) {
    throw new SeqferryError(
      `byteLength of an exported tensor of ${dtype} ${show(shape)} is ${expected}, not ${show(byteLength)}`,
    );
  }
  if (!isCount(offset) || !isCount(offset + expected)) {
    throw new SeqferryError(`offset of an exported tensor is a number of bytes from 0 up, not ${show(offset)}`);
  }
  if (typeof device !== "string") {
    throw new SeqferryError(`device of an exported tensor is a PCI bus id, not ${show(device)}`);
  }
  return {
    dtype,
    shape: [...shape],
    byteLength: expected,
    offset,
    device,
    memory: handleBytes("memory", memory),
    event: event === null ? null : handleBytes("event", event),
  };
}

function handleBytes(field: string, text: unknown): Uint8Array {
  let bytes: Uint8Array | undefined;
  try {
    bytes = Uint8Array.fromBase64(text as string);
  } catch {
    // Told below.
  }
  if (bytes?.byteLength === CUDA_IPC_HANDLE_SIZE) return bytes;
  throw new SeqferryError(
    `${field} of an exported tensor is ${CUDA_IPC_HANDLE_SIZE} bytes in base64, not ${show(text)}`,
  );
}
