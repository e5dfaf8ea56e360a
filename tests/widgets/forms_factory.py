"""The values of the page's controls, as a browser sends them."""

from __future__ import annotations

from typing import Any

from lab.experiment import Experiment
from tests.widgets import events_factory as factory
from widgets.web import form as forms

DEFAULT = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=40)
VALUES: dict[str, Any] = {
    "strategy": "model_parallel",
    "net": "net",
    "virtual": 2,
    "real": [],
    "device": "cpu",
    "panel": {"chosen": factory.PLACEMENT},
    "batch_size": 64,
    "microbatches": 1,
    "length": 40,
    "unit": "steps",
    "lr": 0.01,
    "seed": 0,
    "ranks": 2,
    "each": "cpu",
    "bucket_mb": 0.05,
    "trouble": "straggle",
    "trouble_rank": 1,
    "planned": False,
    "per_rank": 2,
    "data": "mnist",
    "dtype": "float32",
    "hardware": "classroom",
    "link": "own",
    "topology": "pairs",
    "memory_mb": None,
}


def form(**changes: Any) -> forms.Form:
    return forms.Form(**{**VALUES, **changes})
