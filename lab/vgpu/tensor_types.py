"""`torch.vgpu.FloatTensor` and its like: the older names of a tensor's device and dtype together, as `x.type()` gives.

They are for `isinstance`, as an argument of `x.type(...)`, and make tensors as `torch.FloatTensor` does.
"""

from __future__ import annotations

from typing import Any

import torch

DTYPES = {
    "BFloat16Tensor": torch.bfloat16,
    "BoolTensor": torch.bool,
    "ByteTensor": torch.uint8,
    "CharTensor": torch.int8,
    "DoubleTensor": torch.float64,
    "FloatTensor": torch.float32,
    "HalfTensor": torch.float16,
    "IntTensor": torch.int32,
    "LongTensor": torch.int64,
    "ShortTensor": torch.int16,
}


class _Kind(type):
    dtype: torch.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, torch.Tensor) and instance.device.type == "vgpu" and instance.dtype == cls.dtype

    def __call__(cls, *args: Any, device: Any = "vgpu") -> torch.Tensor:
        # A list is numbers; counts are the size of a tensor with any numbers in it.
        name = cls.__name__.rpartition(".")[2]
        made: torch.Tensor = getattr(torch, name)(*args)
        return made.to(device)


def _made(name: str, dtype: torch.dtype) -> Any:
    # PyTorch reads what `x.type(kind)` asks for from the kind's name.
    return _Kind(f"torch.vgpu.{name}", (), {"dtype": dtype, "__doc__": f"A tensor of {dtype} on a virtual GPU."})


TYPES: dict[str, Any] = {name: _made(name, dtype) for name, dtype in DTYPES.items()}
