"""A cell that starts a run and is run again: the earlier run of that name ends."""

from __future__ import annotations

import pytest

import lab
from lab import shells
from lab.shells import Names


def test_five_runs_of_a_cell_leave_one_going(no_leaks: None) -> None:
    experiment = lab.Experiment(epochs=1000)
    variables: dict[str, object] = {"_": None, "Out": {}}
    names = Names(variables)
    started = []
    try:
        for index in range(5):
            variables["run"] = run = lab.start(experiment)
            started.append(run)
            variables[f"_{index}"] = run  # what the cell shows is kept by IPython
            names.look()
        for run in started[:-1]:
            assert run.wait(30)
        assert not started[-1].done
    finally:
        for run in started:
            run.close()


class Held(lab.Run):
    """A run that starts nothing."""

    def __init__(self) -> None:
        self.stops = 0
        self._done = False

    def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("keep", [lambda run: run, lambda run: [run], lambda run: {"first": run}])
def test_a_run_that_has_another_name_goes_on(keep: object) -> None:
    first = Held()
    variables: dict[str, object] = {"run": first}
    names = Names(variables)
    names.look()
    variables |= {"kept": keep(first), "run": Held()}  # type: ignore[operator]
    names.look()
    assert first.stops == 0


def test_a_name_that_is_no_longer_a_run_or_still_the_same_ends_nothing() -> None:
    first = Held()
    variables: dict[str, object] = {"run": first}
    names = Names(variables)
    names.look()
    names.look()
    variables["run"] = 3
    names.look()
    assert first.stops == 0


def test_cells_of_a_shell_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        shells.watch()
        shells.watch()
        first, second = Held(), Held()
        shell.user_ns["made"] = [first, second].pop
        shell.run_cell("run = made(0)", store_history=False)
        shell.run_cell("run = made(0)", store_history=False)
        assert (first.stops, second.stops) == (1, 0)
    finally:
        InteractiveShell.clear_instance()
