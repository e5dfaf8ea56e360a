"""A run: started, watched, stopped.

with lab.start(experiment) as run:
    for event in run:
        print(event)
print(run.result())
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from lab import readiness, shells
from lab.backlog import Backlog
from lab.errors import ExperimentError, Problem, RunError
from lab.events import DeviceTotals, Event, Paused, RankFailed, RunFinished
from lab.experiment import Experiment, Link
from lab.faults import REGISTRY
from lab.state import RunState
from lab.vgpu import links
from lab.workers import payload
from lab.workers.conductor import Conductor
from lab.workers.control import Heard

if TYPE_CHECKING:
    from torch import nn

    from lab.faults import Fault
    from lab.workers.board import Position
    from lab.workers.supervisor import Supervisor

LONGEST_PAUSE_SECONDS = 10.0
"""Between two steps: one who watches gets along with less, and a step asked for too slowly looks like a hang."""
POLL_SECONDS = 0.2
STARTING_SECONDS = 60.0
"""How long the processes of a run may take to start before it can be paused."""
STOP_SECONDS = 0.7
"""How long a worker may take to stop by itself before it is killed."""


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

    In a notebook, a run whose name a later cell gives to another run is stopped.
    """
    shells.watch()
    return Run(readiness.check(experiment.explicit(), net), net)


class Run:
    """A run in worker processes. Iterate it for its events, or read `state`, which a thread keeps up to date."""

    def __init__(
        self, experiment: Experiment, net: Any = None, *, explain: bool = False, unexplained_s: float | None = None
    ) -> None:
        from lab.workers import launch

        launch.refuse_in_worker()
        self.id = uuid.uuid4().hex[:12]
        self.experiment = experiment
        self.explain = explain
        """Whether collectives are checked against each other before they run, which costs time."""
        self._unexplained_s = unexplained_s
        """What a step took without that, in the run before."""
        self.state = RunState()
        self.lock = threading.RLock()
        """Hold it while reading several things from `state`."""
        self._changed = threading.Condition(self.lock)
        self._backlog = Backlog(self._changed)
        self._done = False
        self._stop_at: float | None = None
        self._net = net
        self._payload = payload.of_net(net)
        self._supervisor: Supervisor | None = None
        self._conductor: Conductor | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._supervise, name=f"lab-run-{self.id}", daemon=True)
        self._thread.start()

    # -- for the user ----------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """True when the run has ended and its process is gone."""
        return self._done

    @property
    def held(self) -> bool:
        """True from `pause` until `resume`, also while the one step that was asked for goes on; what a button says that
        does either. `state.status` says whether the ranks stand still now."""
        with self.lock:
            return self._conductor is not None and self._conductor.held

    @property
    def pids(self) -> tuple[int, ...]:
        """Process numbers of the ranks, in their order; empty before they have started and after the end."""
        with self.lock:
            return self._supervisor.pids if self._supervisor is not None else ()

    def positions(self) -> tuple[Position, ...]:
        """How far each rank has come, as it says itself; empty before the start and after the end."""
        with self.lock:
            return self._supervisor.positions() if self._supervisor is not None else ()

    def stop(self) -> None:
        """Asks the run to stop after its current step; returns at once. Workers that do not are killed in time for the
        run to end within a second."""
        with self.lock:
            if self._done or self._stop_at is not None:
                return
            self._stop_at = time.monotonic() + STOP_SECONDS
            if self._conductor is not None:
                self._conductor.stop()

    def pause(self) -> None:
        """Has all ranks wait at the start of a step; `state.status` is `paused` as soon as they do. They then compute
        nothing. A run that is in its last step, or in the evaluation after it, ends instead.

        Raises:
            RunError: when the run is over, here and in what else controls it.
        """
        with self._conducting() as conductor:
            conductor.pause()

    def resume(self) -> None:
        """Lets a paused run go on."""
        with self._conducting() as conductor:
            self._publish(conductor.resume())

    def step(self, phase: bool = False) -> None:
        """Lets a paused run go on by one step, or by one phase of a step: data, forward, backward, synchronise, update.
        A run that is not paused is paused; steps asked for while the ranks are on their way follow one another."""
        with self._conducting() as conductor:
            self._publish(conductor.step(1) if phase else conductor.step())

    def change(self, *, lr: float | None = None, link: Link | str | None = None, pause_s: float | None = None) -> None:
        """Changes the learning rate, the link, or the pause between steps, for all ranks before the same step.

        Args:
            link: figures, or a link's name. Between virtual GPUs it is simulated; between ranks on real devices it is
                emulated: each waits for as long as the link would still carry its gradients.
            pause_s: seconds for which all ranks stand still between two steps, so that people can watch; 0 for none.
                They belong to no step: its times are as they were.

        Raises:
            ExperimentError: for a value that an Experiment would refuse, or a pause that is not from 0 to 10 seconds.
            RunError: for a link of a run that has none to change.
        """
        settings: dict[str, Any] = {}
        if lr is not None:
            settings["lr"] = self.experiment.replace(lr=lr).lr
        if link is not None:
            settings["link"] = self._figures(self.experiment.replace(link=link).link or link)
        if pause_s is not None:
            if not 0 <= pause_s <= LONGEST_PAUSE_SECONDS:
                most = f"{pause_s!r} is not allowed; give seconds from 0 to {LONGEST_PAUSE_SECONDS:g}"
                raise ExperimentError([Problem("pause_s", most)])
            settings["pause_s"] = float(pause_s)
        if not settings:
            return
        with self._conducting() as conductor:
            self._publish(conductor.change(settings))

    def inject(self, fault: Fault | str) -> None:
        """Lets something go wrong, now: `run.inject("kill:1")`. Its step counts as now when it has gone by.

        Raises:
            ExperimentError: for a fault that there is not, or a rank that this run has not.
        """
        checked = self.experiment.replace(faults=[str(fault)]).faults[0]
        if not REGISTRY[checked.kind].live:
            raise ExperimentError([Problem("faults", f"{str(checked)!r} comes too late: the ranks have joined")])
        with self._conducting() as conductor:
            self._publish(conductor.change({"fault": str(checked)}))

    def again(self) -> Run:
        """The same run once more. When this one failed, collectives are checked against each other this time, which
        costs time and may name the cause more exactly."""
        explain = self.state.status == "failed" and self._several_ranks
        with self.lock:
            before = self._unexplained_s if self.explain else self.state.step_seconds
        return Run(self.experiment, self._net, explain=explain, unexplained_s=before)

    @property
    def explain_cost(self) -> str:
        """What it costs that collectives are checked, in a sentence; empty where they are not, or it is not known."""
        with self.lock:
            now, before = self.state.step_seconds, self._unexplained_s
        if not self.explain or not now or not before:
            return ""
        took = f"a step takes {now * 1e3:.1f} ms, {now / before:.1f} times the {before * 1e3:.1f} ms of the run before"
        return f"collectives are checked against each other: {took}"

    def _figures(self, link: Link | str) -> dict[str, float]:
        virtual = self.experiment.devices[0].startswith("vgpu") and self.experiment.clock != "wall"
        if not virtual and not self._several_ranks:
            raise RunError("this run has no link to change: only one between virtual GPUs, or between ranks, can be")
        if isinstance(link, str):
            named = links.get(link)
            link = Link(bandwidth_gb_per_s=named.gb_per_s, latency_us=named.latency_us)
        return link.model_dump()

    @property
    def _several_ranks(self) -> bool:
        return (self.experiment.world_size or 1) > 1

    @contextlib.contextmanager
    def _conducting(self) -> Iterator[Conductor]:
        with self._changed:
            self._changed.wait_for(lambda: self._conductor is not None or self._done, timeout=STARTING_SECONDS)
            if self._conductor is None or self._done:
                over = f"is over: it is {self.state.status}" if self._done else "has not started yet"
                raise RunError(f"run {self.id} {over}, and cannot be paused or changed")
            yield self._conductor

    def wait(self, timeout: float | None = None, until: Callable[[RunState], bool] = lambda state: False) -> bool:
        """Waits for the end, or until something holds of the state; at most `timeout` seconds. True when the run has
        ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or until(self.state), timeout)
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
        while (event := self._backlog.take(lambda: self._done)) is not None:
            yield event

    def drop_events(self) -> None:
        """Keeps no events for a loop over this run, which costs some ten megabytes: for who looks at `state` alone."""
        with self._changed:
            self._backlog.drop()

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.state.status}, step {self.state.step}>"

    # -- the thread that watches over the workers --------------------------------------------------------------------

    def _supervise(self) -> None:
        from lab.workers.failure import from_exception
        from lab.workers.supervisor import Supervisor

        try:
            supervisor = Supervisor(self.id, self.experiment, self._payload, explain=self.explain)
        except Exception as error:  # noqa: BLE001 - whatever keeps a process from starting is the run's failure
            self._end([from_exception(error)], [])
            return
        try:
            with self._changed:
                self._supervisor = supervisor
                self._conductor = Conductor(supervisor.world_size, supervisor.send)
                if self._stop_at is not None:
                    self._conductor.stop()
                self._changed.notify_all()
            self._watch(supervisor)
        finally:
            with self.lock:
                self._conductor = self._supervisor = None
            supervisor.close()
            self._end(supervisor.failures, list(supervisor.finished.values()), supervisor.diverged_ever)

    def _watch(self, supervisor: Supervisor) -> None:
        """Reads until the ranks have said their last words, one has failed, or they have not stopped in time."""
        from lab.workers.inbox import Inbox

        inbox = Inbox()
        while not supervisor.over:
            left = POLL_SECONDS if self._stop_at is None else self._stop_at - time.monotonic()
            if left <= 0:
                supervisor.look_once_more()
                return
            for rank, batch in supervisor.read(min(POLL_SECONDS, left)):
                events = inbox.take(rank, batch)
                with self._changed:
                    self._backlog.wait_for_reader(lambda: self._stop_at is not None)
                    self._publish(self._conducted(events))
            if inbox.divergence is not None:
                supervisor.diverged(inbox.divergence)
            if self._conductor is not None:
                supervisor.watching_time = not self._conductor.together
                supervisor.at_gate = self._conductor.at_gate

    def _conducted(self, events: Sequence[Event | Heard]) -> list[Event]:
        """The events, with what the ranks' waiting at gates means for the run in place of each rank's word."""
        told: list[Event] = []
        for event in events:
            if isinstance(event, Paused):
                told += self._conductor.waits(event) if self._conductor is not None else []
            elif isinstance(event, Heard):
                if self._conductor is not None:
                    self._conductor.heard(event.rank)
            else:
                told.append(event)
        return told

    def _end(self, failures: list[RankFailed], finished: list[RunFinished], diverged: bool = False) -> None:
        """Publishes the run's last words, made of the ranks'; `diverged` when these do not hold the same parameters."""
        state: Literal["finished", "stopped", "failed"] = "finished"
        stopping = self._stop_at is not None
        if stopping and not diverged and not any(word.state == "failed" for word in finished):
            failures = []  # what was killed because it did not stop in time has not failed
        if failures:
            state = "failed"
        elif stopping and not (finished and all(word.state == "finished" for word in finished)):
            state = "stopped"
        totals = self._totals()
        for word in finished:
            totals.update(word.totals)
        last = RunFinished(
            state,
            min((word.steps for word in finished), default=self.state.step),
            max((word.wall_seconds for word in finished), default=time.monotonic() - self._began),
            totals,
            sum(word.dropped_spans for word in finished),
        )
        with self._changed:
            self._publish([*failures, last])
            self._done = True
            self._changed.notify_all()

    def _totals(self) -> dict[str, DeviceTotals]:
        """From the spans that arrived, for ranks that could not add them up themselves."""
        from lab.timing.recorder import total

        state = self.state
        return {
            device: total(state.totals[device], state.hidden[device], state.elapsed_ns) for device in state.device_names
        }

    def _publish(self, events: list[Event]) -> None:
        self.state.apply_all(events)
        self._backlog.add(events)
