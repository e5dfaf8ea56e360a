"""The conductor, with ranks that are simulated: they pass gates, and messages reach them whenever chance has it."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from lab.events import Changed, Event, Paused, Resumed
from lab.workers.conductor import Conductor
from lab.workers.control import GATES, Heard, Message, phase_of, position, step_of


class Rank:
    """A rank that trains for ever, one gate after another; an all-reduce stands between `synchronise` and `update`."""

    def __init__(self, number: int, phases: tuple[str, ...]) -> None:
        self.number, self.phases = number, phases
        self.gate = 0
        """The next to pass."""
        self.limit: float = math.inf
        self.told: float | None = None
        self.settings: list[dict[str, Any]] = []
        self.stopped_at: int | None = None
        self.taken: list[tuple[int, dict[str, Any]]] = []
        """Settings, with the step that was the first to have them."""
        self.inbox: deque[Message] = deque()
        self.outbox: deque[Paused | Heard] = deque()
        self._stopping = False

    def hear(self) -> None:
        match self.inbox.popleft():
            case ("hold",):
                self.limit = -1
            case ("bound", limit):
                self.limit = limit
                self.outbox.append(Heard(self.number))
            case ("until", limit, _):
                self.limit = limit
            case ("run", _):
                self.limit = math.inf
            case ("set", settings):
                self.settings.append(settings)
            case ("stop",):
                self._stopping, self.limit = True, math.inf

    def go(self, ranks: list[Rank]) -> None:
        """To the next gate, if nothing is in the way."""
        if self.stopped_at is not None:
            return
        if phase_of(self.gate) == "update" and any(other.gate < self.gate for other in ranks):
            return  # in the all-reduce
        if self.gate >= self.limit:
            if self.told != self.limit:
                self.told = self.limit
                self.outbox.append(Paused(self.number, step_of(self.gate), phase_of(self.gate)))
            return
        self.told = None
        if phase_of(self.gate) == "data":
            if self._stopping:
                self.stopped_at = step_of(self.gate)
                return
            self.taken += [(step_of(self.gate), settings) for settings in self.settings]
            self.settings = []
        self.gate += 1
        while phase_of(self.gate) not in self.phases:
            self.gate += 1


class Run:
    """A conductor and its ranks; whatever can happen next, happens in an order that the seed decides."""

    def __init__(self, world_size: int, seed: int = 0, phases: tuple[str, ...] = GATES) -> None:
        self.ranks = [Rank(number, phases) for number in range(world_size)]
        self.conductor = Conductor(world_size, lambda rank, message: self.ranks[rank].inbox.append(message))
        self.events: list[Event] = []
        self._chance = random.Random(seed)

    def go_on(self, turns: int = 400) -> None:
        for _ in range(turns):
            rank = self._chance.choice(self.ranks)
            match self._chance.randrange(3):
                case 0 if rank.inbox:
                    rank.hear()
                case 1 if rank.outbox:
                    self.deliver(rank.outbox.popleft())
                case 2:
                    rank.go(self.ranks)

    def deliver(self, word: Paused | Heard) -> None:
        if isinstance(word, Heard):
            self.conductor.heard(word.rank)
        else:
            self.tell(self.conductor.waits(word))

    def tell(self, events: list[Event] | None) -> None:
        for event in events or []:
            self.events.append(event)
            if isinstance(event, Paused):
                assert {rank.gate for rank in self.ranks} == {position(event.step, event.phase)}

    def of_kind(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


WORLD_SIZES = pytest.mark.parametrize("world_size", [1, 2, 4])
SEEDS = pytest.mark.parametrize("seed", range(40))


@WORLD_SIZES
@SEEDS
def test_all_ranks_wait_at_the_start_of_the_same_step_and_go_on(world_size: int, seed: int) -> None:
    run = Run(world_size, seed)
    run.go_on(turns=seed * 7)
    run.conductor.pause()
    run.go_on(turns=200 * world_size)
    [paused] = run.of_kind(Paused)
    assert paused.phase == "data"
    assert run.conductor.together
    run.go_on()
    assert {rank.gate for rank in run.ranks} == {position(paused.step, "data")}
    run.tell(run.conductor.resume())
    assert run.events[-1] == Resumed(paused.step)
    run.go_on()
    assert all(rank.gate > position(paused.step + 1, "data") for rank in run.ranks)
    assert run.conductor.free


@WORLD_SIZES
@SEEDS
def test_a_run_is_held_from_the_pause_to_the_end_of_it_in_its_steps_too(world_size: int, seed: int) -> None:
    run = Run(world_size, seed)
    run.go_on(turns=seed)
    assert not run.conductor.held
    run.conductor.pause()
    for _ in range(3):
        assert run.conductor.held
        run.go_on(turns=seed)  # on their way, together, or in the step
        run.tell(run.conductor.step())
    assert run.conductor.held
    run.tell(run.conductor.resume())
    assert not run.conductor.held
    run.tell(run.conductor.change({"lr": 0.1}))
    assert not run.conductor.held, "a change is no pause"


@WORLD_SIZES
@SEEDS
def test_settings_reach_all_ranks_before_the_same_step_in_their_order(world_size: int, seed: int) -> None:
    run = Run(world_size, seed)
    run.go_on(turns=seed * 5)
    run.tell(run.conductor.change({"lr": 0.1}))
    run.go_on(turns=seed)
    run.tell(run.conductor.change({"fault": "a"}))
    run.tell(run.conductor.change({"fault": "b"}))
    run.go_on(turns=400 * world_size)
    changed = run.of_kind(Changed)
    assert [event.settings for event in changed] == [{"lr": 0.1}, {"fault": "a"}, {"fault": "b"}]
    for rank in run.ranks:
        assert rank.taken == [(event.step, event.settings) for event in changed]
    assert not run.of_kind(Paused), "a change is no pause"
    assert not run.of_kind(Resumed)
    assert run.conductor.free


@WORLD_SIZES
@SEEDS
def test_every_order_of_commands_leaves_the_ranks_in_step_and_able_to_stop(world_size: int, seed: int) -> None:
    """Whatever is asked for, and whenever: `Run.tell` asserts that nobody is elsewhere at a Paused."""
    run, chance = Run(world_size, seed), random.Random(seed)
    commands: list[Callable[[], list[Event] | None]] = [
        run.conductor.pause,
        run.conductor.resume,
        run.conductor.step,
        lambda: run.conductor.step(1),
        lambda: run.conductor.change({"lr": chance.random()}),
    ]
    for _ in range(30):
        run.tell(chance.choice(commands)())
        run.go_on(turns=chance.choice([0, 3, 30, 300]))
    assert len({tuple(step for step, _ in rank.taken) for rank in run.ranks}) <= 2, "some may not be there yet"
    run.conductor.stop()
    run.go_on(turns=600 * world_size)
    assert len({rank.stopped_at for rank in run.ranks} - {None}) == 1
    assert all(rank.stopped_at is not None for rank in run.ranks)
    assert len({tuple(map(str, rank.taken)) for rank in run.ranks}) == 1


@WORLD_SIZES
def test_steps_and_phases_one_at_a_time(world_size: int) -> None:
    run = Run(world_size)
    run.go_on(turns=50)
    run.conductor.pause()
    run.go_on()
    first = run.of_kind(Paused)[-1].step
    for gates in (5, 1, 1, 5, 1, 1, 1, 1, 1):
        run.tell(run.conductor.step(gates))
        assert not run.conductor.together
        run.go_on(turns=200 * world_size)
    assert [(event.step - first, event.phase) for event in run.of_kind(Paused)] == [
        (0, "data"),
        (1, "data"),
        (1, "forward"),
        (1, "backward"),
        (2, "data"),  # a whole step ends at the start of the next
        (2, "forward"),
        (2, "backward"),
        (2, "synchronise"),
        (2, "update"),
        (3, "data"),
    ]
    assert len(run.of_kind(Resumed)) == 9


def test_a_strategy_without_a_phase_waits_at_the_next_one() -> None:
    run = Run(1, phases=("data", "forward", "backward", "update"))
    run.conductor.pause()
    run.go_on()
    for _ in range(4):
        run.tell(run.conductor.step(1))
        run.go_on()
    assert [event.phase for event in run.of_kind(Paused)] == ["data", "forward", "backward", "update", "data"]


def test_steps_asked_for_on_the_way_follow_one_another() -> None:
    run = Run(2)
    run.conductor.pause()
    run.tell(run.conductor.step())
    run.tell(run.conductor.step())
    run.go_on(turns=2000)
    first, *others = run.of_kind(Paused)
    assert [event.step - first.step for event in others] == [1, 2]
    assert run.conductor.together


def test_a_step_of_ranks_that_run_is_a_pause() -> None:
    run = Run(2)
    run.tell(run.conductor.step())
    run.go_on()
    assert len(run.of_kind(Paused)) == 1


def test_what_is_asked_twice_happens_once() -> None:
    run = Run(2)
    run.conductor.pause()
    run.conductor.pause()
    run.go_on()
    run.conductor.pause()
    run.go_on()
    assert len(run.of_kind(Paused)) == 1
    run.tell(run.conductor.resume())
    run.tell(run.conductor.resume())
    assert len(run.of_kind(Resumed)) == 1


def test_to_resume_what_runs_does_nothing() -> None:
    run = Run(2)
    assert run.conductor.resume() == []
    assert run.conductor.free


def test_a_pause_that_is_taken_back_in_time_is_none() -> None:
    run = Run(2)
    run.conductor.pause()
    run.conductor.resume()
    run.go_on()
    assert run.events == []
    assert run.conductor.free


def test_a_change_during_a_pause_shows_at_once_and_leaves_it_paused() -> None:
    run = Run(2)
    run.conductor.pause()
    run.go_on()
    paused = run.of_kind(Paused)[0]
    run.tell(run.conductor.change({"lr": 1.0}))
    assert run.events[-1] == Changed(paused.step, {"lr": 1.0})
    run.tell(run.conductor.step(1))
    run.go_on()
    assert all(rank.taken == [(paused.step, {"lr": 1.0})] for rank in run.ranks)
    run.tell(run.conductor.change({"lr": 2.0}))
    assert run.events[-1] == Changed(paused.step + 1, {"lr": 2.0}), "this step has begun with the other"


def test_the_time_that_all_stood_still_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    run, now = Run(2), [100.0]
    monkeypatch.setattr("lab.workers.conductor.time.monotonic", lambda: now[0])
    run.conductor.pause()
    run.go_on()
    now[0] += 3.0
    run.tell(run.conductor.step(1))
    assert [rank.inbox[-1][2] for rank in run.ranks] == [3_000_000_000] * 2
    run.go_on()
    now[0] += 2.0
    run.tell(run.conductor.resume())
    assert [rank.inbox[-1] for rank in run.ranks] == [("run", 2_000_000_000)] * 2
