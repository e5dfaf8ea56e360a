"""`send` and `recv` between ranks on virtual GPUs.

A message starts when both ranks have come to it and the one before it, from the same rank to the same rank, has ended;
it takes as long as a copy over their link. Both ranks tell each other when they are ready, beside the numbers. All that
is posted at once, and looked at when somebody waits: so two ranks may send to each other first and receive afterwards.

Private PyTorch names used here: the operators of `torch.ops.c10d`, `Work.unbox`, `Work._source_rank`. Tried on torch
2.13.0.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Work

from lab.vgpu.clock import VirtualClock
from lab.vgpu.collectives import UNTIMED, Bound
from lab.vgpu.observer import Collective
from lab.vgpu.tensor import machine
from lab.vgpu.works import EndedWork

Direction: TypeAlias = Literal["send", "recv", "recv_any"]

OPERATORS: dict[str, Direction] = {"send": "send", "recv_": "recv", "recv_any_source_": "recv_any"}
_ABOUT_TAG = 1 << 29
"""What the sender says about a message goes by this tag plus twice the message's own; the receiver's by one more."""


class _Pair:
    """The messages of a process group from one rank to another, on this rank's side."""

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self.end_ns = 0
        """When the last one ends."""


_pairs: WeakKeyDictionary[Any, WeakKeyDictionary[VirtualClock, defaultdict[tuple[int, int], _Pair]]] = (
    WeakKeyDictionary()
)


def post(
    direction: Direction, func: Any, group: Any, bound: Bound, device: int, tensors: Sequence[torch.Tensor]
) -> Message:
    """Has gloo send or receive, and says when this rank is ready.

    Args:
        func: the operator.
        bound: its arguments by name, with CPU tensors.
        tensors: those on the device.
    """
    here = machine()
    ready_ns = here.clock.issue(device) if here.timing else UNTIMED
    numbers = Work.unbox(func(**bound))
    message = Message(direction, group, numbers, device, ready_ns, tensors, bound["tag"])
    if direction != "recv_any":
        message.ask(bound["dst" if direction == "send" else "src"])
    return message


class Message(EndedWork):
    """One message, on one of its two sides."""

    def __init__(
        self,
        direction: Direction,
        group: Any,
        numbers: Any,
        device: int,
        ready_ns: int,
        tensors: Sequence[torch.Tensor],
        tag: int,
    ) -> None:
        super().__init__(machine().clock, device, ready_ns, tensors)
        self._direction = direction
        self._group = group
        self._rank = group.rank()
        self._global_ranks = dist.get_process_group_ranks(group)
        self._numbers = numbers
        self._ready_ns = ready_ns
        self._tag = _ABOUT_TAG + 2 * tag
        self._size = sum(tensor.nbytes for tensor in tensors)
        self._told = torch.tensor([ready_ns, device])
        self._heard = torch.empty_like(self._told)
        self._talk: list[Any] = []
        self._pair: _Pair | None = None
        self._peer = -1

    def ask(self, peer: int) -> None:
        """Tells the other rank when this one is ready, and asks it the same."""
        group, self._group = self._group, None  # no longer needed, and not to be kept alive from here
        self._peer = peer
        sends = self._direction == "send"
        self._talk = [
            group.send([self._told], peer, self._tag + (not sends)),
            group.recv([self._heard], peer, self._tag + sends),
        ]
        ends = (self._rank, peer) if sends else (peer, self._rank)
        pairs = _pairs.setdefault(group, WeakKeyDictionary()).setdefault(self.clock, defaultdict(_Pair))
        self._pair = pairs[ends]
        self._pair.waiting.append(self)

    def _settle(self) -> None:
        if self._pair is None:  # from any rank
            numbers, self._numbers = self._numbers, None  # gloo would wait for another message the second time
            numbers.wait()
            self.ask(numbers._source_rank())
        pair = self._pair
        while pair is not None and self in pair.waiting:
            pair.waiting.popleft()._arrive(pair)

    def _arrive(self, pair: _Pair) -> None:
        for work in self._talk:
            work.wait()
        if self._numbers is not None:
            self._numbers.wait()
        ready_ns, device = self._heard.tolist()
        if self._ready_ns == UNTIMED:
            return
        source, target = (self.device, device) if self._direction == "send" else (device, self.device)
        here = machine()
        start_ns = max(self._ready_ns, ready_ns, pair.end_ns)
        link = self.clock.topology.route(here.check(source), here.check(target)).link
        self.end_ns = pair.end_ns = start_ns + link.duration_ns(self._size)
        last = self._peer if ready_ns > self._ready_ns else self._rank
        self.clock.tell_collective(
            Collective(
                self.device,
                0,
                "send" if self._direction == "send" else "recv",
                self._size,
                self._ready_ns,
                start_ns,
                self.end_ns,
                self._global_ranks[last],
            )
        )

    def _source_rank(self) -> int:
        self._settle()
        return self._peer

    def source_rank(self) -> int:
        return self._source_rank()
