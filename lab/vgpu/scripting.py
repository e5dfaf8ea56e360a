"""TorchScript: modules that are moved to a virtual GPU, saved there and loaded there.

A scripted module keeps its tensors in C++. Moving a parameter swaps what Python has (`lab.vgpu.modules`), so the module
is given the parameter again. A file is written as from the CPU, with a note beside of where each tensor was: it loads
without the lab too, and where there are virtual GPUs, onto them.

Private PyTorch names used here: `nn.Module._apply`, `ScriptModule._c`, `torch.jit._script.RecursiveScriptModule`. Tried
on torch 2.13.0.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._script import RecursiveScriptModule

from lab.errors import DeviceError
from lab.vgpu.tensor import VGPUTensor

_NOTE = "lab.vgpu.devices.json"


class _Moving(threading.local):
    is_inside = False
    """While a module is moved that this one is a part of."""


_moving = _Moving()


def register() -> None:
    nn.Module._apply = _moving_scripts(nn.Module._apply)  # type: ignore[method-assign]
    script: Any = RecursiveScriptModule
    script.save, script.save_to_buffer = _saving(script.save), _saving(script.save_to_buffer)
    torch.jit.load = _loading(torch.jit.load)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Any, str, Tensor]]:
    """Full name, the part of the module that has it, its name there, and the parameter or buffer."""
    for prefix, part in module.named_modules(remove_duplicate=False):
        if not isinstance(part, torch.jit.ScriptModule):
            continue
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                yield f"{prefix}.{name}" if prefix else name, part, name, tensor


def _moving_scripts(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def _apply(self: nn.Module, fn: Callable[..., Any], recurse: bool = True) -> Any:
        if _moving.is_inside or not isinstance(self, torch.jit.ScriptModule):
            return apply(self, fn, recurse)
        parameters = [found for found in _tensors(self) if found[2] in found[1]._parameters]
        _moving.is_inside = True
        try:
            apply(self, fn, recurse)
        finally:
            _moving.is_inside = False
            # Those that are shared have been one object, and are again.
            for _, part, name, parameter in parameters:
                if part._parameters[name] is not parameter:
                    part._c.setattr(name, parameter)
        return self

    return _apply


@contextmanager
def _on_the_cpu(module: nn.Module) -> Iterator[dict[str, str]]:
    """Inside, C++ finds numbers that it can write; gives the devices that they were on, by full name."""
    there = [found for found in _tensors(module) if isinstance(found[3], VGPUTensor)]
    copies = {id(tensor): tensor.detach().cpu().requires_grad_(tensor.requires_grad) for *_, tensor in there}
    try:
        for _, part, name, tensor in there:
            part._c.setattr(name, copies[id(tensor)])
        yield {full_name: str(tensor.device) for full_name, _, _, tensor in there}
    finally:
        for _, part, name, tensor in there:
            part._c.setattr(name, tensor)


def _saving(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def save_from_anywhere(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _on_the_cpu(self) as devices:
            if devices:
                kwargs["_extra_files"] = {**(kwargs.get("_extra_files") or {}), _NOTE: json.dumps(devices)}
            try:
                return save(self, *args, **kwargs)
            except AttributeError as error:
                raise DeviceError(
                    "this module has a tensor on a virtual GPU in its code, being frozen or traced there, "
                    "and cannot be saved: save it before it is frozen, or trace it on the CPU"
                ) from error

    return save_from_anywhere


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_to_anywhere(f: Any, map_location: Any = None, _extra_files: Any = None, *args: Any, **kwargs: Any) -> Any:
        where = None if map_location is None else torch.device(map_location)
        plain = torch.device("cpu") if where is not None and where.type == "vgpu" else where
        files = {**(_extra_files or {}), _NOTE: ""}
        module = load(f, plain, files, *args, **kwargs)
        note = files.pop(_NOTE)
        if _extra_files is not None:
            _extra_files.update(files)
        if where is not None:
            return module.to(where) if where.type == "vgpu" else module
        return _put_back(module, json.loads(note)) if note else module

    return load_to_anywhere


def _put_back(module: Any, devices: dict[str, str]) -> Any:
    """Moves each tensor to where it was when it was saved."""
    moved: dict[int, Tensor] = {}
    found = list(_tensors(module))
    for full_name, part, name, tensor in found:
        if full_name not in devices:
            continue
        if id(tensor) not in moved:
            there = tensor.detach().to(devices[full_name])
            moved[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if name in part._parameters else there
        part._c.setattr(name, moved[id(tensor)])
    return module
