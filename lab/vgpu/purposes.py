"""What the memory of virtual GPUs is used for: parameters, gradients, optimizer state, activations, other.

    with MemoryLedger(vgpu.current()) as ledger:
        train_step()
    ledger.at_peak(0)      # {"parameters": 940584, "gradients": 940584, ...}

The ledger watches every block of memory from when it is reserved to when it is released. It decides what a block is for
when that shows, and then for the block's whole life: a tensor made in backward that becomes a parameter's `.grad` was a
gradient from the beginning.

    parameters        what `nn.Parameter`s live in, and the buffers of modules; whatever an optimizer updates
    gradients         what is in the `.grad` of a leaf at the end of a backward pass, or when an optimizer steps
    optimizer state   the tensors in an optimizer's `state` after a step
    activations       what operations on tensors that require a gradient made while PyTorch built the graph for
                      backward, what activation checkpointing recomputes included
    other             the rest: inputs, what backward and the optimizer need only for a moment, results without a graph

Nothing has to be registered, and nothing is done while no ledger is open. Tensors that were there before are found when
one opens: Python's garbage collector knows every object. What only a graph from before still holds is not among them,
and counts as other.

Private PyTorch names used here: `torch._C._current_graph_task_id`, `torch._C._current_autograd_node`,
`torch.autograd.Variable._execution_engine.queue_callback`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lab.events import PURPOSES, Purpose
from lab.vgpu.machine import Machine
from lab.vgpu.memory import Block
from lab.vgpu.memory_record import DeviceRecord, Entry, MemoryPoint
from lab.vgpu.observer import Collective, Copy, Operation
from lab.vgpu.tensor import VGPUTensor

_RANK = {purpose: rank for rank, purpose in enumerate(reversed(PURPOSES))}
"""Of two purposes that a block was seen to have, the higher holds."""


class _Backward:
    """A backward pass that is under way: which leaves it reaches. It lives as long as PyTorch keeps its callback."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._seen: set[Any] = set()
        self._leaves: list[Any] = []

    def reach(self, node: Any) -> None:
        """Notes the leaves behind a node of the graph."""
        nodes = [node]
        while nodes:
            node = nodes.pop()
            if node is None or node in self._seen:
                continue
            self._seen.add(node)
            if type(node).__name__ == "AccumulateGrad":
                self._leaves.append(node)
            else:
                nodes.extend(following for following, _ in node.next_functions)

    def ended(self) -> None:
        for node in self._leaves:
            self._ledger._note_leaf(node.variable)


class MemoryLedger:
    """Keeps the record of a machine's memory, as a context manager or from `open` to `close`.

    What the devices held when it opened counts. After it is closed, what it recorded can still be read.

    Args:
        machine: the machine whose memory is recorded.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._devices = [DeviceRecord(machine.clock.host_ns) for _ in machine.pools]
        self._modules: list[weakref.ref[nn.Module]] = []
        self._optimizers: list[weakref.ref[torch.optim.Optimizer]] = []
        self._backwards: weakref.WeakValueDictionary[int, _Backward] = weakref.WeakValueDictionary()
        self._hooks: list[Any] = []
        self._opening = False

    # -- open and closed -------------------------------------------------------------------------------------------

    def open(self, *, search: bool = True) -> None:
        """Begins a new record with what the devices hold now.

        Args:
            search: look for tensors among all of Python's objects (some 50 ms), and not only in the modules and
                optimizers that an earlier search found.
        """
        self.close()
        now = self.machine.clock.host_ns
        self._devices = [DeviceRecord(now) for _ in self.machine.pools]
        self._opening = True
        if search:
            self._search()
        else:
            self._note_known()
        self._opening = False
        for device, pool in zip(self._devices, self.machine.pools, strict=True):
            known = sum(size for _, size in device.base)
            device.base.append((Entry(), pool.allocated - known))
            pool.purposes = self.now
        self._hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self.machine.observers.append(self)

    def close(self) -> None:
        """Ends the record; does nothing when it is closed."""
        if not self._hooks:
            return
        self.machine.observers.remove(self)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for pool in self.machine.pools:
            if pool.purposes == self.now:
                pool.purposes = None

    def __enter__(self) -> MemoryLedger:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._search()
        self.close()

    # -- what it tells ---------------------------------------------------------------------------------------------

    def timeline(self, device: int) -> list[MemoryPoint]:
        """The state at the beginning, and after every change, in the order in which they happened.

        At each point the purposes add up to what the device had allocated. Several points may have the same time.

        Raises:
            DeviceError: when there is no such device.
        """
        return [MemoryPoint(at_ns, dict(sizes)) for at_ns, sizes in self._record(device).points()]

    def at_peak(self, device: int) -> dict[Purpose, int]:
        """What the device's memory was used for when it held most, the first time if there were several.

        Raises:
            DeviceError: when there is no such device.
        """
        return self._record(device).peak().by_purpose

    def now(self, device: int) -> dict[Purpose, int]:
        """What the device's memory is used for now, or was when the ledger was closed.

        Raises:
            DeviceError: when there is no such device.
        """
        sizes: dict[Purpose, int] = {}
        for point in self._record(device).points():
            sizes = point.by_purpose
        return sizes

    def _record(self, device: int) -> DeviceRecord:
        record = self._devices[self.machine.check(device)]
        if self._hooks:
            self._search()
        return record

    # -- what it is told -------------------------------------------------------------------------------------------

    def operation(self, operation: Operation) -> None:
        """Of no interest here."""

    def transfer(self, copy: Copy) -> None:
        """Of no interest here."""

    def collective(self, collective: Collective) -> None:
        """Of no interest here."""

    def memory(self, device: int, block: Block, change_bytes: int, at_ns: int) -> None:
        record = self._devices[device]
        task = torch._C._current_graph_task_id()
        if task != -1:
            self._during_backward(task)
        entry = record.entries.get(id(block))
        if entry is None:
            entry = Entry()
            if change_bytes > 0:
                record.entries[id(block)] = entry
                self._note_made(entry, self.machine.pools[device].made_from)
        elif block.held_bytes < 0:  # at its end
            del record.entries[id(block)]
        if change_bytes:
            record.add(at_ns, entry, change_bytes)

    def _note_made(self, entry: Entry, made_from: Iterable[torch.Tensor]) -> None:
        """A block for an operation's result."""
        building = torch.is_grad_enabled()
        for tensor in made_from:
            if tensor.requires_grad:
                if building:
                    entry.purpose = "activations"
                if isinstance(tensor, VGPUTensor) and not tensor.is_leaf:
                    # A function of the user's own computes without a graph, and its result then gets a place in one.
                    self._note(tensor, "activations")

    def _during_backward(self, task: int) -> None:
        backward = self._backwards.get(task)
        if backward is None:
            backward = self._backwards[task] = _Backward(self)
            engine: Any = torch.autograd.Variable._execution_engine
            engine.queue_callback(backward.ended)
        backward.reach(torch._C._current_autograd_node())

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._note_step(optimizer)

    def _note_step(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._note(parameter, "parameters")
                self._note(parameter.grad, "gradients")

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._note_state(optimizer)

    # -- what blocks are for ---------------------------------------------------------------------------------------

    def _note(self, tensor: Any, purpose: Purpose) -> None:
        """The tensor's block is for that, if it is not known to be for something higher."""
        if not isinstance(tensor, VGPUTensor) or tensor._index >= len(self._devices):
            return  # the second is a tensor of an earlier machine, which had more devices
        block, record = tensor._block, self._devices[tensor._index]
        entry = record.entries.get(id(block))
        if entry is None:
            if not self._opening or block.pool is not self.machine.pools[tensor._index]:
                return
            entry = record.entries[id(block)] = Entry()
            record.base.append((entry, block.held_bytes))
        if _RANK[purpose] > _RANK[entry.purpose]:
            entry.purpose = purpose

    def _note_leaf(self, leaf: torch.Tensor) -> None:
        if getattr(leaf, "_is_param", False):
            self._note(leaf, "parameters")
        self._note(leaf.grad, "gradients")

    def _note_module(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            self._note(parameter, "parameters")
            self._note(parameter.grad, "gradients")
        for buffer in module.buffers(recurse=False):
            self._note(buffer, "parameters")

    def _note_state(self, optimizer: torch.optim.Optimizer) -> None:
        for state in optimizer.state.values():
            for value in state.values() if isinstance(state, dict) else ():
                self._note(value, "optimizer state")

    def _search(self) -> None:
        """Looks at all tensors, modules and optimizers that there are."""
        kinds: dict[type, int] = {VGPUTensor: 0}
        found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for thing in gc.get_objects():
            kind = kinds.get(type(thing))
            if kind is None:
                kind = kinds[type(thing)] = _kind(type(thing))
            if kind < len(found):
                found[kind].append(thing)
        tensors, modules, optimizers = found
        for tensor in tensors:
            leaf = _is_leaf(tensor)
            self._note(tensor, "other" if leaf else "activations")
            if leaf:
                self._note_leaf(tensor)
        self._modules = [weakref.ref(module) for module in modules]
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        self._note_known()

    def _note_known(self) -> None:
        # A module may have a length, or refuse to tell it, so its truth says nothing.
        for module in (reference() for reference in self._modules):
            if module is not None:
                self._note_module(module)
        for optimizer in (reference() for reference in self._optimizers):
            if optimizer is not None:
                self._note_step(optimizer)
                self._note_state(optimizer)


def _is_leaf(tensor: torch.Tensor) -> bool:
    """Whether it is computed from nothing; PyTorch refuses to say it of a view whose base was changed in place."""
    try:
        return tensor.is_leaf
    except RuntimeError:
        return False


def _kind(kind: type) -> int:
    """1 for modules, 2 for optimizers, 3 for everything else."""
    return 1 if issubclass(kind, nn.Module) else 2 if issubclass(kind, torch.optim.Optimizer) else 3
