"""The panel's controls as an Experiment and back. What makes no sense is for `lab` to say, all of it at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ipywidgets import BoundedIntText, Box, Dropdown, FloatText, HBox, IntText, Layout, VBox

from lab import checks, nets, readiness, strategies
from lab.errors import LabError
from lab.experiment import Experiment
from lab.placement import resolve, shortest
from lab.vgpu import links, profiles
from widgets.notebook import text
from widgets.notebook.board import PlacementBoard

MAX_DEVICES = 8
"""Most virtual GPUs and ranks that the controls offer; an Experiment takes more."""
_GIVEN = "given"
_STYLE = {"description_width": "88px"}
_FOLLOWING = ("placement", "devices", "world_size", "microbatches", "steps", "epochs", "link")
"""Fields that the controls say, each only where it has a meaning."""


class Controls(VBox):
    """Widgets for what a lesson changes; fields without a control keep the value that they were given.

    Args:
        experiment: what they begin with.
        net: a module of the user's, or what makes one.
    """

    def __init__(self, experiment: Experiment, net: Any = None) -> None:
        self._base = experiment
        self._own = net
        count = len([name for name in experiment.devices if name.startswith("vgpu")])
        self.net = _choice(text.NET, self._nets(), experiment.net)
        if net is not None:
            self.net.value = readiness.own_name(net)
            self.net.disabled = True
        self.strategy = _choice(
            text.STRATEGY, [(entry.title, name) for name, entry in strategies.REGISTRY.items()], experiment.strategy
        )
        self.kind = _choice(text.DEVICES, self._kinds(), _kind(experiment))
        self.count = _whole(text.COUNT, count or max(2, len(experiment.devices)), 1, MAX_DEVICES)
        ranks = experiment.world_size if strategies.REGISTRY[experiment.strategy].several_ranks else None
        self.ranks = _whole(text.RANKS, ranks or 2, 1, MAX_DEVICES)
        self.batch = IntText(experiment.batch_size, description=text.BATCH, style=_STYLE, layout=_wide())
        self.microbatches = IntText(experiment.microbatches, description=text.MICROBATCHES, style=_STYLE)
        self.microbatches.layout = _wide()
        self.lr = FloatText(experiment.lr, description=text.LEARNING_RATE, step=0.001, style=_STYLE, layout=_wide())
        self.length = IntText(experiment.steps or experiment.epochs, description=text.LENGTH, style=_STYLE)
        self.length.layout = Layout(width="170px")
        self.unit = Dropdown(options=[text.STEPS, text.EPOCHS], layout=Layout(width="80px"))
        self.unit.value = text.STEPS if experiment.steps else text.EPOCHS
        hardware = list(profiles.names())
        if experiment.hardware not in hardware:
            hardware.append(experiment.hardware)
        self.hardware = _choice(text.HARDWARE, [(name, name) for name in hardware], experiment.hardware)
        self.link = _choice(text.LINK, self._links(), _link(experiment))
        self.seed = IntText(experiment.seed, description=text.SEED, style=_STYLE, layout=_wide())
        self.board = _board(experiment, net)
        self._on_change: list[Callable[[], None]] = []
        for control in (self.net, self.strategy, self.kind, self.count, self.ranks, self.hardware):
            control.observe(self._changed, "value")
        for control in (self.batch, self.microbatches, self.lr, self.length, self.unit, self.link, self.seed):
            control.observe(self._told, "value")
        self.board.observe(self._told, "chosen")
        length = HBox([self.length, self.unit], layout=Layout(width="260px"))
        grid = Box(
            [
                self.net,
                self.strategy,
                self.kind,
                self.count,
                self.ranks,
                self.batch,
                self.microbatches,
                self.lr,
                length,
                self.hardware,
                self.link,
                self.seed,
            ],
            layout=Layout(display="flex", flex_flow="row wrap", grid_gap="2px 12px"),
        )
        super().__init__([grid, self.board])
        self._changed()

    # -- what they say ---------------------------------------------------------------------------------------------

    def fields(self) -> dict[str, Any]:
        """Of an Experiment, unchecked."""
        entry = strategies.REGISTRY[self.strategy.value]
        fields = {name: value for name, value in self._base.explicit().items() if name not in _FOLLOWING}
        if self.net.value != self._base.net:
            fields.pop("data", None)
        fields |= {
            "net": self.net.value,
            "strategy": self.strategy.value,
            "devices": self.devices(),
            "batch_size": self.batch.value,
            "lr": self.lr.value,
            "hardware": self.hardware.value,
            "seed": self.seed.value,
            "steps" if self.unit.value == text.STEPS else "epochs": self.length.value,
        }
        if self.link.value:
            fields["link"] = self._base.explicit()["link"] if self.link.value == _GIVEN else self.link.value
        if entry.several_ranks:
            fields["world_size"] = self.ranks.value
        if entry.takes_placement:
            fields["microbatches"] = self.microbatches.value
            if self._places():
                fields["placement"] = self.placement()
        return fields

    def experiment(self) -> Experiment:
        """What the controls say.

        Raises:
            ExperimentError: with every problem at once.
        """
        return readiness.check(self.fields(), self._own)

    def devices(self) -> list[str]:
        """As the controls name them: as many as the strategy can use."""
        several = strategies.REGISTRY[self.strategy.value].several_devices
        if self.kind.value == _GIVEN:
            return list(self._base.devices)
        if self.kind.value == "cpu":
            return ["cpu"]
        return [f"{self.kind.value}:{index}" for index in range(self.count.value if several else 1)]

    def placement(self) -> Any:
        """`even`, `auto` or layer -> device, as the board has it; a layer whose device is gone goes to the first."""
        chosen = self.board.chosen
        if isinstance(chosen, str) or not chosen:
            return chosen or "even"
        if self.net.value != self.board.experiment.net:
            return "even"
        world_size = self.ranks.value if strategies.REGISTRY[self.strategy.value].several_ranks else 1
        own = checks.rank_devices(tuple(self.devices()), world_size, 0)
        placed = {layer: device if device in own else own[0] for layer, device in chosen.items()}
        given = self._base.placement
        if isinstance(given, Mapping) and resolve(given, list(placed)) == placed:
            return dict(given)  # in the words in which it was written
        return shortest(placed)

    def on_change(self, tell: Callable[[], None]) -> None:
        """Calls `tell` when something was changed."""
        self._on_change.append(tell)

    # -- what follows from what --------------------------------------------------------------------------------------

    def _places(self) -> bool:
        """Whether layers go to different devices: in a rank of several, its own."""
        entry = strategies.REGISTRY[self.strategy.value]
        share = len(self.devices()) // (self.ranks.value if entry.several_ranks else 1)
        return entry.takes_placement and share > 1

    def _changed(self, change: Any = None) -> None:
        entry = strategies.REGISTRY[self.strategy.value]
        virtual = any(name.startswith("vgpu") for name in self.devices())
        _show(self.count, entry.several_devices and self.kind.value not in (_GIVEN, "cpu"))
        _show(self.ranks, entry.several_ranks)
        _show(self.microbatches, entry.takes_placement)
        _show(self.hardware, virtual)
        _show(self.link, virtual and (entry.several_devices or entry.several_ranks))
        _show(self.board, self._places())
        if self._places():
            with contextlib.suppress(LabError):  # the start will say what is wrong
                self.board.experiment = self.experiment()
        self._told()

    def _told(self, change: Any = None) -> None:
        for tell in self._on_change:
            tell()

    def _nets(self) -> list[tuple[str, str]]:
        options = [(entry.title, name) for name, entry in nets.REGISTRY.items()]
        if self._own is not None:
            name = readiness.own_name(self._own)
            options.append((text.OWN_NET.format(name=name.removeprefix(checks.OWN)), name))
        return options

    def _kinds(self) -> list[tuple[str, str]]:
        from lab import devices

        kinds = [(text.VIRTUAL, "vgpu"), (text.CPU, "cpu")]
        if any(name.startswith("cuda") for name in devices.names()):
            kinds.append((text.GPUS, "cuda"))
        if _kind(self._base) == _GIVEN:
            kinds.append((text.AS_GIVEN.format(devices=", ".join(self._base.devices)), _GIVEN))
        return kinds

    def _links(self) -> list[tuple[str, str]]:
        given = [(text.GIVEN_LINK, _GIVEN)] if _link(self._base) == _GIVEN else []
        return [(text.OWN_LINK, ""), *((name, name) for name in links.names()), *given]


def _board(experiment: Experiment, net: Any) -> PlacementBoard:
    """The board; of the course's net where the user's own has no layers that could be shown, which the start says."""
    try:
        return PlacementBoard(experiment, net)
    except Exception:  # noqa: BLE001 - it is the user's code that is traced here
        return PlacementBoard(Experiment())


def _kind(experiment: Experiment) -> str:
    """What the devices are, if the controls can say it."""
    devices = list(experiment.devices)
    kind = devices[0].partition(":")[0]
    plain = devices == ["cpu"] if kind == "cpu" else devices == [f"{kind}:{index}" for index in range(len(devices))]
    return kind if plain and len(devices) <= MAX_DEVICES else _GIVEN


def _link(experiment: Experiment) -> str:
    link = experiment.link
    return link if isinstance(link, str) else _GIVEN if link is not None else ""


def _choice(label: str, options: list[tuple[str, str]], value: str) -> Dropdown:
    known = value if any(value == each for _, each in options) else options[0][1]
    return Dropdown(options=options, value=known, description=label, style=_STYLE, layout=_wide())


def _whole(label: str, value: int, least: int, most: int) -> BoundedIntText:
    return BoundedIntText(value, min=least, max=max(most, value), description=label, style=_STYLE, layout=_wide())


def _wide() -> Layout:
    return Layout(width="260px")


def _show(widget: Any, visible: bool) -> None:
    widget.layout.display = None if visible else "none"
