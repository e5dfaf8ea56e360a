"""A run: started, watched, stopped.

with lab.start(experiment) as run:
    for event in run:
        print(event)
print(run.result())
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lab import readiness
from lab.errors import RunError
from lab.events import (
    DeviceTotals,
    Event,
    MemorySampled,
    MemoryTraced,
    RankFailed,
    RunFinished,
    RunStarted,
    Span,
    StepFinished,
)
from lab.experiment import Experiment
from lab.state import RunState

if TYPE_CHECKING:
    from torch import nn

    from lab.timing.recorder import WaitFinder

STOP_SECONDS = 0.7
"""How long a worker may take to stop by itself before it is killed."""
MAX_BUFFERED = 100_000
"""Events kept for a loop that may still come to read them."""

READER_SECONDS = 2.0
"""A loop that has taken no event for so long holds up nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    state: str
    """`finished` or `stopped`."""
    steps: int
    loss: float | None
    """Of the last training step."""
    accuracy: float | None
    """On the test split, the last time it was evaluated."""
    wall_seconds: float
    totals: dict[str, DeviceTotals]


def start(experiment: Experiment, net: nn.Module | Callable[[], nn.Module] | None = None) -> Run:
    """Starts a run in a worker process and returns at once.

    Args:
        experiment: what to run.
        net: a module of your own, or a class or function that makes one, in place of the registry's.

    Raises:
        ExperimentError: with every problem, before anything starts.
    """
    return Run(readiness.check(experiment.explicit(), net), net)


class Run:
    """A run in a worker process. Iterate it for its events, or read `state`, which a thread keeps up to date."""

    def __init__(self, experiment: Experiment, net: Any = None) -> None:
        from lab.workers import launch

        launch.refuse_in_worker()
        self.id = uuid.uuid4().hex[:12]
        self.experiment = experiment
        self.state = RunState()
        self.lock = threading.RLock()
        """Hold it while reading several things from `state`."""
        self._changed = threading.Condition(self.lock)
        self._buffer: deque[Event] = deque()
        self._last_read = float("-inf")
        self._done = False
        self._stop_at: float | None = None
        self._worker: launch.Worker | None = None
        self._payload = _pickled(net)
        self._waits: WaitFinder | None = None
        self._step_spans: list[Span] = []
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._supervise, name=f"lab-run-{self.id}", daemon=True)
        self._thread.start()

    # -- for the user ----------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """True when the run has ended and its process is gone."""
        return self._done

    def stop(self) -> None:
        """Asks the run to stop after its current step; returns at once. A worker that does not is killed in time for
        the run to end within a second."""
        with self.lock:
            if self._done or self._stop_at is not None:
                return
            self._stop_at = time.monotonic() + STOP_SECONDS
            if self._worker is not None:
                with contextlib.suppress(OSError):
                    self._worker.pipe.send_bytes(b"stop")

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, at most `timeout` seconds; True when the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._done, timeout)
            return self._done

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the end and tells how it went.

        Raises:
            RunError: when the run failed; carries the cause.
            TimeoutError: when it has not ended after `timeout` seconds.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.id} has not ended after {timeout} seconds")
        state, finished = self.state, self.state.finished
        if state.failure is not None or finished is None:
            failure = state.failure or RankFailed(0, "the run ended without a word", True)
            advice = f"\n{failure.advice}" if failure.advice else ""
            trace = f"\n\n{failure.traceback}" if failure.traceback else ""
            raise RunError(f"{failure.cause}{advice}{trace}", failure)
        accuracy = state.evaluations[-1].accuracy if state.evaluations else None
        return Result(finished.state, finished.steps, state.last_loss, accuracy, finished.wall_seconds, finished.totals)

    def close(self) -> None:
        """Stops the run if it is still going, and waits until its process is gone."""
        self.stop()
        self._thread.join()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        """Every event, from the first, as it comes; each is handed out once, and a loop that was left can be taken up
        again. While a loop keeps reading, the run's reports wait for it; when nobody reads, old spans give way, and
        `state` still counts them."""
        while True:
            with self._changed:
                self._last_read = time.monotonic()
                self._changed.wait_for(lambda: self._buffer or self._done)
                if not self._buffer:
                    return
                event = self._buffer.popleft()
                self._last_read = time.monotonic()
            yield event

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.state.status}, step {self.state.step}>"

    # -- the thread that watches over the worker ---------------------------------------------------------------------

    def _supervise(self) -> None:
        from lab.workers import entry, launch
        from lab.workers.failure import from_exception

        try:
            worker = launch.launch(entry.main, self.id, self.experiment.to_json(), self._payload)
        except Exception as error:  # noqa: BLE001 - whatever keeps a process from starting is the run's failure
            self._end([from_exception(error)])
            return
        with self.lock:
            self._worker = worker
            if self._stop_at is not None:
                with contextlib.suppress(OSError):
                    worker.pipe.send_bytes(b"stop")
        try:
            self._watch(worker)
        finally:
            worker.kill()
            exit_code = self._exit_code(worker)
            with self.lock:
                self._worker = None
                worker.close()
            self._end(self._last_words(exit_code))

    def _watch(self, worker: Any) -> None:
        """Reads until the worker has said its last word, died, or not stopped in time."""
        while self.state.finished is None:
            left = None if self._stop_at is None else self._stop_at - time.monotonic()
            if left is not None and left <= 0:
                return
            ready = wait([worker.pipe, worker.process.sentinel], min(0.2, left) if left is not None else 0.2)
            if worker.pipe in ready:
                try:
                    self._receive(pickle.loads(worker.pipe.recv_bytes()))
                except (EOFError, OSError):
                    return
            elif ready:
                return

    @staticmethod
    def _exit_code(worker: Any) -> int | None:
        worker.process.join()
        code: int | None = worker.process.exitcode
        return code

    def _last_words(self, exit_code: int | None) -> list[Event]:
        """What the worker left unsaid."""
        from lab.workers.failure import from_exit

        if self.state.finished is not None:
            return []
        seconds = time.monotonic() - self._began
        if self._stop_at is not None:
            return [RunFinished("stopped", self.state.step, seconds, self._totals())]
        words: list[Event] = [] if self.state.failures else [from_exit(exit_code)]
        return [*words, RunFinished("failed", self.state.step, seconds, self._totals())]

    def _totals(self) -> dict[str, DeviceTotals]:
        """From the spans that arrived, for a worker that could not add them up itself."""
        totals = {}
        for device in self.state.device_names:
            kinds = self.state.totals[device]
            transfer, collective = kinds["transfer"], kinds["collective"]
            busy = sum(kinds.values()) - transfer - collective - kinds["wait"]
            idle = max(0, self.state.elapsed_ns - busy - transfer - collective)
            totals[device] = DeviceTotals(busy, transfer, collective, idle)
        return totals

    def _end(self, words: list[Event]) -> None:
        if words and not isinstance(words[-1], RunFinished):
            words = [*words, RunFinished("failed", 0, 0.0, {})]
        with self._changed:
            self._publish(words)
            self._done = True
            self._changed.notify_all()

    # -- events ------------------------------------------------------------------------------------------------------

    def _receive(self, batch: list[Any]) -> None:
        from lab.timing.recorder import WaitFinder, as_event

        events: list[Event] = []
        for item in batch:
            event = as_event(item)
            if isinstance(event, Span):
                self._step_spans.append(event)
            elif isinstance(event, RunStarted):
                self._waits = WaitFinder([device.name for device in event.devices])
            elif isinstance(event, StepFinished) and self._waits is not None:
                events += self._waits.waits(self._step_spans)
                self._step_spans.clear()
            events.append(event)
        with self._changed:
            while len(self._buffer) > MAX_BUFFERED and self._is_read() and self._stop_at is None:
                self._changed.wait(0.1)
            self._publish(events)

    def _publish(self, events: list[Event]) -> None:
        self.state.apply_all(events)
        self._buffer.extend(events)
        if len(self._buffer) > MAX_BUFFERED and not self._is_read():
            self._make_room()
        self._changed.notify_all()

    def _is_read(self) -> bool:
        """True while a loop takes events. One that took none for a while was left, though Python may keep it alive."""
        return time.monotonic() - self._last_read < READER_SECONDS

    def _make_room(self) -> None:
        """Nobody reads: spans and what tells of memory give way first, then the older half of the steps."""
        minor = Span | MemorySampled | MemoryTraced
        kept: list[Event] = [event for event in self._buffer if not isinstance(event, minor)]
        if len(kept) > MAX_BUFFERED // 2:
            middle = len(kept) // 2
            kept = [*(event for event in kept[:middle] if not isinstance(event, StepFinished)), *kept[middle:]]
        self._buffer = deque(kept)


def _pickled(net: Any) -> bytes | None:
    if net is None:
        return None
    import cloudpickle

    try:
        payload: bytes = cloudpickle.dumps(net)
    except Exception as error:
        raise RunError(
            f"your net cannot be sent to a worker process: {type(error).__name__}: {error}. Give a class or a function "
            "that makes it, and open files, locks and connections inside"
        ) from error
    return payload
