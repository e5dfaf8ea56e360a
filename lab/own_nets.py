"""What has to be done for any net that plain PyTorch runs: copies of it, its numbers' type, its lazy parameters."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lab._torch_compat import is_compiled
from lab.errors import LabError


def copy_of(net: nn.Module) -> nn.Module:
    """A copy of the net, also of one that `copy.deepcopy` refuses.

    Tensors that were computed, as the weight under `torch.nn.utils.weight_norm` is, are copied without their graph;
    what else cannot be copied, such as a lock or an open file, is shared with the copy.
    """
    return _copied(net, {id(part): _scripted_copy(part) for part in _scripted(net)})


def without_numbers(net: nn.Module) -> nn.Module:
    """A copy of the net on the meta device. Unlike `net.to("meta")` it keeps parameters that layers share shared.

    Raises:
        LabError: when parts of the net are scripted, which cannot be there.
    """
    if _scripted(net):
        raise LabError("a scripted layer cannot be copied without its numbers")
    memo: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in net.buffers()}
    for parameter in net.parameters():
        shape = torch.empty_like(parameter, device="meta", requires_grad=False)
        memo[id(parameter)] = nn.Parameter(shape, parameter.requires_grad)
    return _copied(net, memo).to("meta")


def _copied(net: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy, with these parts of it copied already."""
    copied: nn.Module | None = _deep_copy(net, memo)
    if copied is not None:
        return copied
    held = [value for module in net.modules() for value in vars(module).values()]
    memo.update(
        {id(value): value.detach().clone() for value in held if isinstance(value, Tensor) and not value.is_leaf}
    )
    for value in held:
        if not (isinstance(value, Tensor | nn.Module) or _holds_parts(value) or _deep_copy(value, memo) is not None):
            memo[id(value)] = value
    made: nn.Module = copy.deepcopy(net, memo)
    return made


def _scripted(module: nn.Module) -> list[nn.Module]:
    """The scripted parts of the net, each as a whole."""
    if isinstance(module, torch.jit.ScriptModule):
        return [module]
    return [part for child in module.children() for part in _scripted(child)]


def _scripted_copy(part: nn.Module) -> nn.Module:
    """`copy.deepcopy` of a scripted module has tensors that were computed where its parameters were."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is the user's choice to script
        torch.jit.save(part, written)
        written.seek(0)
        loaded: nn.Module = torch.jit.load(written)
    return loaded.train(part.training)


def _holds_parts(value: Any) -> bool:
    """Whether it is one of the dictionaries in which a module keeps its parameters, buffers and children."""
    return isinstance(value, dict) and any(isinstance(item, Tensor | nn.Module) for item in value.values())


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    """A copy, with these parts of it copied already; None of what cannot be copied, or is None."""
    try:
        return copy.deepcopy(value, dict(memo))
    except Exception:  # noqa: BLE001 - whatever an attribute of the net raises, it cannot be copied
        return None


def as_written(net: nn.Module) -> AbstractContextManager[Any]:
    """Inside, compiled parts of the net run as they are written, so that their layers and operations are seen."""
    if any(is_compiled(module) for module in net.modules()):
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return contextlib.nullcontext()  # that of the compiler would load it


def to_dtype(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Gives this type to what is of the default float type, and leaves the rest: a layer that was made as bfloat16 was
    meant so, and complex numbers would lose their imaginary part. The net itself is changed, as by `net.to(dtype)`."""
    default = torch.get_default_dtype()
    if dtype == default:
        return net
    for parameter in net.parameters():
        if parameter.dtype == default and not is_lazy(parameter):
            parameter.data = parameter.data.to(dtype)
            if parameter.grad is not None:
                parameter.grad = parameter.grad.to(dtype)
    for module in net.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dtype == default:
                setattr(module, name, buffer.to(dtype))
    return net


def input_dtype(net: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The type of images for this net in a run of that type: the run's, unless the net has numbers of other types
    only."""
    own = [tensor.dtype.to_real() for tensor in net.parameters() if tensor.is_floating_point() or tensor.is_complex()]
    return dtype if dtype in own or not own else own[0]


def materialise(net: nn.Module, inputs: Tensor) -> None:
    """Gives lazy layers (`nn.LazyLinear`) their parameters, which they have when they have seen an input.

    It is done in evaluation mode, so that nothing but their initialisation takes random numbers or changes statistics.
    """
    if not any(is_lazy(tensor) for tensor in (*net.parameters(), *net.buffers())):
        return
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        for module in training:
            module.training = True
