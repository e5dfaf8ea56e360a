"""What can be watched of the machine: its operations, transfers, collectives and memory."""

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


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective of several ranks, or a message from one to another, as one rank's device takes part in it."""

    device: int
    stream: int
    """The device's communication stream."""
    name: str
    """`all_reduce`, `broadcast`, `send`, ..."""
    bytes: int
    """Of this rank's tensors."""
    ready_ns: int
    """When this rank had come to it."""
    start_ns: int
    """When the last rank had."""
    end_ns: int
    last_rank: int
    """The rank for which the others waited; of several at the same time, the first."""


class Observer(Protocol):
    """Told of what happens on a machine while it is in `machine.observers`. Watching changes no time and no result."""

    def operation(self, operation: Operation) -> None: ...

    def transfer(self, copy: Copy) -> None: ...

    def collective(self, collective: Collective) -> None: ...

    def memory(self, device: int, block: Block, change_bytes: int, at_ns: int) -> None:
        """A block was reserved or resized, or is at its end (`block.held_bytes` < 0), when the host was at `at_ns`."""
