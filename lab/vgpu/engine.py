"""Backward on virtual GPUs: in the thread that calls it, and with errors that reach the caller.

PyTorch's device guard for backends in Python knows one device, so the autograd engine's own threads cannot tell vgpu:1
from vgpu:0: backward has to run in the thread that calls it. And the guard is a trap for errors. When a hook or an
operation raises during backward, the error is still set in the interpreter while the engine's C++ frames unwind; they
call the guard in places where C++ allows no failure, its Python method fails because an error is set, and the process
is aborted. Here the guard takes the error out of the interpreter first and keeps it; the engine, which then finds none,
fails with a SystemError, and `run_backward` raises what was kept instead.

Private PyTorch names used here: `torch._C._acc.DeviceGuard`, `torch._C._autograd.DeviceType`,
`Variable._execution_engine`, `torch._C._set_multithreading_enabled`, `torch._C._is_multithreading_enabled`. Tried on
torch 2.13.0.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.variable import Variable


class _Kept(threading.local):
    error: BaseException | None = None


_kept = _Kept()
_look = functools.partial(int)
"""A call that the interpreter answers with a SystemError when an error is set already."""
_private_use = itertools.repeat(torch._C._autograd.DeviceType.PrivateUse1).__next__
"""What C++ calls some hundred times in a step: it gives the constant, and nothing in Python is quicker."""


class Guard(torch._C._acc.DeviceGuard):
    """The device guard of `vgpu`: there is no device to switch to."""

    @property
    def type_(self) -> Callable[[], Any]:
        # A property, for the error has to be gone before C++ calls what it finds here; and nothing may come before
        # `_look()`, since almost all of Python misbehaves while an error is set.
        try:
            _look()
        except SystemError as found:
            _kept.error = found.__cause__
        return _private_use


class _Engine(type(Variable._execution_engine)):  # type: ignore[misc]
    """PyTorch's autograd engine, for every backward of this process."""

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        threads = torch._C._is_multithreading_enabled()
        torch._C._set_multithreading_enabled(False)
        try:
            return super().run_backward(*args, **kwargs)
        except SystemError:
            error, _kept.error = _kept.error, None
            if error is None:
                raise
            raise error from error.__cause__
        finally:
            torch._C._set_multithreading_enabled(threads)


def register() -> None:
    Variable._execution_engine = _Engine()
