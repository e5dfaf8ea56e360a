"""Checks of notebook 07: what is hard."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lab.exercises import apart, reading
from lab.exercises.grading import AnswerRaisedError, Wrong, call, exercise, told

NEW_PROCESS = " Your load runs in a new process: of the one that saved, it has the file at its path and nothing else."


class _PathOf(PosixPath if os.name == "posix" else WindowsPath):  # type: ignore[misc]
    """A path to which text can be added, as to its name: readers write `path + ".opt"` as well as `path.parent`."""

    def __add__(self, text: str) -> str:
        return str(self) + text


@dataclass(frozen=True)
class _Run:
    """A training that is ended after a step, and what it needs to begin."""

    name: str
    steps: int
    saved: int
    net: Callable[[], nn.Module]
    optimizer: Callable[[Any], Optimizer]
    later_lr: float | None = None
    """From the second step on."""

    def fresh(self, seed: int) -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(seed)
        net = self.net()
        return net, self.optimizer(net.parameters())

    def train(self, net: nn.Module, optimizer: Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            if step == 1 and self.later_lr is not None:
                optimizer.param_groups[0]["lr"] = self.later_lr
            generator = torch.Generator().manual_seed(step)
            x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 2, generator=generator)
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x), y).backward()
            optimizer.step()


RUNS = (
    _Run(
        "SGD with momentum",
        steps=6,
        saved=3,
        net=lambda: nn.Linear(4, 2),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    ),
    _Run(
        "Adam, a smaller learning rate from step 1 on, and batch normalisation",
        steps=8,
        saved=5,
        net=lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05),
        later_lr=0.01,
    ),
)


@exercise(
    "07-resume",
    todo="Write save and load: a run that is ended, and goes on from the file in a new process, must give the "
    "parameters of a run without a break.",
    hints=(
        "What, besides the net's parameters, does the next step depend on?",
        "Both the net and the optimizer have a state_dict() and a load_state_dict(...).",
        "torch.save writes a dictionary of both state_dict()s and the step; load reads it with torch.load.",
    ),
)
def resume(save: Any, load: Any) -> str:
    """Runs that were ended go on in another process as if nothing had happened."""
    for function in (save, load):
        if not callable(function):
            call(function)
    with tempfile.TemporaryDirectory() as name, apart.process() as one, apart.process() as other:
        folder = Path(name)
        runs = [(run, *run.fresh(seed=number)) for number, run in enumerate(RUNS)]
        paths = [folder / f"run {number}" / f"checkpoint{number}.pt" for number in range(len(RUNS))]
        for (run, net, optimizer), path in zip(runs, paths, strict=True):
            run.train(net, optimizer, 0, run.saved)
            path.parent.mkdir()
            _save(one, save, path, net, optimizer, run.saved)
        for (run, net, optimizer), path in zip(runs, paths, strict=True):
            _resume(other, load, path, run, net, optimizer)
    return "Runs that were ended and went on in a new process have the same parameters as without a break, bit for bit."


def _save(process: apart.Process, save: Any, path: Path, net: nn.Module, optimizer: Optimizer, step: int) -> None:
    """Raises:
    Wrong: when it leaves no file where it should, or an empty one.
    """
    elsewhere = path.parent.parent / f"{path.parent.name} elsewhere"
    elsewhere.mkdir()
    process(_saved, save, elsewhere, _PathOf(path), net, optimizer, step)
    files = [each for each in path.parent.rglob("*") if each.is_file()]
    if not files:
        stray = "".join(f" There is {each.name} in the folder in which Python runs." for each in elsewhere.iterdir())
        raise Wrong(f"After save, there is no file at the path that it is given, {path.name}.{stray}")
    if not any(each.stat().st_size for each in files):
        raise Wrong(f"The file that save leaves, {files[0].name}, is empty: 0 bytes.")


def _saved(save: Any, folder: Path, *arguments: Any) -> Any:
    """Saves, in its own process. What save returns stays there, unless it says that it is still to be written."""
    os.chdir(folder)
    return ... if save(*arguments) is ... else None


def _loaded(load: Any, folder: Path, path: Path, net: nn.Module, optimizer: Optimizer) -> Any:
    """Loads, in its own process. Returns what load returned, and the net and the optimizer as they are then."""
    os.chdir(folder)
    returned = load(path, net, optimizer)
    return returned if returned is ... else (returned, net, optimizer)


def _resume(process: apart.Process, load: Any, path: Path, run: _Run, net: nn.Module, optimizer: Optimizer) -> None:
    """Goes on with the run in two ways, without a break and from the file, and compares.

    Raises:
        Wrong: when they differ.
    """
    case = f"With {run.name}"
    kept = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    run.train(net, optimizer, run.saved, run.steps)
    made = run.fresh(seed=17)
    try:
        returned, again, another = process(_loaded, load, path.parent.parent, _PathOf(path), *made)
    except AnswerRaisedError as raised:
        raise AnswerRaisedError(f"{raised}{NEW_PROCESS}") from raised
    _same_step(returned, run, case)
    _same_net(again, kept[0], made[0], case)
    state = copy.deepcopy(another.state_dict())
    try:
        run.train(again, another, run.saved, run.steps)
    except Exception as error:
        raise Wrong(f"{case}, training does not go on after load: {told(error)}") from error
    if _differing(again.state_dict(), net.state_dict()):
        pairs = zip(again.parameters(), net.parameters(), strict=True)
        away = max(float((a - b).detach().abs().max()) for a, b in pairs)
        raise Wrong(
            f"{case}, after {run.steps} steps the parameters are {away:.2g} away from those of a run without a "
            f"break. {_lost(state, kept[1])}"
        )


def _same_step(returned: Any, run: _Run, case: str) -> None:
    step = reading.number(returned, asked="From load, the step to go on with")
    if step != run.saved:
        others = [each.saved for each in RUNS if each.saved == step]
        what = f": that of the other file, {others[0]}" if others else " as the step to go on with"
        raise Wrong(f"{case}, save was given step {run.saved}, and load returns {step:g}{what}.")


def _same_net(net: nn.Module, kept: dict[str, Tensor], made: nn.Module, case: str) -> None:
    differ = _differing(net.state_dict(), kept)
    if differ and not _differing(net.state_dict(), made.state_dict()):
        raise Wrong(
            f"{case}, after load, the new net still has the parameters with which it was made: nothing was put back."
        )
    if differ:
        are = "is" if len(differ) == 1 else "are"
        raise Wrong(f"{case}, after load, {', '.join(differ)} of the net {are} not as when save was called.")


def _differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    return [name for name, value in wanted.items() if name not in found or not torch.equal(found[name], value)]


def _lost(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Which part of an optimizer's state is not as it was."""
    remembered = sorted({name for each in wanted["state"].values() for name in each})
    if not found["state"]:
        return (
            "The net is as it was, but the optimizer has a memory of the steps before, "
            f"{' and '.join(remembered)}, and it is lost."
        )
    for index, state in wanted["state"].items():
        for name, value in state.items():
            there = found["state"].get(index, {}).get(name)
            if there is None or not torch.equal(torch.as_tensor(there), torch.as_tensor(value)):
                return f"The net is as it was, but the optimizer's {name} is not."
    for before, after in zip(wanted["param_groups"], found["param_groups"], strict=True):
        for name, value in before.items():
            if name != "params" and after.get(name) != value:
                return f"The net is as it was, but the optimizer's {name} is {after.get(name)}, and it was {value}."
    return "The net and the optimizer are as they were, but the optimizer no longer updates this net's parameters."
