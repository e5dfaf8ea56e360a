"""Presets: experiments worth a look, each with what to watch in it. Data: presets.toml, and the page's words."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lab.experiment import Experiment, read_toml
from widgets.web import limits as limiting
from widgets.web.leases import Budget
from widgets.web.limits import Limits


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    group: str
    """Under which the page lists it."""
    next: str
    """The preset to try after it."""
    experiment: Experiment


@functools.cache
def all_presets() -> dict[str, Preset]:
    """Name -> preset, in the order in which they are shown."""
    written = read_toml(resources.files(__package__).joinpath("presets.toml").read_text(encoding="utf-8"))
    return {
        name: Preset(name, fields["group"], fields["next"], Experiment(**fields["experiment"]))
        for name, fields in written.items()
    }


def allowed(limits: Limits, budget: Budget) -> dict[str, Preset]:
    """Those that may run on this server."""
    return {
        name: preset
        for name, preset in all_presets().items()
        if not limits.problems(preset.experiment) and limiting.ranks(preset.experiment) <= budget.ranks
    }


def shown(experiment: Experiment) -> str | None:
    """The name of the preset that this is; None when it is none, or no longer one."""
    return next((name for name, preset in all_presets().items() if preset.experiment == experiment), None)


def menu(presets: dict[str, Preset]) -> list[dict[str, Any]]:
    """What the chooser on the page offers: groups of presets, each with the one to try next. It has the words."""
    groups = dict.fromkeys(preset.group for preset in presets.values())
    return [
        {
            "name": group,
            "presets": [
                {"name": preset.name, "next": preset.next} for preset in presets.values() if preset.group == group
            ],
        }
        for group in groups
    ]
