"""The Python side of seqferry's hand-over check (`scripts/gpu_check/handover.ts`): opens and gives tensors as it is told.

    python3 handover_peer.py cuda|cpu

One JSON command a line; answers are lines that begin with a word of their own, then {"ok": ..., "ms": ...} or {"error": {...}, "ms": ...}.

    {"op": "open", "description": {...}}   -> {"sha256": ..., "torch": true where the bytes came by way of a torch tensor, "openMs": ...}
    {"op": "give"}                         -> a description of a tensor whose bytes are 0, 1, 2, ... modulo 251
    {"op": "close"}                        -> null: what was given may go
"""

import ctypes
import hashlib
import json
import sys
import time

import seqferry_ipc

ANSWER = "gpu-check-answer "
BACKEND = sys.argv[1] if len(sys.argv) > 1 else "cuda"

# The stand-in's memory is none that torch could take.
HAS_TORCH = False
if BACKEND == "cuda":
    try:
        import torch

        HAS_TORCH = torch.cuda.is_available()
    except ImportError:
        pass

GIVEN_BYTES = 1 << 20
given = None


def open_one(description):
    started = time.perf_counter()
    with seqferry_ipc.open_tensor(description) as opened:
        open_ms = (time.perf_counter() - started) * 1000
        direct = opened.to_host()
        if not HAS_TORCH:
            return {"sha256": hashlib.sha256(direct).hexdigest(), "torch": False, "openMs": open_ms}
        tensor = opened.tensor
        if tensor.data_ptr() != opened.address:
            raise RuntimeError("torch made a copy")
        data = tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes()
        if data != direct:
            raise RuntimeError("torch's bytes are not the memory's")
        return {"sha256": hashlib.sha256(data).hexdigest(), "torch": True, "openMs": open_ms}


def give():
    global given
    if HAS_TORCH:
        values = (torch.arange(GIVEN_BYTES, device="cuda") % 251).to(torch.uint8)
        given = seqferry_ipc.export_tensor(values)
    else:
        cudart, address = seqferry_ipc.cudart(), ctypes.c_void_p()
        cudart.call("cudaSetDevice", 0)
        cudart.call("cudaMalloc", ctypes.byref(address), GIVEN_BYTES)
        data = bytes(i % 251 for i in range(GIVEN_BYTES))
        cudart.call("cudaMemcpy", address, data, GIVEN_BYTES, 1)
        given = seqferry_ipc.ExportedTensor("uint8", [GIVEN_BYTES], 0, address.value, 0, None, address)
    return given.description


def close():
    global given
    # A torch tensor goes with its last reference; the memory that this side allocated itself is freed by hand.
    memory = given.keep
    given.close()
    given = None
    if not HAS_TORCH:
        seqferry_ipc.cudart().call("cudaFree", memory)


def obey(command):
    if command["op"] == "open":
        return open_one(command["description"])
    if command["op"] == "give":
        return give()
    if command["op"] == "close":
        return close()
    raise ValueError(f"op is {command['op']!r}, which is none")


for line in sys.stdin:
    started = time.perf_counter()
    try:
        answer = {"ok": obey(json.loads(line))}
    except Exception as error:
        answer = {"error": {"name": type(error).__name__, "message": str(error)}}
    answer["ms"] = (time.perf_counter() - started) * 1000
    print(ANSWER + json.dumps(answer), flush=True)
