"""The placement board in a notebook: the shared core in an anywidget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from lab import placement
from lab.experiment import Experiment
from widgets import board
from widgets.board.words import en

if TYPE_CHECKING:
    from torch import nn

    from lab.state import RunState

_ADAPTER = """
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    const board = mountBoard(root, {
      words: model.get("words"),
      onPlacement: ({ chosen }) => {
        model.set("chosen", chosen);
        model.save_changes();
      },
    });
    const show = () => board.update({ ...model.get("state"), chosen: model.get("chosen") });
    const measured = () => board.measured(model.get("figures"));
    const look = () => root.classList.toggle("dark", model.get("theme") === "dark");
    const note = () => board.say(model.get("note"));
    const listeners = [
      ["change:state change:chosen", show],
      ["change:figures", measured],
      ["change:theme", look],
      ["change:note", note],
    ];
    for (const [name, listener] of listeners) {
      model.on(name, listener);
      listener();
    }
    return () => {
      for (const [name, listener] of listeners) model.off(name, listener);
      board.destroy();
    };
  },
};
"""


class PlacementBoard(anywidget.AnyWidget):  # type: ignore[misc]
    """Drag layers between devices; `experiment` is the Experiment with the placement on the board.

        board = PlacementBoard(Experiment(strategy="model_parallel"))
        board                       # shows it
        run = lab.start(board.experiment)

    Args:
        experiment: its net and devices are shown.
        net: a module of your own, or a class or function that makes one, where the Experiment names one.
        theme: `auto` follows the notebook.
    """

    _esm = board.script() + _ADAPTER
    _css = board.colors() + board.css()

    words = traitlets.Dict(en.WORDS).tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    figures = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Union([traitlets.Enum(("even", "auto")), traitlets.Dict()], default_value="even").tag(sync=True)
    """Layer -> device, `even` or `auto`, as the reader left it."""
    note = traitlets.Unicode().tag(sync=True)
    theme = traitlets.Enum(("auto", "light", "dark"), default_value="auto").tag(sync=True)

    def __init__(
        self,
        experiment: Experiment,
        net: nn.Module | Callable[[], nn.Module] | None = None,
        **traits: Any,
    ) -> None:
        self._shown, self._net = experiment, net
        state = board.state(experiment, net=net)
        super().__init__(state=state, chosen=state["chosen"], **traits)

    @property
    def experiment(self) -> Experiment:
        """The Experiment with what the reader chose."""
        if self._shown.placement is None:  # this strategy holds the whole net on every device
            return self._shown
        chosen = self.chosen if isinstance(self.chosen, str) else placement.shortest(self.chosen)
        return self._shown.replace(placement=chosen)

    @experiment.setter
    def experiment(self, experiment: Experiment) -> None:
        self._shown = experiment
        state = board.state(experiment, net=self._net)
        with self.hold_trait_notifications():
            self.state, self.chosen, self.figures = state, state["chosen"], {}

    @traitlets.validate("chosen")
    def _check(self, proposal: Mapping[str, Any]) -> Any:
        """Refuses what the board did not make: every layer, each on one of the devices."""
        chosen = proposal["value"]
        if isinstance(chosen, str):
            return chosen
        layers = [layer["path"] for layer in self.state.get("layers", [])]
        devices = [device["name"] for device in self.state.get("devices", [])]
        if list(chosen) != layers and set(chosen) != set(layers):
            raise traitlets.TraitError(f"a placement names each of {layers} once, not {list(chosen)}")
        if wrong := [device for device in chosen.values() if device not in devices]:
            raise traitlets.TraitError(f"{wrong[0]!r} is not one of {devices}")
        return chosen

    def measured(self, state: RunState) -> None:
        """Shows what a run has found: each layer's share of the time, and each device's."""
        self.figures = board.measured(state)
