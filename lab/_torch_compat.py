"""What the lab must do for PyTorch packages that do not quite fit each other, and the private names that it needs.

Private PyTorch names used here: `torch.utils._python_dispatch.TorchDispatchMode`, `UntypedStorage._cdata`,
`OpOverload._schema`, `OpOverload._overloadpacket`, `OptimizedModule._orig_mod`, `Module._compiled_call_impl`,
`torch._amp_foreach_non_finite_check_and_unscale_`, `torch.autograd.graph._engine_run_backward`.

Tried on torch 2.13.0 (CPU build) with torchvision 0.28.0 (registry wheel, built against CUDA).
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = [
    "Scaler",
    "TorchDispatchMode",
    "flop_formula",
    "import_torchvision",
    "is_compiled",
    "operator_name",
    "run_backward",
    "storage_key",
]

_lock = threading.RLock()
_declared: torch.library.Library | None = None
"""Keeps the declared operators alive: they vanish with their Library."""

# torchvision's Python side attaches meta kernels to these two when it is imported, whether or not its compiled
# operators could be loaded. Signatures as in torchvision/csrc/ops/nms.cpp and .../ops/quantized/cpu/qnms_kernel.cpp.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def storage_key(tensor: torch.Tensor) -> int:
    """Names the tensor's storage for as long as it lives; views share it with what they are views of."""
    return int(tensor.untyped_storage()._cdata)


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether `torch.compile` made it, or `module.compile()` was called."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def operator_name(func: Any) -> str:
    """`add` for the operator overload `aten::add_.Tensor`."""
    return str(func._schema.name).removeprefix("aten::").rstrip("_")


def flop_formula(func: Any) -> Callable[..., int] | None:
    """Counts an operator's FLOPs from its arguments and `out_val`; None for one without a formula."""
    return flop_registry.get(func._overloadpacket)


def run_backward(loss: torch.Tensor) -> None:
    """`loss.backward()` for a scalar. That is itself a function which a `TorchFunctionMode` is told of, so that it sees
    nothing inside; this is what it calls."""
    gradient = torch.ones_like(loss)
    torch.autograd.graph._engine_run_backward(
        (loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


class Scaler:
    """Multiplies float32 tensors on the CPU by a factor, and looks meanwhile whether all their numbers are finite: what
    GradScaler does to gradients. It takes one pass over memory where two operations take two."""

    def __init__(self, factor: float) -> None:
        self._factor = torch.tensor(factor)
        self._found = torch.zeros(())
        """Becomes 1 with the first number that is not finite, and stays so."""

    def scale(self, tensor: torch.Tensor) -> None:
        """In place."""
        torch._amp_foreach_non_finite_check_and_unscale_([tensor], self._found, self._factor)

    @property
    def finite(self) -> bool:
        """Whether all numbers so far were."""
        return not self._found.item()


def import_torchvision() -> ModuleType:
    """The torchvision package, imported on the first call; also beside a torch that it was not built for.

    A CPU-only torch beside the registry's torchvision wheel cannot `import torchvision` ("operator torchvision::nms
    does not exist", https://github.com/pytorch/pytorch/issues/122494): its compiled operators need CUDA libraries.
    Nothing here uses them (data sets, transforms and classification nets are Python), so declaring the operators is
    enough. Calling one of them still raises.

    Raises:
        ImportError: when torchvision is missing, or does not fit the installed torch for another reason.
    """
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise _misfit(error) from error
        _forget_half_imported()
        _declare_operators()
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            _forget_half_imported()
            raise _misfit(error) from error


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_operators() -> None:
    global _declared
    if _declared is not None:
        return
    import torch

    # A fragment may add to what torchvision declared itself.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not _exists(schema.partition("(")[0]):
            library.define(schema)
    _declared = library


def _exists(operator: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, operator)


def _misfit(error: RuntimeError) -> ImportError:
    import torch

    return ImportError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {error}. Install the torchvision release "
        "made for this torch (https://github.com/pytorch/vision#installation).",
        name="torchvision",
    )
