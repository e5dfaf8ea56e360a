"""What an answer could change besides its own values, put back when its check is over."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def kept() -> Iterator[None]:
    """Afterwards the folder, the environment, random states, PyTorch's defaults and the virtual GPUs are what they
    were; inside, gradients are recorded and the defaults are PyTorch's own, whatever the reader has set before."""
    with ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())
        stack.callback(_environment, dict(os.environ))
        stack.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        stack.enter_context(_torch())
        yield


def _environment(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _torch() -> Iterator[None]:
    import torch

    before = machine()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
            torch.set_default_dtype(torch.float32)
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        put_back(before)


def machine() -> Any:
    """The virtual GPUs; None when there are none."""
    if "lab.vgpu" not in sys.modules:
        return None
    from lab import vgpu
    from lab.errors import DeviceError

    try:
        return vgpu.current()
    except DeviceError:
        return None


def put_back(before: Any) -> None:
    if before is not None and machine() is not before:
        from lab.vgpu import tensor

        tensor.set_machine(before)
