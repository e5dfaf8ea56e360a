"""What each device of a run sends in a step: counted for copies between devices, and for what ranks bring to
collectives computed by the way that these go (`lab.vgpu.rings.sent_bytes`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from lab.events import Span
from lab.vgpu import rings


@dataclass(slots=True)
class Sent:
    """Of one step, in bytes."""

    by_device: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Device -> what it sent to other devices of the run."""
    from_host: int = 0
    """What came to devices from a host that is none of them: the batch."""


class SentCounter:
    """Adds up the spans of each step until the step has ended."""

    def __init__(self) -> None:
        self._open: dict[int, Sent] = defaultdict(Sent)

    def add(self, span: Span, devices: Collection[str], ranks: int) -> None:
        """Takes a span of the run.

        Args:
            devices: of the run.
            ranks: that take part in a collective.
        """
        if span.kind == "transfer" and span.peer in devices:
            if span.device in devices:
                self._open[span.step].by_device[span.device] += span.bytes
            else:
                self._open[span.step].from_host += span.bytes
        elif span.kind == "collective" and span.bytes and span.rank < ranks:
            each = rings.sent_bytes(span.name, span.bytes, ranks)
            self._open[span.step].by_device[span.device] += each[span.rank]

    def ended(self, step: int, devices: Collection[str]) -> Sent:
        """What was sent in a step, by every device; the step is over."""
        found = self._open.pop(step, Sent())
        return Sent({**dict.fromkeys(devices, 0), **found.by_device}, found.from_host)
