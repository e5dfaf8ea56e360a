"""The page's controls as an Experiment and back. Nothing from a client is trusted: `lab` checks every value."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab import placement, readiness
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from lab.vgpu import profiles
from widgets.web import text
from widgets.web.offers import (
    AS_OPENED,
    EACH,
    FIRST_BUCKET_MB,
    MAX_PER_RANK,
    MAX_RANKS,
    MAX_VIRTUAL,
    OWN_LINK,
    TROUBLE_STEP,
    layers,
    suiting_data,
    takes_microbatches,
    takes_placement,
    takes_ranks,
    takes_several,
)
from widgets.web.panel import panel

CONTROLS = (
    "strategy",
    "net",
    "virtual",
    "real",
    "device",
    "panel",
    "batch_size",
    "microbatches",
    "length",
    "unit",
    "lr",
    "seed",
    "ranks",
    "each",
    "bucket_mb",
    "trouble",
    "trouble_rank",
    "planned",
    "per_rank",
    "data",
    "dtype",
    "hardware",
    "link",
    "topology",
    "memory_mb",
)
"""The order in which handlers get the controls' values."""


OF_RANKS = ("world_size", "bucket_cap_mb", "faults")
"""Fields of an Experiment that only ranks need."""
UNITS = ("steps", "epochs")
PLAIN = ("strategy", "net", "data", "dtype", "batch_size", "lr", "seed")
"""Controls that are fields."""


@dataclass(frozen=True, slots=True)
class Form:
    """The values of the controls, as a browser sent them."""

    strategy: Any
    net: Any
    virtual: Any
    """How many virtual GPUs."""
    real: Any
    """Names of real devices to use besides."""
    device: Any
    """The one device of a strategy that uses one."""
    panel: Any
    """The placement panel's value, see `widgets.board.state`."""
    batch_size: Any
    microbatches: Any
    length: Any
    unit: Any
    lr: Any
    seed: Any
    ranks: Any
    each: Any
    """What each rank runs on, one of `EACH`."""
    bucket_mb: Any
    trouble: Any
    """A kind of fault."""
    trouble_rank: Any
    planned: Any
    """Whether the run is to have this trouble, at step `TROUBLE_STEP`."""
    per_rank: Any
    """How many virtual GPUs each rank's copy of the net is placed on, where it is."""
    data: Any
    dtype: Any
    hardware: Any
    """Name of a profile."""
    link: Any
    """Name of a link, `own` or `given`."""
    topology: Any
    """Name of a topology, or `given`."""
    memory_mb: Any
    """Of each virtual GPU; None and 0 take the hardware's own."""

    def experiment(self, default: Experiment) -> Experiment:
        """What the controls say; fields without a control keep the default's value.

        Raises:
            ExperimentError: with every problem at once.
        """
        fields = default.explicit()
        for name in ("placement", "devices", "microbatches", "steps", "epochs", "version", *OF_RANKS):
            fields.pop(name, None)
        fields |= {name: getattr(self, name) for name in PLAIN}
        fields["steps" if self.unit == "steps" else "epochs"] = self.length
        problems: list[Problem] = []
        if self.length is None:
            problems.append(Problem("steps", text.NO_LENGTH))
        self._hardware(fields, problems)
        if takes_ranks(self.strategy):
            fields |= self._of_ranks(problems)
            if self.planned is True and self._is_of(default):
                fields["faults"] = [str(fault) for fault in default.faults]  # as it was opened, to the step
        else:
            fields["devices"] = self._listed(problems) if takes_several(self.strategy) else [str(self.device)]
        if takes_microbatches(self.strategy):
            fields["microbatches"] = self.microbatches
        if self.places:
            fields["placement"] = self._placement(problems)
        try:
            experiment = readiness.check(fields)
        except ExperimentError as error:
            problems += [_worded(problem, fields) for problem in error.problems]
        told = {problem.field for problem in problems}
        problems += [each for each in self._unknown() if each.field not in told]
        if problems:
            raise ExperimentError(problems)
        return experiment

    def _unknown(self) -> Iterator[Problem]:
        """Values that the controls cannot have; what only ranks need counts where there are ranks."""
        known = {name: _is_number(getattr(self, name)) for name in ("batch_size", "microbatches", "lr", "seed")}
        known["steps" if self.unit == "steps" else "epochs"] = _is_one_of(self.unit, UNITS) and _is_number(self.length)
        known["memory_mb"] = _is_number(self.memory_mb)
        if takes_ranks(self.strategy):
            known["world_size"] = _is_number(self.ranks)
            known["bucket_cap_mb"] = _is_number(self.bucket_mb)
            known["devices"] = _is_one_of(self.each, EACH) and _is_number(self.per_rank)
            known["faults"] = (
                _is_one_of(self.trouble, text.TROUBLES)
                and _is_number(self.trouble_rank)
                and isinstance(self.planned, bool)
            )
        else:
            known["devices"] = isinstance(self.device, str) and _is_number(self.virtual)
        return (Problem(field, text.MALFORMED) for field, is_known in known.items() if not is_known)

    def board(self, default: Experiment) -> dict[str, Any] | None:
        """What the placement board shows: the net's layers and the devices of now. Numbers that make no sense are as
        in the default; None when the net or the devices are at fault, or when there is one device to use."""
        if not (takes_several(self.strategy) or takes_ranks(self.strategy)):
            return None
        chosen = self.panel.get("chosen") if isinstance(self.panel, dict) else None
        blank = {"panel": {"chosen": "even"}, "microbatches": 1, "length": 1, "lr": 0.01, "seed": 0, "planned": False}
        blank["data"] = suiting_data(self.net, self.data)
        numbers = {"batch_size": default.batch_size, "bucket_mb": FIRST_BUCKET_MB, "memory_mb": None}
        for form in (replace(self, **blank), replace(self, **blank, **numbers)):
            with contextlib.suppress(ExperimentError):
                return panel(form.experiment(default), chosen if self.places else None)
        return None

    @property
    def places(self) -> bool:
        """Whether the reader places the layers: on all devices, or on those of each rank."""
        return takes_placement(self.strategy) or (takes_ranks(self.strategy) and self.each == "split")

    def fault(self) -> str:
        """The trouble that is chosen, now: as `lab.faults` writes it.

        Raises:
            ExperimentError: when it is none that the page offers.
        """
        kind, rank = self.trouble, self.trouble_rank
        if not isinstance(kind, str) or kind not in text.TROUBLES or rank not in range(MAX_RANKS):
            raise ExperimentError([Problem("faults", text.MALFORMED)])
        return f"{kind}:{int(rank)}"

    def _is_of(self, default: Experiment) -> bool:
        """Whether it is still the trouble that the page was opened with."""
        first = next(iter(default.faults), None)
        return first is not None and (first.kind, first.rank) == (self.trouble, self.trouble_rank)

    def _hardware(self, fields: dict[str, Any], problems: list[Problem]) -> None:
        """Puts what is virtual about the devices among the fields."""
        fields["hardware"] = self.hardware
        if profiles.is_path(self.hardware):
            # The page shows what it is given, to whoever may open it: it must not read files for them.
            del fields["hardware"]
            problems.append(Problem("hardware", text.NO_PATHS))
        for name in ("link", "topology"):
            value = getattr(self, name)
            if not isinstance(value, str):
                problems.append(Problem(name, text.MALFORMED))
            elif value == OWN_LINK and name == "link":
                fields.pop("link", None)
            elif value != AS_OPENED:
                fields[name] = value
        fields.pop("memory_mb", None)
        # A number field that is empty comes as 0 once its card has been opened.
        if self.memory_mb not in (None, 0):
            fields["memory_mb"] = self.memory_mb

    def _of_ranks(self, problems: list[Problem]) -> dict[str, Any]:
        """The fields of a strategy with several ranks."""
        ranks = self.ranks
        if ranks not in range(1, MAX_RANKS + 1):
            problems.append(Problem("world_size", text.TOO_MANY_RANKS.format(ranks=repr(ranks), most=MAX_RANKS)))
            ranks = 1
        fields: dict[str, Any] = {"world_size": int(ranks), "bucket_cap_mb": self.bucket_mb}
        if not isinstance(self.each, str) or self.each not in EACH:
            problems.append(Problem("devices", text.MALFORMED))
        elif self.each == "cpu":
            fields["devices"] = ["cpu"]
        else:
            count = int(ranks) * (self._per_rank(problems) if self.each == "split" else 1)
            fields["devices"] = [f"{'cuda' if self.each == 'cuda' else 'vgpu'}:{index}" for index in range(count)]
        if self.planned is True and not problems:
            try:
                fields["faults"] = [f"{self.fault()}:{TROUBLE_STEP}"]
            except ExperimentError as error:
                problems += error.problems
        return fields

    def _per_rank(self, problems: list[Problem]) -> int:
        if self.per_rank in range(2, MAX_PER_RANK + 1):
            return int(self.per_rank)
        most = text.NOT_PER_RANK.format(count=repr(self.per_rank), most=MAX_PER_RANK)
        problems.append(Problem("devices", most))
        return 2

    def _listed(self, problems: list[Problem]) -> list[str]:
        real = [str(name) for name in self.real] if isinstance(self.real, list) else []
        count = self.virtual
        if count not in range(MAX_VIRTUAL + 1):
            problems.append(Problem("devices", text.TOO_MANY_VIRTUAL.format(count=self.virtual, most=MAX_VIRTUAL)))
            count = 0
        elif not count and not real:
            problems.append(Problem("devices", text.NO_DEVICES))
        return [f"vgpu:{index}" for index in range(int(count))] + real

    def _placement(self, problems: list[Problem]) -> Any:
        chosen = self.panel.get("chosen") if isinstance(self.panel, dict) else None
        if chosen in ("even", "auto"):
            return chosen
        if not isinstance(chosen, dict) or not all(isinstance(x, str) for pair in chosen.items() for x in pair):
            problems.append(Problem("placement", text.MALFORMED))
            return "even"
        # Layers that the net lacks are for the lab's own checks to name.
        return placement.shortest(chosen) if set(chosen) == set(layers(self.net)) else dict(chosen)


def _is_number(value: Any) -> bool:
    """Whether a number field can have it: also none at all, where it is not needed."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _is_one_of(value: Any, names: Container[str]) -> bool:
    return isinstance(value, str) and value in names


def _worded(problem: Problem, fields: Mapping[str, Any]) -> Problem:
    """The lab speaks of Python's None where the reader sees an empty field."""
    if fields.get(problem.field, problem) is not None:
        return problem
    return Problem(problem.field, problem.message.replace("None is not allowed", text.EMPTY, 1))
