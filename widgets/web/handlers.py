"""What the page does on each event: starts runs, waits in line, and sends a tab its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from lab.errors import ExperimentError, LabError, Problem
from lab.experiment import Experiment
from lab.state import RunState
from widgets import figures, languages
from widgets.figures import clock_time
from widgets.pace import PAUSES
from widgets.web import arranging, controls, guesses, presets, takeaway, text
from widgets.web import form as forms
from widgets.web.frame import Painter, reached
from widgets.web.leases import Lease
from widgets.web.session import Run, Session
from widgets.web.sessions import Sessions

FRAME_SECONDS = 0.2
FULL_PACE_RUNS = 4
"""With more runs than these, each is drawn less often, so that drawing costs the server no more."""
PATIENCE_SECONDS = 2.0
"""Longest wait for a tab to draw a frame before it gets the next."""
EMPTY_SECONDS = 0.5
"""How long what was shown before a run stays when the run has nothing to show yet: empty charts would flicker."""
LINE_SECONDS = 1.0
"""How often a tab that waits in line is told its place."""
BUTTONS = ("start", "stop", "pause", "step")
UNCHANGED = (gr.skip(), gr.skip(), gr.skip(), gr.skip())
NO_VALUES: list[Any] = [gr.skip()] * len(forms.CONTROLS)
"""All controls as they are."""


def buttons(status: str) -> tuple[Any, ...]:
    """How `BUTTONS` look once a run has come to a status; `ended` for none that goes on."""
    on, off = gr.Button(interactive=True), gr.Button(interactive=False)
    if status in ("running", "paused"):
        return gr.Button(text.RESTART), on, gr.Button(_pause(status), interactive=True), on
    if status == "starting":
        return gr.Button(text.RESTART), on, gr.Button(text.PAUSE, interactive=False), off
    if status == "ended":
        return gr.Button(text.START), off, gr.Button(text.PAUSE, interactive=False), off
    return UNCHANGED


def _status(run: Run) -> str:
    """For its buttons: in the one step that was asked for, a paused run is still to be resumed."""
    return "paused" if run.held else run.state.status


def _pause(status: str) -> str:
    return text.RESUME if status == "paused" else text.PAUSE


def _of_tab(handlers: Handlers, *values: Any) -> languages.Language:
    """The language of the tab that asks."""
    request = next(value for value in values if not isinstance(value, gr.EventData) and hasattr(value, "session_hash"))
    return handlers.sessions.get(str(request.session_hash)).language


def _of_session(_: Handlers, session: Session, *values: Any, **options: Any) -> languages.Language:
    return session.language


class Handlers:
    """What the page does on each event. Every method gets the tab from the request."""

    def __init__(self, default: Experiment, sessions: Sessions, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.default = default
        self.sessions = sessions
        self.patience_seconds = patience_seconds

    def open(self, theme: Any, request: gr.Request, query: Any = "", language: Any = "en") -> Iterator[tuple[Any, ...]]:
        """A tab was opened: start in it what its address asks for, or the default experiment. Opening takes no place in
        line: those who wait have asked for a run."""
        session = self._session(request)
        session.theme = "dark" if theme == "dark" else "light"
        session.language = languages.known(language)
        with languages.speaking(session.language):
            linked, problems = takeaway.from_link(query if isinstance(query, str) else "", self.sessions.limits)
            shown = arranging.opened(linked or self.default) if linked or session.language != "en" else NO_VALUES
        session.base = linked
        if linked is not None and linked.faults:
            # Who sends a link decides what it shows, and who opens it whether something is broken.
            painter = session.painter = Painter("none", linked)
            with languages.speaking(session.language):
                session.problems = (*problems, Problem("faults", text.LINK_WAITS.format(start=text.START)))
                session.problems_title = text.LINK_READY
                frame, looks = painter.paint(session, status=text.READY), buttons("ended")
            yield (frame, *looks, *shown)
            return
        for parts in self._watch(session, linked or self.default, in_line=False, link_problems=problems):
            yield (*parts, *shown)
            shown = NO_VALUES

    def greet(self, language: Any, request: gr.Request) -> list[Any]:
        """A tab was opened: the words of its controls, which the page has in English."""
        session = self._session(request)
        session.language = languages.known(language)
        if session.language == "en":
            return [gr.skip()] * len(controls.words())
        return self._words(session)

    def speak(self, language: Any, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """The reader chose a language: (frame, Start, Pause, the board, words of the controls)."""
        session = self._session(request)
        session.language = languages.known(language)
        with languages.speaking(session.language):
            run = session.run
            start, _, pause, _ = buttons("ended" if run is None or run.done else _status(run))
            board = forms.Form(*values).board(session.base or self.default)
            frame = self._painter(session).paint(session)
        return frame, start, pause, gr.HTML(board) if board else gr.skip(), *self._words(session)

    def _words(self, session: Session) -> list[Any]:
        with languages.speaking(session.language):
            return [gr.update(**said) for said in controls.words().values()]

    @languages.spoken(_of_tab)
    def start(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Starts what the controls say, in place of the tab's earlier run; yields (frame, *BUTTONS)."""
        session = self._session(request)
        form = forms.Form(*values)
        try:
            experiment = form.experiment(session.base or self.default)
        except ExperimentError as error:
            session.problems, session.problems_title = error.problems, ""
            yield self._painter(session).paint(session), *UNCHANGED
            return
        yield from self._watch(session, experiment)

    @languages.spoken(_of_tab)
    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        session = self._session(request)
        self.sessions.stop(session.key)
        return self._painter(session).paint(session), gr.Button(interactive=False)

    @languages.spoken(_of_tab)
    def pause(self, request: gr.Request) -> str:
        """Pauses the tab's run, or lets it go on; the frames that follow show it."""
        session = self._session(request)
        session.step = None  # the timeline follows the run again
        self.sessions.pause(session.key)
        return self._painter(session).paint(session)

    @languages.spoken(_of_tab)
    def step(self, request: gr.Request) -> str:
        """One step of a paused run."""
        session = self._session(request)
        session.step = None
        self.sessions.step(session.key)
        return self._painter(session).paint(session)

    @languages.spoken(_of_tab)
    def choose(self, event: gr.EventData, request: gr.Request) -> str:
        """The browser chose a theme, the step that the timeline shows, or opened or closed a table."""
        session = self._session(request)
        chosen = event._data if isinstance(event._data, dict) else {}
        if chosen.get("theme") in ("light", "dark"):
            session.theme = chosen["theme"]
        if "step" in chosen:
            session.step = chosen["step"] if isinstance(chosen["step"], int) else None
        if chosen.get("table") in figures.FIGURES:
            (session.tables.add if chosen.get("open") else session.tables.discard)(chosen["table"])
        match chosen.get("compare"):
            case [str(first), str(second)]:
                session.history.chosen = (first, second)
        return self._painter(session).paint(session)

    @languages.spoken(_of_tab)
    def preset(self, event: gr.EventData, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """A preset was chosen: all controls show it, and it runs."""
        chosen = event._data.get("preset") if isinstance(event._data, dict) else None
        preset = presets.all_presets().get(chosen) if isinstance(chosen, str) else None
        if preset is None:
            yield self._painter(self._session(request)).paint(self._session(request)), *UNCHANGED, *NO_VALUES
            return
        yield from self._show(self._session(request), preset.experiment)

    @languages.spoken(_of_tab)
    def reset(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Back to what the page opens on without a link."""
        session = self._session(request)
        yield from self._show(session, self.default)

    def _show(self, session: Session, experiment: Experiment) -> Iterator[tuple[Any, ...]]:
        """Fills in all controls, and runs the Experiment."""
        session.base = experiment
        controls = arranging.opened(experiment)
        for parts in self._watch(session, experiment):
            yield (*parts, *controls)
            controls = NO_VALUES

    def speed(self, speed: Any, request: gr.Request) -> None:
        """How fast this tab's runs go on, from now on."""
        if isinstance(speed, str) and speed in PAUSES:
            self.sessions.slow_down(self._session(request).key, PAUSES[speed])

    @languages.spoken(_of_tab)
    def inject(self, request: gr.Request, *values: Any) -> str:
        """Breaks this tab's run on purpose, now."""
        session = self._session(request)
        try:
            self.sessions.inject(session.key, forms.Form(*values).fault())
            session.problems = ()
        except ExperimentError as error:
            session.problems, session.problems_title = error.problems, text.CANNOT_BREAK
        return self._painter(session).paint(session)

    @languages.spoken(_of_tab)
    def arrange(self, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """Net, strategy, devices, hardware or batch changed: the board gets the layers and devices of now."""
        base = self._session(request).base or self.default
        return arranging.arranged(forms.Form(*values), base, self.sessions.limits.faults)

    @languages.spoken(_of_tab)
    def predict(self, event: gr.EventData, request: gr.Request, *values: Any) -> Any:
        """The reader wants to predict, or predicts: (the questions, and how the answers are read)."""
        session = self._session(request)
        session.guesses.take(event._data)
        return self._asked(session, *values)

    @languages.spoken(_of_tab)
    def ask(self, request: gr.Request, *values: Any) -> Any:
        """The controls have changed: the questions that suit them, for who predicts."""
        session = self._session(request)
        return self._asked(session, *values) if session.guesses.on else gr.skip()

    def _asked(self, session: Session, *values: Any) -> Any:
        try:
            experiment = forms.Form(*values).experiment(session.base or self.default)
        except ExperimentError:
            return gr.skip()  # Start will say what is wrong
        return gr.HTML(guesses.shown(experiment, session.guesses.answers))

    def resize(self, event: gr.EventData, *values: Any) -> tuple[Any, Any]:
        """The board asks for a virtual GPU more or less."""
        by = event._data.get("by") if isinstance(event._data, dict) else None
        return arranging.resized(forms.Form(*values), by)

    def leave(self, request: gr.Request) -> None:
        self.sessions.free(str(request.session_hash))

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(str(request.session_hash))

    def _painter(self, session: Session) -> Painter:
        if session.painter is None:
            session.painter = Painter("none", self.default)
        return session.painter

    @languages.spoken(_of_session)
    def _watch(
        self,
        session: Session,
        experiment: Experiment,
        in_line: bool = True,
        link_problems: Sequence[Problem] = (),
    ) -> Iterator[tuple[Any, ...]]:
        """Frames of a new run until it ends, or until the tab starts another; before it, of the tab's place in line."""
        session.problems, session.problems_title = tuple(link_problems), text.LINK_TITLE if link_problems else ""
        before = self._painter(session)
        try:
            lease = self.sessions.ask(session.key, experiment, in_line)
            if lease is None:
                yield before.paint(session, status=text.ALL_BUSY.format(start=text.START)), *buttons("ended")
                return
            if not lease.granted:
                yield before.paint(session, status=text.STARTING), *buttons("starting")
                yield from self._wait(session, lease, before)
            if session.lease is not lease:
                if session.lease is None and session.run is None:  # the reader left the line
                    yield before.paint(session, status=text.READY), *buttons("ended")
                return
            run = self.sessions.start(session.key, experiment, lease)
        except (LabError, OSError) as error:
            found = error.problems if isinstance(error, ExperimentError) else (Problem("run", str(error)),)
            session.problems, session.problems_title = tuple(found), ""
            yield before.paint(session, status=text.READY), *buttons("ended")
            return
        session.history.begin(run.id)
        session.guesses.lock(run.id, run.experiment)
        painter = session.painter = Painter(run.id, run.experiment, run.state, run.lock)
        shown = "starting"
        try:
            # Its processes start while this is on its way to the browser.
            yield before.paint(session, status=text.STARTING), *buttons("starting")
            run.wait(EMPTY_SECONDS, lambda state: state.step > 0)
            while session.run is run:
                done = run.done  # read first, so that the last frame holds everything
                if done:
                    session.keep(run)
                frame = painter.paint(session, last=done)
                if done:
                    yield frame, *buttons("ended")
                    yield from self._compare_with_one(session, run, painter)
                    return
                status = _status(run)
                yield frame, *(UNCHANGED if status == shown else buttons(status))
                shown = status
                with run.lock:
                    held = reached(run.state)
                pause = FRAME_SECONDS * max(1.0, len(self.sessions.live()) / FULL_PACE_RUNS)
                run.wait(pause, _past(held))
                session.wait_drawn(self.patience_seconds)
        finally:
            # The browser is gone in the middle of a run: Gradio closes the generator.
            if not run.done:
                run.stop()
            session.keep(run)

    def _compare_with_one(self, session: Session, run: Run, painter: Painter) -> Iterator[tuple[Any, ...]]:
        """Where a speed-up was predicted: a frame with what one device takes, once that is known."""
        with run.lock:
            wanted = session.guesses.needs_one(run.state, session.earlier)
        if wanted:
            for _ in guesses.measure_one(self.sessions, session):
                yield painter.paint(session), *UNCHANGED
            if session.run is run:
                yield painter.paint(session, last=True), *UNCHANGED

    def _wait(self, session: Session, lease: Lease, painter: Painter) -> Iterator[tuple[Any, ...]]:
        """Frames of the tab's place in line, until its turn comes or it wants something else."""
        try:
            while not lease.wait(LINE_SECONDS) and session.lease is lease:
                place = self.sessions.leases.place(lease)
                if place:
                    words = in_line(place, self.sessions.leases.expected_seconds(place))
                    yield painter.paint(session, status=words), *UNCHANGED
                    session.wait_drawn(self.patience_seconds)
        finally:
            # The browser is gone, or the reader left: nobody may wait behind a tab that is not there.
            if not lease.granted or session.lease is not lease:
                self.sessions.leases.release(lease)


def _past(held: tuple[bool, ...]) -> Callable[[RunState], bool]:
    return lambda state: reached(state) != held


def in_line(place: int, seconds: float) -> str:
    """`You are 3rd in line; about 0:02:00`."""
    time = clock_time(max(1.0, seconds))
    if place == 1:
        return text.NEXT_IN_LINE.format(time=time)
    return text.IN_LINE.format(place=text.ordinal(place), time=time)
