"""What an operation is issued for: forward, backward or the optimizer, and in which layer.

Asked from within `__torch_dispatch__`, in the thread that issues the operation. Nothing is hooked on any module or
tensor of the user's: PyTorch's hooks for all modules and all optimizers tell where the program is, and they are there
only while an `Attribution` is attached.

A backward operation belongs to the layer whose forward made its node in the graph. Nodes carry sequence numbers, which
a thread hands out in order; so it is enough to write down which layer was running from which number on.

Private PyTorch names used here: `torch._C._current_graph_task_id`, `torch._C._current_autograd_node`,
`torch._C._autograd._get_sequence_nr`, `Node._sequence_nr`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_right
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

Kind: TypeAlias = Literal["forward", "backward", "optimizer", "other"]
NO_GRAPH = -1
"""What PyTorch calls the graph task while there is none."""
MAX_BOUNDARIES = 100_000
"""Of the list by which backward finds its layer, per thread; the older half goes when it is full."""


class Origin(NamedTuple):
    """What an operation is for."""

    kind: Kind
    """`forward` inside a module or where the graph for backward is built, `backward` inside the autograd engine,
    `optimizer` inside `step()`; `other` is what remains: making tensors, clipping gradients."""
    layer: str
    """Path of the innermost layer within the outermost module that was called, such as `layer1.0.conv1`; the class's
    name for what that outermost module does itself; empty outside of modules."""
    node: str
    """The autograd node that runs, such as `ConvolutionBackward0`; empty outside of backward."""


class _Thread(threading.local):
    """Where one thread of the program is."""

    def __init__(self) -> None:
        self.calls: list[tuple[nn.Module, str, int]] = []
        """Modules that are running, the outermost first: each with its path and the graph task that it runs in."""
        self.numbers: list[int] = []
        self.layers: list[str] = []
        """From the node of number `numbers[i]` on, the graph is made by `layers[i]`."""
        self.step_code: CodeType | None = None
        """Of the function around the last optimizer step; the step may be over."""
        self.number = torch._C._autograd._get_sequence_nr()
        """What the next node of the graph was to be, when the last operation was issued."""


class Attribution:
    """Knows where every thread is, from `attach()` to `detach()`."""

    def __init__(self) -> None:
        self._thread = _Thread()
        self._paths: weakref.WeakKeyDictionary[nn.Module, dict[int, str]] = weakref.WeakKeyDictionary()
        self._owners: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}
        """By the parameter's id: the parameter, and the layer that it belongs to."""
        self._handles: list[Any] = []

    def attach(self) -> None:
        self._thread = _Thread()
        self._handles += [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),  # after an exception too
            register_optimizer_step_pre_hook(self._step),
        ]

    def detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def origin(self) -> Origin:
        """Of the operation that this thread has just issued."""
        here = self._thread
        number, here.number = here.number, torch._C._autograd._get_sequence_nr()
        layer, entered_in = (here.calls[-1][1], here.calls[-1][2]) if here.calls else ("", NO_GRAPH)
        task = torch._C._current_graph_task_id()
        if task != NO_GRAPH:
            # A module that was entered during backward computes again what a checkpoint dropped.
            return Origin("forward", layer, "") if entered_in == task else self._backward()
        if here.step_code is not None and not torch.is_grad_enabled() and _is_running(here):
            return Origin("optimizer", "", "")
        if here.calls or here.number > number:
            return Origin("forward", layer, "")
        return Origin("other", "", "")

    def _backward(self) -> Origin:
        node = torch._C._current_autograd_node()
        if node is None:
            return Origin("backward", "", "")
        name = node.name().rpartition("::")[2]
        variable = getattr(node, "variable", None)
        if variable is not None:  # the node that adds to a parameter's gradient; it has no place in the order
            owner, layer = self._owners.get(id(variable), (None, ""))
            return Origin("backward", layer if owner is not None and owner() is variable else "", name)
        here = self._thread
        place = bisect_right(here.numbers, node._sequence_nr()) - 1
        return Origin("backward", here.layers[place] if place >= 0 else "", name)

    # -- hooks -----------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, args: Any) -> None:
        here = self._thread
        path = self._path(here.calls[0][0] if here.calls else module, module)
        here.calls.append((module, path, torch._C._current_graph_task_id()))
        self._note_boundary()

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        calls = self._thread.calls
        if any(call[0] is module for call in calls):  # it may have been running before we came
            while calls.pop()[0] is not module:
                pass  # what was inside it was left without a word
        self._note_boundary()

    def _step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._thread.step_code = sys._getframe(1).f_code

    def _note_boundary(self) -> None:
        here = self._thread
        number = torch._C._autograd._get_sequence_nr()
        layer = here.calls[-1][1] if here.calls else ""
        if here.numbers and here.numbers[-1] == number:
            here.layers[-1] = layer
            return
        if len(here.numbers) >= MAX_BOUNDARIES:
            del here.numbers[: MAX_BOUNDARIES // 2], here.layers[: MAX_BOUNDARIES // 2]
        here.numbers.append(number)
        here.layers.append(layer)

    def _path(self, root: nn.Module, module: nn.Module) -> str:
        paths = self._paths.get(root)
        if paths is None or id(module) not in paths:
            paths = self._paths[root] = {id(inner): name for name, inner in root.named_modules()}
            for name, parameter in root.named_parameters():
                self._owners[id(parameter)] = (weakref.ref(parameter), name.rpartition(".")[0] or type(root).__name__)
        return paths.get(id(module)) or type(module).__name__


def _is_running(here: _Thread) -> bool:
    """Whether the optimizer's step is among the callers. PyTorch does not tell when a step ends in an exception."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is here.step_code:
            return True
        frame = frame.f_back
    here.step_code = None
    return False
