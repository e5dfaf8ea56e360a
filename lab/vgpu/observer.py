"""What can be watched of the machine: its operations, its transfers and its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lab.vgpu.memory import Block


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one virtual GPU, in nanoseconds on the virtual clock."""

    device: int
    stream: int
    """0 is the device's default stream."""
    func: Any
    """The operator overload."""
    args: Any
    """Its positional arguments, with the CPU tensors behind those on devices."""
    result: Any
    issued_ns: int
    """When the host had issued it."""
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A transfer between two ends, each a device's index or `links.HOST`."""

    source: int
    target: int
    source_stream: int
    target_stream: int
    bytes: int
    issued_ns: int
    start_ns: int
    end_ns: int


class Observer(Protocol):
    """Told of what happens on a machine while it is in `machine.observers`. Watching changes no time and no result."""

    def operation(self, operation: Operation) -> None: ...

    def transfer(self, copy: Copy) -> None: ...

    def memory(self, device: int, block: Block, change_bytes: int, at_ns: int) -> None:
        """A block was reserved (`change_bytes` > 0), released (< 0) or resized, when the host was at `at_ns`."""
