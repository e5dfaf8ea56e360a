"""`torch.compile` on virtual GPUs.

To a compiler, a tensor on a virtual GPU is what it says to be: a plain tensor on the device `vgpu:1`. Dynamo captures a
program's operations on it, and the backends that run the captured operations one by one (`eager`, `aot_eager`, one of
your own) run them on the virtual GPU, with its memory and its clock. A backend that makes machine code has none to make
for a virtual GPU: where the tensors of a graph are on one, it says so once, and the operations run as if uncompiled.

Private PyTorch names used here: `torch._TorchCompileWrapper`, `torch._TorchCompileInductorWrapper`; of
`torch._dynamo.device_interface`, `DeviceInterface` and `register_interface_for_device`;
`torch._dynamo.trace_rules.add`; of `torch._dynamo.variables.builder`, `VariableBuilder._type_dispatch` and
`infer_subclass_type`; of `torch._prims.rng_prims`, `run_and_save_rng_state` and `run_with_rng_state`;
`torch._functorch._aot_autograd.runtime_wrappers.HANDLED_TYPES`;
`torch._subclasses.fake_tensor.FakeTensorMode.avoid_device_init`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lab.vgpu import drawing, rng
from lab.vgpu.tensor import VGPUTensor

_RUN_AS_THEY_ARE = ("eager", "aot_eager", "pre_dispatch_eager", "invoke_subgraph", "ts")
"""How the names of backends begin that run the captured operations themselves."""

_taught: list[Any] = []
_warned: set[str] = set()


def register() -> None:
    """From now on, what is compiled may have tensors on virtual GPUs."""
    wrappers: tuple[Any, ...] = (torch._TorchCompileWrapper, torch._TorchCompileInductorWrapper)
    for wrapper in wrappers:
        wrapper.__init__ = _teaching(wrapper.__init__)
        wrapper.__call__ = _leaving_uncompiled(wrapper.__call__)
    # So that `torch.tensor(..., device="vgpu:1")` is traced as a constant of the CPU that is moved there.
    setattr(FakeTensorMode, "avoid_device_init", property(lambda mode: True))  # noqa: B010 - it is a property there
    if "torch._dynamo" in sys.modules:
        _teach()


def _teaching(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes its place
        _teach()
        init(self, *args, **kwargs)

    return __init__


def _leaving_uncompiled(compile_graph: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compile_graph)
    def __call__(self: Any, model_: Any, inputs_: Any, **kwargs: Any) -> Any:  # noqa: N807
        name = getattr(self, "compiler_name", "inductor")
        if name not in _makers() or not _is_on_virtual_gpu(model_, inputs_):
            return compile_graph(self, model_, inputs_, **kwargs)
        if name not in _warned:
            _warned.add(name)
            warnings.warn(
                f"torch.compile(backend={name!r}) makes no code for virtual GPUs, so their operations run as without "
                "compiling: take backend='eager' or 'aot_eager', which capture graphs and run them on virtual GPUs",
                stacklevel=2,
            )
        return model_

    return __call__


def _makers() -> set[str]:
    """The names of the backends that make machine code."""
    import torch._dynamo

    names: list[str] = torch._dynamo.list_backends(exclude_tags=None)
    return {name for name in names if not name.startswith(_RUN_AS_THEY_ARE)}


def _is_on_virtual_gpu(graph: Any, inputs: Any) -> bool:
    """Whether any tensor that is given to the graph, or comes to be in it, is on a virtual GPU."""
    values = [*inputs, *(node.meta.get("example_value") for node in graph.graph.nodes)]
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return any(tensor.device.type == "vgpu" for tensor in tensors)


def _teach() -> None:
    # Loading it takes a second, which only those who compile shall pay.
    if _taught:
        return
    from torch._dynamo import device_interface, trace_rules
    from torch._dynamo.variables import builder as dynamo_builder

    builder: Any = dynamo_builder
    _taught.append(builder)
    trace_rules.add("lab.vgpu")  # the operations of a program are captured, and not what the lab does for each
    builder.VariableBuilder._type_dispatch = classmethod(_with_ours(builder.VariableBuilder._type_dispatch.__func__))
    builder.infer_subclass_type = _taking_for_plain(builder.infer_subclass_type)
    _keep_states_of_generators()
    device_interface.register_interface_for_device("vgpu", _interface(device_interface.DeviceInterface))


def _with_ours(dispatch: Callable[[Any], dict[Any, Any]]) -> Callable[[Any], dict[Any, Any]]:
    def _type_dispatch(cls: Any) -> dict[Any, Any]:
        known = dispatch(cls)
        known[VGPUTensor] = cls.wrap_tensor
        return known

    return _type_dispatch


def _taking_for_plain(infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def infer_subclass_type(value: Any) -> Any:
        return None if type(value) is VGPUTensor else infer(value)

    return infer_subclass_type


def _keep_states_of_generators() -> None:
    """For the two operators by which a compiled checkpoint draws in backward what it drew in forward."""
    from torch._functorch._aot_autograd import runtime_wrappers
    from torch._prims import rng_prims

    types: Any = runtime_wrappers
    if hasattr(types, "HANDLED_TYPES"):  # from torch 2.11 on, where a mode that watches the first run would stop them
        types.HANDLED_TYPES = (*types.HANDLED_TYPES, VGPUTensor)

    def run_and_save(op: Any, *args: Any, **kwargs: Any) -> Any:
        index = drawing.device_of(args, kwargs)
        if index is None:
            return elsewhere[0](op, *args, **kwargs)
        return rng.get_rng_state(index), op(*args, **kwargs)

    def run_with(state: torch.Tensor, op: Any, *args: Any, **kwargs: Any) -> Any:
        index = drawing.device_of(args, kwargs)
        if index is None:
            return elsewhere[1](state, op, *args, **kwargs)
        with rng.set_for_once(index, state):
            return op(*args, **kwargs)

    # An operation without a tensor, such as `torch.rand`, names its device among its arguments.
    key = torch._C.DispatchKey.BackendSelect
    operators: Any = (rng_prims.run_and_save_rng_state, rng_prims.run_with_rng_state)
    elsewhere = [operator.py_kernels.pop(key) for operator in operators]
    for operator, run in zip(operators, (run_and_save, run_with), strict=True):
        operator.py_impl(VGPUTensor)(run)
        operator.py_impl(key)(run)


def _interface(base: Any) -> Any:
    """What dynamo asks a kind of device for."""
    from lab.vgpu import module

    class Interface(base):  # type: ignore[misc]
        Event = module.Event
        Stream = module.Stream
        device = module.device
        current_device = staticmethod(module.current_device)
        set_device = staticmethod(module.set_device)
        device_count = staticmethod(module.device_count)
        is_available = staticmethod(module.is_available)
        stream = staticmethod(module.stream)
        current_stream = staticmethod(module.current_stream)
        set_stream = staticmethod(module.set_stream)
        synchronize = staticmethod(module.synchronize)
        get_device_properties = staticmethod(module.get_device_properties)
        memory_allocated = staticmethod(module.memory_allocated)

        @staticmethod
        def exchange_device(device: int) -> int:
            before = module.current_device()
            module.set_device(device)
            return before

        maybe_exchange_device = exchange_device

        @staticmethod
        def is_bf16_supported(including_emulation: bool = False) -> bool:
            return True

    return Interface
