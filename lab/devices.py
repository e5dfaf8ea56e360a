"""The real devices of this machine. Virtual GPUs need no looking for: there are always `checks.MAX_VGPUS` of them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from lab.events import DeviceInfo


def names() -> tuple[str, ...]:
    """`cpu`, and every CUDA device that torch sees. Creates no CUDA context."""
    import torch

    return ("cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())))


def available() -> tuple[DeviceInfo, ...]:
    """The real devices here, with what they are and their memory. Creates a CUDA context where there is a GPU."""
    import psutil
    import torch

    found = [DeviceInfo("cpu", _processor(), psutil.virtual_memory().total, simulated=False)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(DeviceInfo(f"cuda:{index}", properties.name, properties.total_memory, simulated=False))
    return tuple(found)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name; Python itself does not know it on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine() or "CPU"
