"""Works and futures of collectives on virtual GPUs. As with NCCL, waiting for one makes a device's stream wait, not the
host.

The numbers are there when a collective has been issued; what is to come is the moment on the virtual clock at which it
ends. So a future is complete from the start, and what is chained to it with `then` runs at once, on a stream of its own
that waits for the collective.

DistributedDataParallel's own hook leaves the wait to C++, where nobody tells the clock of it. A collective that is
issued during backward is therefore joined by the current stream when backward ends, just before
DistributedDataParallel reads what it brought.

Private PyTorch names used here: `torch._C._distributed_c10d.Work` as a base class, and `Work.boxed`,
`Variable._execution_engine.queue_callback`, `torch._C._current_graph_task_id`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch._C._distributed_c10d import Work
from torch.autograd.variable import Variable

from lab.vgpu.clock import Stream, VirtualClock

_MOST_HELD = 4096
_held: deque[EndedWork] = deque(maxlen=_MOST_HELD)
"""Works that nobody has waited for. What C++ keeps of a work does not keep its Python half alive, without which a wait
for it would never end; so they are kept here, the latest of them."""
_callback_streams: WeakKeyDictionary[VirtualClock, dict[int, Stream]] = WeakKeyDictionary()


class EndedWork(Work):
    """A collective whose numbers have arrived, and that ends at `end_ns` on the virtual clock.

    Args:
        clock: this rank's.
        device: whose stream is to wait for it.
        end_ns: when it ends.
        outputs: the tensors that it has written.
        host_waits: whether `wait()` makes the host wait too, as for a barrier.
    """

    def __init__(
        self,
        clock: VirtualClock,
        device: int,
        end_ns: int,
        outputs: Sequence[torch.Tensor],
        *,
        host_waits: bool = False,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.device = device
        self.end_ns = end_ns
        self.outputs = list(outputs)
        self._host_waits = host_waits

    def boxed(self) -> Any:
        """As an operator returns it; it lives until somebody has waited for it."""
        _held.append(self)
        return super().boxed()

    def hand_over(self) -> None:
        """Leaves it to whoever started it to keep it, who holds its outputs, too."""
        self._let_go()
        self.outputs = []

    def settle(self) -> None:
        """Makes sure that the numbers have arrived, and the time of its end is known; nobody has to wait for it."""
        try:
            self._settle()
        finally:
            self._let_go()

    def _settle(self) -> None:
        """Makes sure that the numbers have arrived."""

    def _let_go(self) -> None:
        if self in _held:
            _held.remove(self)

    def wait(self, timeout: Any = None) -> bool:
        """What is issued from now on, on the device's current stream, starts when the collective has ended."""
        self.settle()
        _join(self.clock, self.device, self.end_ns)
        if self._host_waits:
            self.clock.advance_host(self.end_ns)
        return True

    def synchronize(self) -> None:
        self.wait()

    def block_current_stream(self) -> None:
        self.wait()

    def get_future(self) -> torch.futures.Future[Any]:
        self.settle()
        future = EndedFuture(self.clock, self.device, self.end_ns)
        future.set_result(self.outputs)
        future.join_after_backward()
        return future

    def is_completed(self) -> bool:
        """Whether the simulated host finds it ended; asking takes it a moment."""
        self._settle()
        return self.clock.reached(self.end_ns)

    def is_success(self) -> bool:
        return True

    def exception(self) -> Any:
        return None

    def result(self) -> list[torch.Tensor]:
        self.wait()
        return self.outputs


class EndedFuture(torch.futures.Future[Any]):
    """The future of something that ends at `end_ns` on the virtual clock."""

    def __init__(self, clock: VirtualClock, device: int, end_ns: int) -> None:
        super().__init__()
        self._clock = clock
        self._device = device
        self._end_ns = end_ns

    def wait(self) -> Any:
        """The value; the device's current stream waits for it."""
        _join(self._clock, self._device, self._end_ns)
        return super().wait()

    def then(self, callback: Callable[[Any], Any]) -> torch.futures.Future[Any]:
        """Runs the callback at once. What it issues starts when this future's end is reached, beside what the device's
        current stream does."""
        stream = _callback_stream(self._clock, self._device)
        stream.wait_until(self._end_ns)
        chained = EndedFuture(self._clock, self._device, self._end_ns)
        before, chosen = self._clock.current(self._device), self._clock.chosen
        # Not by `set_current`: this is no choice of the thread's that backward would have to follow.
        chosen[self._device] = stream
        try:
            chained.set_result(callback(self))
        except Exception as error:  # noqa: BLE001 - a future keeps whatever its callback raises
            chained.set_exception(error)
        finally:
            chosen[self._device] = before
        chained._end_ns = max(self._end_ns, stream.free_ns)
        chained.join_after_backward()
        return chained

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.then(callback)

    def join_after_backward(self) -> None:
        """During backward: the current stream waits for it as soon as gradients have been computed."""
        if torch._C._current_graph_task_id() != -1:
            clock, device, end_ns = self._clock, self._device, self._end_ns
            Variable._execution_engine.queue_callback(lambda: _join(clock, device, end_ns))


def _join(clock: VirtualClock, device: int, end_ns: int) -> None:
    clock.current(device).wait_until(end_ns)


def _callback_stream(clock: VirtualClock, device: int) -> Stream:
    streams = _callback_streams.setdefault(clock, {})
    if device not in streams:
        streams[device] = clock.new_stream(device)
    return streams[device]
