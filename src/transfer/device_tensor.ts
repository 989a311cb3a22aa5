/**
 * A tensor in device memory.
 *
 * @module
 */

import type { Region } from "../device/slab.ts";
import { ClosedError } from "../errors.ts";
import type { DType } from "../sample/dtype.ts";
import type { HostTensor, TensorHandle } from "../sample/tensor.ts";
import { Deadline, type WaitOptions } from "../wait.ts";

/** A handle on a region of device memory that holds a tensor, row-major. Whoever owns the region releases it when the tensor goes. */
export class DeviceTensor implements TensorHandle {
  /** Element type. */
  readonly dtype: DType;
  /** Row-major shape: sequence elements first, then the trailing shape. */
  readonly shape: readonly number[];
  /** Size in bytes. */
  readonly byteLength: number;
  /** Where it is. */
  readonly region: Region;

  /** Names what lies in `region`; owns nothing by that. */
  constructor(region: Region, dtype: DType, shape: readonly number[]) {
    this.region = region;
    this.dtype = dtype;
    this.shape = shape;
    this.byteLength = region.byteLength;
  }

  /** Copies the tensor to the host. Rejects with a {@linkcode ClosedError} once its id was updated or removed, or its manager disposed. */
  async toHost(options: WaitOptions = {}): Promise<HostTensor> {
    if (this.region.released) {
      throw new ClosedError("the tensor is gone: its id was updated or removed, or its manager disposed");
    }
    const deadline = new Deadline(options);
    const { copier } = this.region.slab.runtime;
    const bytes = await this.region.whileReading((address) => copier.read(address, this.byteLength, deadline));
    return { dtype: this.dtype, shape: [...this.shape], bytes };
  }
}
