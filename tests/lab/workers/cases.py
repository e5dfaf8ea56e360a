"""Faults and what has to be said of them: for the tests, and for the table of `tests.benchmarks.faults`."""

from __future__ import annotations

import re
from typing import Any

import lab
from lab.events import RankFailed
from lab.faults import FaultKind

CAUSES: dict[FaultKind, str] = {
    "kill": r"rank {rank} was killed by SIGKILL, in data of step \d+",
    "raise": r"rank {rank} raised an error before step \d+, as you asked",
    "hang": r"rank {rank} has been in data of step \d+ for \d+ s, "
    r"while the others wait for it in all_reduce \d+ \(step \d+\)",
    "exit": r"rank {rank} ended with exit code 0 without saying that it was done, in data of step \d+",
    "leave": r"rank {rank} left the group before step \d+, and then raised, as you asked",
    "interrupt": r"rank {rank} was interrupted \(KeyboardInterrupt\)",
    "wrong_shape": r"rank {rank} brought [\d,]+ bytes to all_reduce \d+ \(step \d+\), where the others brought [\d,]+",
    "never_join": r"rank {rank} did not join the group; the others waited \d+ s for it",
    "nan": r"rank {rank}'s gradients became NaN or infinite at step \d+, in bucket 0 \(.*conv1.bias\); "
    r"the all-reduce spread them to every rank",
    "skip": r"rank {rank} left out (an all-reduce in step \d+.*|the all-reduce of [\d,]+ bytes in step \d+)"
    r"|rank {rank}'s parameters differ from the others' since step \d+, first in conv1.weight",
}
"""What breaks a run -> the cause that has to be named first."""
SURVIVED: tuple[FaultKind, ...] = ("straggle", "delay", "throttle")
UNHEARD: tuple[FaultKind, ...] = ("hang", "never_join")
"""Only time tells."""
WHERE = ("cpu", "vgpu", "placed")
"""Ranks that share the CPU, with a virtual GPU each, and with two that share the layers."""


def experiment(where: str, world_size: int = 2, **fields: Any) -> lab.Experiment:
    """A run of `ddp` with this many ranks there."""
    per_rank = {"cpu": 0, "vgpu": 1, "placed": 2}[where]
    devices = tuple(f"vgpu:{index}" for index in range(per_rank * world_size)) or ("cpu",)
    settings: dict[str, Any] = {"batch_size": 24, "timeout_s": 20, "timing": "modelled" if per_rank else "auto"}
    if where == "placed":
        settings["placement"] = "even"
    return lab.Experiment(strategy="ddp", world_size=world_size, devices=devices, **{**settings, **fields})


def names(failure: RankFailed | None, kind: FaultKind, rank: int) -> bool:
    """Whether a root cause is the right one."""
    if failure is None or not failure.primary or failure.rank != rank:
        return False
    return re.fullmatch(CAUSES[kind].format(rank=rank), failure.cause, re.DOTALL) is not None
