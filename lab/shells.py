"""Runs that are started in a notebook's cell: one whose name is given to another run ends.

A cell with `run = lab.start(...)` is run again and again. Nobody can reach the earlier runs then, to stop them or to
look at them, and they would share the cores with the last one.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.run import Run

_KEY = "_parallel_lab_names"


def watch() -> None:
    """From the end of this cell on, looks at which names runs have; does nothing outside of IPython."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is not None and not hasattr(shell, _KEY):
        names = Names(shell.user_ns)
        setattr(shell, _KEY, names)
        shell.events.register("post_run_cell", lambda result: names.look())


class Names:
    """The runs among a notebook's variables."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._before: dict[str, weakref.ref[Run]] = {}

    def look(self) -> None:
        """Stops each run that had a name which another one has now, unless it is still held by some variable."""
        now = {name: value for name, value in self._named() if _is_run(value)}
        held = {id(run) for run in self._held()}
        for name, run in now.items():
            earlier = self._before[name]() if name in self._before else None
            if earlier is not None and earlier is not run and not earlier.done and id(earlier) not in held:
                earlier.stop()
        self._before = {name: weakref.ref(run) for name, run in now.items()}

    def _named(self) -> Iterator[tuple[str, Any]]:
        """The notebook's own variables: names with an underscore, and Out, hold what cells have shown."""
        return ((name, value) for name, value in [*self._variables.items()] if name[0] != "_" and name != "Out")

    def _held(self) -> Iterator[Any]:
        for _, value in self._named():
            if _is_run(value):
                yield value
            elif isinstance(value, Mapping):
                yield from filter(_is_run, [*value.values()])
            elif isinstance(value, list | tuple | set):
                yield from filter(_is_run, [*value])


def _is_run(value: Any) -> bool:
    from lab.run import Run

    return isinstance(value, Run)
