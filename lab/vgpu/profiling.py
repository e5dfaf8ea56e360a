"""`vgpu.profile()`: records what virtual GPUs do while some code runs.

    with vgpu.profile() as p:
        loss = net(x.to("vgpu:0")).sum()
        loss.backward()
    p                       # a table: busy, idle, bytes over every link
    p.timeline()            # a picture
    p.save("trace.json")    # for https://ui.perfetto.dev

Watching changes no time and no result.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from lab import vgpu
from lab.vgpu import recording as recorded
from lab.vgpu import roofline
from lab.vgpu.attribution import Attribution
from lab.vgpu.links import HOST
from lab.vgpu.machine import Machine
from lab.vgpu.observer import Collective, Copy, Operation
from lab.vgpu.purposes import MemoryLedger
from lab.vgpu.recording import OpSpan, Recording, Transfer

if TYPE_CHECKING:
    from lab.vgpu.memory import Block

MAX_SPANS = 200_000
"""About 60 MB of them."""


class Profiler(Recording):
    """Records from the beginning of a `with` block to its end. Profiles may be nested; each sees everything.

    Args:
        max_spans: after this many operations and transfers together it stops, so that a long program does not fill the
            memory. All that is told then is of the time until there, and `notes` says so.

    Raises:
        ValueError: when `max_spans` is below 1.
    """

    def __init__(self, max_spans: int = MAX_SPANS) -> None:
        if max_spans < 1:
            raise ValueError(f"max_spans={max_spans} would record nothing: give at least 1")
        super().__init__()
        self._max_spans = max_spans
        self._machine: Machine | None = None
        self._watcher = _Watcher(self, max_spans)

    def __enter__(self) -> Profiler:
        if self.devices:
            raise RuntimeError("this profile has been used: call lab.vgpu.profile() again for a new one")
        self._machine = machine = vgpu.current()
        self.devices = tuple(f"vgpu:{index}" for index in range(machine.device_count))
        self.hardware = machine.profile.title
        self.issue_ns = machine.clock.issue_ns
        self._zero_ns = machine.clock.host_ns
        self._ledger = MemoryLedger(machine)
        self._ledger.open()
        self._watcher.origins.attach()
        machine.observers.append(self._watcher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        machine = self._machine
        if machine is None:
            return
        machine.observers.remove(self._watcher)
        self._watcher.origins.detach()
        if self._ledger is not None:
            self._ledger.__exit__(None, None, None)
        self._machine = None
        self.host_ns = machine.clock.host_ns - self._zero_ns
        self.length_ns = machine.clock.now_ns - self._zero_ns
        if self.left_out:
            self.length_ns = max([span.end_ns for span in self.spans] + [copy.end_ns for copy in self.transfers])
            self.host_ns = min(self.host_ns, self.length_ns)
            self.notes.append(
                f"Recording stopped after {self._max_spans:,} operations and transfers; {self.left_out:,} more are "
                f"left out, and all figures are of the time until there. vgpu.profile(max_spans=...) records more."
            )
        if kind is not None:
            self.notes.append(f"The code ended with {kind.__name__}; what came before it is here.")
        if vgpu.current() is not machine:
            self.notes.append("enable() was called inside: what ran on the new virtual GPUs is not here.")


class _Watcher:
    """The machine's observer."""

    def __init__(self, recording: Recording, max_spans: int) -> None:
        self.origins = Attribution()
        self._recording = recording
        self._room = max_spans

    def operation(self, operation: Operation) -> None:
        if not self._has_room():
            return
        recording, zero = self._recording, self._recording._zero_ns
        flops, moved = roofline.work(operation.func, operation.args, operation.result)
        origin = self.origins.origin()
        recording.spans.append(
            OpSpan(
                recording.devices[operation.device],
                operation.stream,
                operation.func._overloadpacket.__name__,
                *origin,
                operation.issued_ns - zero,
                operation.start_ns - zero,
                operation.end_ns - zero,
                flops,
                moved,
            )
        )

    def transfer(self, copy: Copy) -> None:
        if not self._has_room():
            return
        recording, zero = self._recording, self._recording._zero_ns
        recording.transfers.append(
            Transfer(
                self._name(copy.source),
                self._name(copy.target),
                copy.source_stream,
                copy.target_stream,
                copy.bytes,
                copy.issued_ns - zero,
                copy.start_ns - zero,
                copy.end_ns - zero,
            )
        )

    def collective(self, collective: Collective) -> None:
        if not self._has_room():
            return
        recording, zero = self._recording, self._recording._zero_ns
        recording.collectives.append(
            recorded.Collective(
                self._name(collective.device),
                collective.stream,
                collective.name,
                collective.bytes,
                collective.ready_ns - zero,
                collective.start_ns - zero,
                collective.end_ns - zero,
                collective.last_rank,
            )
        )

    def memory(self, device: int, block: Block, change_bytes: int, at_ns: int) -> None:
        """The ledger is told of it."""

    def _has_room(self) -> bool:
        self._room -= 1
        if self._room < 0:
            self._recording.left_out += 1
        return self._room >= 0

    def _name(self, end: int) -> str:
        return "cpu" if end == HOST else self._recording.devices[end]
