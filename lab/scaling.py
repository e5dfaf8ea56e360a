"""How training speeds up with more ranks: the same global batch, shared by 1, 2, 4 ... of them (strong scaling).

speed-up   = pace with n ranks / pace with the fewest
efficiency = speed-up / (n / the fewest ranks): 1 if every rank added pulled its full weight
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.state import RunState


@dataclass(frozen=True, slots=True)
class Scaled:
    """One run of several that differ in their world size."""

    world_size: int
    step_seconds: float
    """Median of the last steps, on the run's clock."""
    samples_per_second: float
    """Of all ranks together."""
    speedup: float
    efficiency: float


def scaling(states: Sequence[RunState]) -> list[Scaled]:
    """The runs by world size, each compared with that of the fewest ranks; runs without a finished step are left out.

    Raises:
        ValueError: when the runs' clocks or global batches differ, so that they cannot be compared.
    """
    known = [state for state in states if state.started is not None and state.step_seconds]
    if not known:
        return []
    for what, values in (
        ("clock", {state.started.clock for state in known if state.started}),
        ("batch_size", {state.started.experiment["batch_size"] for state in known if state.started}),
    ):
        if len(values) > 1:
            raise ValueError(f"runs of different {what} cannot be compared: {', '.join(sorted(map(str, values)))}")
    known.sort(key=lambda state: state.world_size)
    first = known[0].world_size
    base = _pace(known[0])
    return [
        Scaled(
            state.world_size,
            state.step_seconds or 0.0,
            _pace(state),
            _pace(state) / base,
            _pace(state) / base * first / state.world_size,
        )
        for state in known
    ]


def _pace(state: RunState) -> float:
    """Samples per second; 0 before the first step."""
    if state.started is None or not state.step_seconds:
        return 0.0
    return float(state.started.experiment["batch_size"]) / state.step_seconds
