"""The lab in a notebook: panels and small views that follow a run while other cells go on.

    import lab
    from widgets.notebook import LabPanel, LossView

    LabPanel()                                   # everything in one cell

    run = lab.start(lab.Experiment(strategy="model_parallel"))
    LossView(run)                                # or one view of a run of your own

    %load_ext widgets.notebook                   # adds %%ranks: the cell's code on every rank of a live group

Works wherever ipywidgets do: JupyterLab, Notebook 7, VS Code, Colab. Where a notebook is only read (nbviewer, GitHub,
nbconvert), a picture of what was seen last stays in its place, and the numbers behind a figure as a table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_HOME = {
    "LabPanel": "panel",
    "PlacementBoard": "board",
    "LossView": "views",
    "TimelineView": "views",
    "GraphView": "views",
    "InsightView": "insight",
    "MemoryView": "views",
    "BusyView": "views",
    "BreakdownView": "views",
    "BucketView": "views",
    "Curves": "drawing",
    "ProfileMemory": "drawing",
    "ProfileTimeline": "drawing",
    "TrafficView": "views",
    "RankLog": "rank_log",
    "StepThrough": "step_through",
    "FormulaCheck": "formula_check",
    "Predict": "predict",
}

__all__ = [
    "BreakdownView",
    "BucketView",
    "BusyView",
    "Curves",
    "FormulaCheck",
    "GraphView",
    "InsightView",
    "LabPanel",
    "LossView",
    "MemoryView",
    "PlacementBoard",
    "Predict",
    "ProfileMemory",
    "ProfileTimeline",
    "RankLog",
    "StepThrough",
    "TimelineView",
    "TrafficView",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'widgets.notebook' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"widgets.notebook.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """`%load_ext widgets.notebook`: adds the magics `%ranks` and `%%ranks`."""
    from widgets.notebook import magic

    magic.load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """`%unload_ext widgets.notebook`: ends the live group."""
    from widgets.notebook import magic

    magic.unload(ipython)
