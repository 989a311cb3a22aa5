"""Tensors of seqferry in PyTorch, and PyTorch's in seqferry, without a copy, by CUDA IPC.

A seqferry worker describes a stored tensor with `exportTensor(...)`; the description is JSON:

    {"dtype": "bfloat16", "shape": [512, 4], "byteLength": 4096, "device": "0000:01:00.0",
     "memory": base64 of cudaIpcMemHandle_t, "offset": bytes, "event": base64 of cudaIpcEventHandle_t or null}

`open_tensor(description)` opens it in another process on the same GPU:

    with open_tensor(description) as opened:
        rewards = opened.tensor.sum()          # a torch tensor on the worker's own memory: read it only

`export_tensor(tensor)` goes the other way: seqferry's `importTensor(runtime, exported.description)` opens a torch tensor, which
`DataManager.store` then takes as it is. Keep what `export_tensor` returned until seqferry has let the tensor go.

Needs nothing but ctypes and a libcudart; torch only where tensors are asked for.
"""

from __future__ import annotations

import base64
import ctypes
import os

HANDLE_BYTES = 64
EVENT_INTERPROCESS_WITHOUT_TIMING = 0x4 | 0x2
LAZY_ENABLE_PEER_ACCESS = 0x1
DEVICE_TO_HOST = 2
ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}


class Handle(ctypes.Structure):
    """cudaIpcMemHandle_t and cudaIpcEventHandle_t: passed by value."""

    _fields_ = [("reserved", ctypes.c_char * HANDLE_BYTES)]

    @classmethod
    def from_text(cls, text: str) -> "Handle":
        raw = base64.b64decode(text, validate=True)
        if len(raw) != HANDLE_BYTES:
            raise ValueError(f"a handle has {HANDLE_BYTES} bytes, not {len(raw)}")
        return cls.from_buffer_copy(raw)

    def text(self) -> str:
        return base64.b64encode(bytes(self)).decode("ascii")


class CudaError(RuntimeError):
    """A libcudart call that failed: `call`, `code`."""

    def __init__(self, call: str, code: int, meaning: str):
        super().__init__(f"{call} answered {code}: {meaning}")
        self.call = call
        self.code = code


class Cudart:
    """The calls of libcudart that take part. One process has one primary context per device, whichever libcudart is asked."""

    SIGNATURES = {
        "cudaSetDevice": [ctypes.c_int],
        "cudaGetDeviceCount": [ctypes.POINTER(ctypes.c_int)],
        "cudaDeviceGetPCIBusId": [ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
        "cudaMalloc": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t],
        "cudaFree": [ctypes.c_void_p],
        "cudaMemcpy": [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int],
        "cudaIpcGetMemHandle": [ctypes.POINTER(Handle), ctypes.c_void_p],
        "cudaIpcOpenMemHandle": [ctypes.POINTER(ctypes.c_void_p), Handle, ctypes.c_uint],
        "cudaIpcCloseMemHandle": [ctypes.c_void_p],
        "cudaIpcGetEventHandle": [ctypes.POINTER(Handle), ctypes.c_void_p],
        "cudaIpcOpenEventHandle": [ctypes.POINTER(ctypes.c_void_p), Handle],
        "cudaEventCreateWithFlags": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint],
        "cudaEventRecord": [ctypes.c_void_p, ctypes.c_void_p],
        "cudaEventSynchronize": [ctypes.c_void_p],
        "cudaEventDestroy": [ctypes.c_void_p],
    }

    def __init__(self, path: str | None = None):
        tried = []
        names = [path] if path else ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"]
        for name in names:
            try:
                self.library = ctypes.CDLL(name)
                break
            except OSError as error:
                tried.append(f"{name}: {error}")
        else:
            raise OSError("libcudart was not found; set SEQFERRY_CUDART to its path. Tried " + "; ".join(tried))
        self.library.cudaGetErrorString.restype = ctypes.c_char_p
        for name, parameters in self.SIGNATURES.items():
            function = getattr(self.library, name)
            function.argtypes = parameters
            function.restype = ctypes.c_int

    def call(self, name: str, *arguments) -> None:
        """Calls a function of the table; raises CudaError for any answer but cudaSuccess."""
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            raise CudaError(name, code, (self.library.cudaGetErrorString(code) or b"").decode("utf-8", "replace"))

    def bus_id(self, device: int) -> str:
        text = ctypes.create_string_buffer(32)
        self.call("cudaDeviceGetPCIBusId", text, 32, device)
        return text.value.decode("ascii").lower()

    def device_at(self, bus_id: str) -> int:
        """This process's ordinal of the device at a place on the PCI bus."""
        count = ctypes.c_int()
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        for device in range(count.value):
            if self.bus_id(device) == bus_id.lower():
                return device
        raise LookupError(f"this process sees no device {bus_id}")


_cudart: Cudart | None = None


def cudart() -> Cudart:
    """The library, opened once: the one that SEQFERRY_CUDART names, else the loader's."""
    global _cudart
    if _cudart is None:
        path = os.environ.get("SEQFERRY_CUDART") or None
        if path is not None and os.path.isdir(path):
            names = sorted((name for name in os.listdir(path) if name.startswith("libcudart.so")), reverse=True)
            if not names:
                raise OSError(f"there is no libcudart.so in {path}, which SEQFERRY_CUDART names")
            path = os.path.join(path, names[0])
        _cudart = Cudart(path)
    return _cudart


class OpenedTensor:
    """A seqferry tensor, open here. `close()`, or leaving a `with`, closes it; nothing may use `tensor` after that."""

    def __init__(self, description: dict):
        dtype, shape = description["dtype"], [int(size) for size in description["shape"]]
        if dtype not in ITEM_BYTES:
            raise ValueError(f"dtype is {dtype!r}, which is none")
        if any(size < 0 for size in shape):
            raise ValueError(f"shape is sizes from 0 up, not {shape!r}")
        expected, offset = ITEM_BYTES[dtype], int(description["offset"])
        for size in shape:
            expected *= size
        if offset < 0:
            raise ValueError(f"offset is a number of bytes from 0 up, not {offset}")
        if description["byteLength"] != expected:
            raise ValueError(f"byteLength of {dtype} {shape} is {expected}, not {description['byteLength']!r}")
        self.description = description
        self.byte_length = expected
        self.device = cudart().device_at(description["device"])
        cudart().call("cudaSetDevice", self.device)
        if description["event"] is not None:
            event = ctypes.c_void_p()
            cudart().call("cudaIpcOpenEventHandle", ctypes.byref(event), Handle.from_text(description["event"]))
            try:
                cudart().call("cudaEventSynchronize", event)
            finally:
                cudart().call("cudaEventDestroy", event)
        base = ctypes.c_void_p()
        cudart().call("cudaIpcOpenMemHandle", ctypes.byref(base), Handle.from_text(description["memory"]), LAZY_ENABLE_PEER_ACCESS)
        self.base: int | None = base.value
        self.address = base.value + offset

    @property
    def __cuda_array_interface__(self) -> dict:
        """The bytes, as PyTorch and others take them without a copy."""
        return {"shape": (self.byte_length,), "typestr": "|u1", "data": (self.address, False), "version": 2}

    @property
    def tensor(self):
        """A torch tensor on the worker's memory."""
        import torch

        if self.base is None:
            raise ValueError("the tensor was closed")
        dtype, shape = getattr(torch, self.description["dtype"]), self.description["shape"]
        device = torch.device("cuda", self.device)
        if self.byte_length == 0:
            return torch.empty(shape, dtype=dtype, device=device)
        return torch.as_tensor(self, device=device).view(dtype).reshape(shape)

    def to_host(self) -> bytes:
        """A copy of the bytes, without torch."""
        if self.base is None:
            raise ValueError("the tensor was closed")
        host = ctypes.create_string_buffer(self.byte_length)
        cudart().call("cudaMemcpy", host, self.address, self.byte_length, DEVICE_TO_HOST)
        return host.raw

    def close(self) -> None:
        if self.base is not None:
            cudart().call("cudaSetDevice", self.device)
            cudart().call("cudaIpcCloseMemHandle", self.base)
            self.base = None

    def __enter__(self) -> "OpenedTensor":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_tensor(description: dict) -> OpenedTensor:
    """Opens a seqferry tensor by its description, once its bytes are there."""
    return OpenedTensor(description)


class ExportedTensor:
    """Memory that seqferry may have open. Keep it until seqferry has let the tensor go, then `close()` it."""

    def __init__(self, dtype: str, shape: list, device: int, base: int, offset: int, stream: int, keep=None):
        self.keep = keep
        cudart().call("cudaSetDevice", device)
        memory, shared, self.event = Handle(), Handle(), ctypes.c_void_p()
        cudart().call("cudaIpcGetMemHandle", ctypes.byref(memory), base)
        cudart().call("cudaEventCreateWithFlags", ctypes.byref(self.event), EVENT_INTERPROCESS_WITHOUT_TIMING)
        cudart().call("cudaEventRecord", self.event, stream)
        cudart().call("cudaIpcGetEventHandle", ctypes.byref(shared), self.event)
        byte_length = ITEM_BYTES[dtype]
        for size in shape:
            byte_length *= size
        self.description = {
            "dtype": dtype,
            "shape": list(shape),
            "byteLength": byte_length,
            "device": cudart().bus_id(device),
            "memory": memory.text(),
            "offset": offset,
            "event": shared.text(),
        }

    def close(self) -> None:
        if self.event is not None:
            cudart().call("cudaEventDestroy", self.event)
        self.event = self.keep = None


def export_tensor(tensor) -> ExportedTensor:
    """Lets seqferry open a contiguous torch tensor. PyTorch's expandable segments have no handles: leave them off."""
    import torch

    if not tensor.is_cuda or not tensor.is_contiguous():
        raise ValueError("only a contiguous tensor on a GPU can be exported")
    driver = ctypes.CDLL("libcuda.so.1")
    base, size = ctypes.c_uint64(), ctypes.c_size_t()
    code = driver.cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(tensor.data_ptr()))
    if code != 0:
        raise RuntimeError(f"cuMemGetAddressRange answered {code} for {tensor.data_ptr():#x}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    stream = torch.cuda.current_stream(tensor.device).cuda_stream
    return ExportedTensor(dtype, list(tensor.shape), tensor.device.index, base.value, tensor.data_ptr() - base.value, stream, tensor)
