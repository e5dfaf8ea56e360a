"""One browser tab, and what the page needs of a run."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lab.errors import Problem
from lab.experiment import Experiment
from lab.state import RunState
from widgets.figures import Theme
from widgets.findings.earlier import Earlier
from widgets.languages import Language
from widgets.web.guesses import Guesses
from widgets.web.history import History, Summary
from widgets.web.leases import Lease

if TYPE_CHECKING:
    from widgets.web.frame import Painter


class Run(Protocol):
    """What the page needs of `lab.Run`."""

    state: RunState
    lock: threading.RLock
    experiment: Experiment

    @property
    def id(self) -> str: ...
    @property
    def done(self) -> bool: ...
    @property
    def held(self) -> bool: ...
    def stop(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def step(self) -> None: ...
    def change(self, *, pause_s: float) -> None: ...
    def inject(self, fault: str) -> None: ...
    def wait(self, timeout: float | None = None, until: Callable[[RunState], bool] = ...) -> bool: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Session:
    """One browser tab."""

    key: str
    owner: str = ""
    """The browser that it belongs to, by its cookie."""
    address: str = ""
    """Where its first request came from."""
    run: Run | None = None
    lease: Lease | None = None
    """The run's right to go on, or the tab's place in line."""
    base: Experiment | None = None
    """What a link asked for: fields without a control keep its values."""
    theme: Theme = "light"
    language: Language = "en"
    step: int | None = None
    """The step that the timeline shows; None follows the run."""
    tables: set[str] = field(default_factory=set)
    """The figures whose tables are open."""
    pause_s: float = 0.0
    """Between two steps of its runs, so that they can be watched."""
    stopping: bool = False
    history: History = field(default_factory=History)
    """The runs that it has had."""
    earlier: Earlier = field(default_factory=Earlier)
    """The same, for what just happened."""
    guesses: Guesses = field(default_factory=Guesses)
    """What the reader predicts."""
    problems: tuple[Problem, ...] = ()
    """Why the last wish could not be granted; shown until the next one."""
    problems_title: str = ""
    """What stands above them, when they are not about a run that cannot start."""
    time_is_up: bool = False
    """Whether the run was stopped because it took as long as a run may."""
    painter: Painter | None = None
    """Draws what the tab shows."""
    last_seen: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    """Names the tab in its notes of what it has drawn."""
    painting: threading.Lock = field(default_factory=threading.Lock)
    """Held while a frame is made: two runs' frames may follow each other closely."""
    shows: tuple[str, int] = ("", 0)
    """The run whose frames are made for it, and the number of the first of them in a row."""
    sent: int = 0
    """Frames made for it."""
    drawn: int = 0
    """The last of them that it has drawn."""
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_drawn(self, seconds: float) -> bool:
        """Waits until the tab has drawn what was sent; a slow or hidden one gets fewer frames, not a queue of them."""
        with self.news:
            return self.news.wait_for(lambda: self.drawn >= self.sent, seconds)

    def keep(self, run: Run) -> None:
        """Remembers the tab's run as it is now."""
        with run.lock:
            self.history.keep(run.id, run.experiment, run.state)
            self.earlier.keep(run.state)

    def compared(self) -> tuple[Summary, Summary] | None:
        """The two runs that are compared, the one that goes on as it is now."""
        run = self.run
        if run is None:
            return self.history.pair()
        with run.lock:
            return self.history.pair(self.history.look(run.id, run.experiment, run.state))
