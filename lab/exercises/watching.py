"""What an answer's tensors do while it runs: on which devices they are made, and which activations are kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

MULTIPLIES = ("conv2d", "linear", "matmul", "__matmul__", "mm", "addmm", "bmm", "einsum")
"""What layers do with their parameters, as PyTorch's functions are called."""


class Operations(TorchFunctionMode):
    """Notes every call of a PyTorch function inside its block: where its result is, and what was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[str, torch.device]] = []
        """Function and the device of its result, in their order."""
        self.refused: list[str] = []
        """What PyTorch said of calls that it refused, whether or not the answer went on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            result = func(*args, **(kwargs or {}))
        except RuntimeError as error:
            self.refused.append(str(error).split("\n")[0])
            raise
        if isinstance(result, torch.Tensor):
            self.places.append((getattr(func, "__name__", ""), result.device))
        return result

    def of_layers(self, *names: str) -> list[torch.device]:
        """Where layers' results were, in their order."""
        return [device for name, device in self.places if name in (names or MULTIPLIES)]


class _Kept:
    """A tensor that autograd keeps for a backward."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Activations:
    """How many bytes autograd keeps for backwards that are still to come, parameters left out."""

    def __init__(self) -> None:
        self.now_bytes = self.peak_bytes = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Counts what is kept inside the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor):
            yield

    def _pack(self, tensor: torch.Tensor) -> _Kept:
        kept = _Kept(tensor.detach())  # with its graph, the two would keep each other
        root = tensor if tensor._base is None else tensor._base
        if not isinstance(root, torch.nn.Parameter):
            size = tensor.numel() * tensor.element_size()
            self._changed(size)
            weakref.finalize(kept, self._changed, -size)
        return kept

    def _changed(self, by: int) -> None:
        self.now_bytes += by
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)


def kept_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of activations that autograd keeps at a time while `work` runs."""
    watch = Activations()
    with watch.watched():
        work()
    return watch.peak_bytes
