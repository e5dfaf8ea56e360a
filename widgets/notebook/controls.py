"""The panel's controls as an Experiment and back. What makes no sense is for `lab` to say, all of it at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ipywidgets import Box, Dropdown, HBox, Layout, VBox

from lab import checks, nets, readiness, strategies
from lab.errors import LabError
from lab.experiment import Experiment
from lab.placement import resolve, shortest
from lab.vgpu import profiles
from widgets.notebook import text
from widgets.notebook.board import PlacementBoard
from widgets.notebook.fields import bounded, choice, number, show, whole
from widgets.notebook.more_controls import GIVEN, MoreControls

MAX_DEVICES = 8
"""Most virtual GPUs and ranks that the controls offer; an Experiment takes more."""
_FOLLOWING = (
    "placement",
    "devices",
    "world_size",
    "microbatches",
    "steps",
    "epochs",
    "link",
    "bucket_cap_mb",
    "faults",
    "data",
)
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
        self.net = choice(text.NET, self._nets(), experiment.net)
        if net is not None:
            self.net.value = readiness.own_name(net)
            self.net.disabled = True
        self.strategy = choice(
            text.STRATEGY, [(entry.title, name) for name, entry in strategies.REGISTRY.items()], experiment.strategy
        )
        self.kind = choice(text.DEVICES, self._kinds(), _kind(experiment))
        self.count = bounded(text.COUNT, count or max(2, len(experiment.devices)), 1, MAX_DEVICES)
        ranks = experiment.world_size if strategies.REGISTRY[experiment.strategy].several_ranks else None
        self.ranks = bounded(text.RANKS, ranks or 2, 1, MAX_DEVICES)
        self.batch = whole(text.BATCH, experiment.batch_size)
        self.microbatches = whole(text.MICROBATCHES, experiment.microbatches)
        self.lr = number(text.LEARNING_RATE, experiment.lr, step=0.001)
        self.length = whole(text.LENGTH, experiment.steps or experiment.epochs)
        self.length.layout.width, self.length.layout.min_width, self.length.layout.flex = "auto", "0", "1 1 0"
        self.unit = Dropdown(options=[text.STEPS, text.EPOCHS], layout=Layout(width="88px", flex="none", margin="0"))
        self.unit.value = text.STEPS if experiment.steps else text.EPOCHS
        hardware = list(profiles.names())
        if experiment.hardware not in hardware:
            hardware.append(experiment.hardware)
        self.hardware = choice(text.HARDWARE, [(name, name) for name in hardware], experiment.hardware)
        self.more = MoreControls(experiment, own_net=experiment.net.startswith(checks.OWN) or net is not None)
        self.board = _board(experiment, net)
        self._on_change: list[Callable[[], None]] = []
        arranging = (self.net, self.strategy, self.kind, self.count, self.ranks, self.hardware)
        for control in (*arranging, self.more.data, self.more.optimizer, self.more.overlap, self.more.trouble):
            control.observe(self._changed, "value")
        for control in (self.batch, self.microbatches, self.lr, self.length, self.unit, *self.more.fields):
            control.observe(self._told, "value")
        self.board.observe(self._told, "chosen")
        length = HBox([self.length, self.unit], layout=Layout(overflow="visible"))
        often = [
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
        ]
        columns = "repeat(auto-fill, minmax(min(100%, 260px), 1fr))"
        grid = Box(
            often,
            layout=Layout(display="grid", grid_template_columns=columns, grid_gap="3px 12px", overflow="visible"),
        )
        super().__init__([grid, self.more, self.board], layout=Layout(overflow="visible"))
        self._changed()

    # -- what they say ---------------------------------------------------------------------------------------------

    def fields(self) -> dict[str, Any]:
        """Of an Experiment, unchecked."""
        entry = strategies.REGISTRY[self.strategy.value]
        fields = {name: value for name, value in self._base.explicit().items() if name not in _FOLLOWING}
        if self.net.value.startswith(checks.OWN) and self._base.data is not None:
            fields["data"] = self._base.data
        fields |= {
            "net": self.net.value,
            "strategy": self.strategy.value,
            "devices": self.devices(),
            "batch_size": self.batch.value,
            "lr": self.lr.value,
            "hardware": self.hardware.value,
            "steps" if self.unit.value == text.STEPS else "epochs": self.length.value,
        }
        fields |= self.more.said(self.strategy.value, self._virtual())
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
        if self.kind.value == GIVEN:
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

    def _virtual(self) -> bool:
        return any(name.startswith("vgpu") for name in self.devices())

    def _changed(self, change: Any = None) -> None:
        entry = strategies.REGISTRY[self.strategy.value]
        self.more.suit(self.net.value)
        show(self.count, entry.several_devices and self.kind.value not in (GIVEN, "cpu"))
        show(self.ranks, entry.several_ranks)
        show(self.microbatches, entry.takes_placement)
        show(self.hardware, self._virtual())
        show(self.board, self._places())
        self.more.arrange(self.strategy.value, self._virtual())
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
        if _kind(self._base) == GIVEN:
            kinds.append((text.AS_GIVEN.format(devices=", ".join(self._base.devices)), GIVEN))
        return kinds


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
    return kind if plain and len(devices) <= MAX_DEVICES else GIVEN
