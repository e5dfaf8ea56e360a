"""What the memory of virtual GPUs is used for in the course of a step, traced now and then.

A step that is traced takes two or three milliseconds longer, so one in a second costs a run less than half a percent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lab.events import PURPOSES, MemoryTraced
from lab.vgpu.machine import Machine
from lab.vgpu.memory_record import thinned
from lab.vgpu.purposes import MemoryLedger

EVERY_SECONDS = 1.0
FIRST_STEPS = 2
"""Steps that are traced in any case. If memory runs out, it does so here, where the optimizer's state comes to be; then
the error says what holds it."""
MAX_POINTS = 240
"""Of all devices together, so that a report stays small however many there are; each has a tenth of them at least."""


class StepMemory:
    """Decides which steps are traced, and keeps what was found until it is reported.

    Args:
        machine: the machine of the virtual GPUs.
        devices: of the run; those that are no virtual GPUs are left out.
    """

    def __init__(self, machine: Machine, devices: Sequence[str]) -> None:
        self._ledger = MemoryLedger(machine)
        self._devices = {int(name[5:]): name for name in devices if name.startswith("vgpu")}
        self._capacity = machine.pools[0].capacity
        self._begun = 0
        self._open = False
        self._last = float("-inf")
        self._traces: list[MemoryTraced] = []

    def step_begins(self) -> None:
        """Traces the step from here, when it is time."""
        now = time.monotonic()
        if self._begun >= FIRST_STEPS and now - self._last < EVERY_SECONDS:
            return
        self._ledger.open(search=not self._begun)
        self._open, self._last = True, now
        self._begun += 1

    def step_ended(self, step: int) -> None:
        """The step ends here, and the next one begins."""
        if self._open:
            self.drop()
            limit = max(MAX_POINTS // 10, MAX_POINTS // max(1, len(self._devices)))
            self._traces = [self._trace(step, index, name, limit) for index, name in self._devices.items()]
        self.step_begins()

    def _trace(self, step: int, index: int, name: str, limit: int) -> MemoryTraced:
        points = thinned(self._ledger.timeline(index), limit)
        sizes = {purpose: tuple(point.by_purpose[purpose] for point in points) for purpose in PURPOSES}
        return MemoryTraced(name, step, tuple(point.at_ns for point in points), sizes, self._capacity)

    def drop(self) -> None:
        """Forgets what was traced of a step that is not over."""
        self._ledger.close()
        self._open = False

    def report(self) -> list[MemoryTraced]:
        """The traces since the last report, one for each device."""
        traces, self._traces = self._traces, []
        return traces
