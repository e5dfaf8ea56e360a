"""Parallel Lab: place the layers of a net on devices, train it, and watch what every device does.

    import lab

    run = lab.start(lab.Experiment(strategy="model_parallel"))
    for event in run:
        print(event)

The public names load on first use, so that `import lab` needs neither torch nor anything else that is slow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab import vgpu
    from lab.errors import (
        DataError,
        DeviceError,
        ExperimentError,
        LabError,
        PlacementError,
        Problem,
        RunError,
    )
    from lab.experiment import Experiment, Link
    from lab.run import Result, Run, start
    from lab.state import RunState

__version__ = "0.1.0"

_HOME = {
    "Experiment": "lab.experiment",
    "Link": "lab.experiment",
    "start": "lab.run",
    "Run": "lab.run",
    "Result": "lab.run",
    "RunState": "lab.state",
    "LabError": "lab.errors",
    "ExperimentError": "lab.errors",
    "DataError": "lab.errors",
    "PlacementError": "lab.errors",
    "DeviceError": "lab.errors",
    "RunError": "lab.errors",
    "Problem": "lab.errors",
}

__all__ = [
    "DataError",
    "DeviceError",
    "Experiment",
    "ExperimentError",
    "LabError",
    "Link",
    "PlacementError",
    "Problem",
    "Result",
    "Run",
    "RunError",
    "RunState",
    "__version__",
    "start",
    "vgpu",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in ("vgpu", "events", "nets", "data", "strategies"):
        value = importlib.import_module(f"lab.{name}")
    else:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
