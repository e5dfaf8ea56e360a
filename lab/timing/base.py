"""What every timer does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from torch import Tensor

Mark: TypeAlias = Any
"""The beginning of something on a device; only the timer that made it can read it."""
Interval: TypeAlias = Any
"""Something with a beginning and an end; only the timer that made it can read it."""


class Timer(Protocol):
    """Reads one clock. Marking is cheap and never waits for a device; reading may have to wait its turn."""

    def begin(self, device: str) -> Mark:
        """Marks the beginning of something on this device."""

    def end(self, mark: Mark) -> Interval | None:
        """Marks its end; None when nothing happened in between."""

    def read(self, interval: Interval) -> tuple[int, int]:
        """Start and end in nanoseconds; waits for the device when it is not `ready`."""

    def ready(self, interval: Interval) -> bool:
        """True when the device has come to the end of it."""

    def keep(self, loss: Tensor) -> Tensor:
        """A detached loss, or a copy of it, that can be read later without making a device wait."""

    def value(self, kept: Tensor) -> float:
        """The number in what `keep` gave."""

    def memory(self, device: str) -> tuple[int, int, int]:
        """Bytes allocated, peak, and capacity of a device now."""

    def now_ns(self) -> int:
        """When all that was issued so far is done, as far as that can be known without waiting."""

    def paused(self) -> AbstractContextManager[None]:
        """The clock stands still inside, as during evaluation."""

    def shift(self, ns: int) -> None:
        """For so many nanoseconds nothing went on: leaves them out."""
