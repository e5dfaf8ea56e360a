"""The streams of backward: as on CUDA, each operation's backward is issued on the stream of its forward.

PyTorch's engine arranges that for devices that are written in C++. Here it is found out: autograd numbers the nodes of
a thread in the order in which they are made, and the thread notes the number whenever it changes a stream.

Where backward goes over from one stream to another, the new one waits for the old one, and in the end the stream of the
caller does. PyTorch's engine waits for the producers of a gradient alone, which may be less.

Private PyTorch names used here: `torch._C._autograd._get_sequence_nr`, `torch._C._current_graph_task_id`,
`torch._C._current_autograd_node`, `Node._sequence_nr`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import threading
from bisect import bisect_right

import torch

from lab.vgpu.clock import Stream, VirtualClock

_MOST_CHANGES = 4096
"""How many changes of a device's stream a thread remembers: those of some steps of training."""
_NO_NUMBER = 2**64 - 1
"""What a node has in place of a number that belongs to no forward: one that adds to a leaf's gradient."""


class _Changes:
    """Which stream of one device was the current one, from which node on."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._streams: list[Stream] = []

    def note(self, number: int, stream: Stream) -> None:
        self._numbers.append(number)
        self._streams.append(stream)
        if len(self._numbers) > _MOST_CHANGES:
            del self._numbers[: _MOST_CHANGES // 2], self._streams[: _MOST_CHANGES // 2]

    def at(self, number: int) -> Stream | None:
        """The stream on which that node was made; None for the default one."""
        found = bisect_right(self._numbers, number)
        return self._streams[found - 1] if found else None


class _Thread(threading.local):
    def __init__(self) -> None:
        self.changes: dict[int, _Changes] = {}
        self.node: tuple[int, int] | None = None
        """The backward, and the node in it, for which the streams are set now; None outside of backward."""
        self.before: dict[int, Stream] = {}
        """The streams that the thread had chosen when backward began."""


class BackwardStreams:
    """Keeps the current streams of a clock right during backward."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._here = _Thread()

    def changed(self, stream: Stream) -> None:
        """This thread has chosen another stream."""
        self._note(stream, torch._C._autograd._get_sequence_nr())

    def _note(self, stream: Stream, number: int) -> None:
        self._here.changes.setdefault(stream.device, _Changes()).note(number, stream)

    def follow(self) -> None:
        """To be called before the current stream is looked at."""
        here = self._here
        if not here.changes:
            return
        task = torch._C._current_graph_task_id()
        if task == -1:
            if here.node is not None:
                here.node = None
                self._switch(here.before)
            return
        node = torch._C._current_autograd_node()
        number = _NO_NUMBER if node is None else node._sequence_nr()
        if here.node == (task, number):
            return
        if here.node is None:
            here.before = dict(self._clock.chosen)
        here.node = (task, number)
        if number == _NO_NUMBER:
            self._switch(here.before)
        else:
            made_on = {device: changes.at(number) for device, changes in here.changes.items()}
            self._switch({device: stream for device, stream in made_on.items() if stream is not None})

    def _switch(self, wanted: dict[int, Stream]) -> None:
        """Chooses these streams, and the default one where none is named; they wait for those that were chosen."""
        number = torch._C._autograd._get_sequence_nr()
        if torch.is_grad_enabled():
            number -= 1  # the operation that is about to be issued has its node already
        for device in list(self._here.changes):
            default = self._clock.streams[device]
            now, then = self._clock.chosen.get(device, default), wanted.get(device, default)
            if now is not then:
                then.wait_until(now.free_ns)
                self._clock.chosen[device] = then
                self._note(then, number)
