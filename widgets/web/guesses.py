"""Predict first, for a tab: what its reader says before a run, locked when it starts and shown beside it afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lab import insight, nets
from lab.errors import LabError
from lab.experiment import Experiment
from lab.insight import Summary
from lab.insight.prediction import Prediction
from lab.insight.questions import Measurement, Question, measure, questions
from lab.state import RunState
from widgets.figures import duration
from widgets.findings import predicted, words
from widgets.findings.earlier import Earlier
from widgets.web.leases import Need

if TYPE_CHECKING:
    from widgets.web.session import Session
    from widgets.web.sessions import Sessions

ONE_STEPS = 48
"""Of one device, to compare with, at most: enough for a median that the first few do not count in."""
ONE_SECONDS = 10.0
"""It gets no more wall time than that once it has taken a few steps."""
MOST_SECONDS = 40.0
"""Nor than that in any case."""
FEW_STEPS = 5
LOOK_SECONDS = 0.2
PLACE_LOOKS = 10
"""So often is looked for a place to run in."""
NOTHING: dict[str, Any] = {"questions": []}
"""The card as long as nobody wants to predict."""
MOST_ANSWER = 40
"""Characters of an answer that are read."""


@dataclass(slots=True)
class Guesses:
    """A tab's predictions."""

    on: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    """Question -> what its field holds, before the run."""
    run_id: str = ""
    """For which run they are locked."""
    measured_now: str = ""
    """The run of one device that was made for it."""
    steps_now: int = 0
    """How far that came."""
    refused: bool = False
    """True when one device could not be measured."""
    _locked: dict[Question, Prediction] = field(default_factory=dict)

    def take(self, sent: Any) -> None:
        """What a browser sent: whether to predict, or answers. Anything else is ignored."""
        if not isinstance(sent, dict):
            return
        if isinstance(sent.get("on"), bool):
            self.on = sent["on"]
        if isinstance(sent.get("answers"), dict):
            pairs = sent["answers"].items()
            known = ("busiest", "heaviest", "speedup")
            self.answers = {name: str(value)[:MOST_ANSWER] for name, value in pairs if name in known and value}

    def lock(self, run_id: str, experiment: Experiment) -> None:
        """A run starts: its answers are locked; what is no answer to its questions counts as none."""
        self.run_id, self.measured_now, self.refused = run_id, "", False
        self._locked = {}
        answers, self.answers = self.answers, {}
        for question in asked(experiment) if self.on else ():
            prediction = question.prediction()
            with contextlib.suppress(LabError):
                prediction.lock(answers.get(question.name))
                self._locked[question] = prediction

    def needs_one(self, state: RunState, earlier: Earlier) -> bool:
        """Whether a speed-up was predicted, and one device is still to be measured. Hold the run's lock meanwhile."""
        waits = any(question.name == "speedup" for question in self._locked)
        return waits and measure("busiest", state) is not None and earlier.one(state) is None

    def show(self, run_id: str, state: RunState, earlier: Earlier) -> dict[str, Any]:
        """What the frame says of them. Hold the run's lock meanwhile."""
        locked = self._locked if run_id == self.run_id else {}
        over = state.finished is not None
        one = earlier.one(state)
        found = {question: measure(question.name, state, one) if over else None for question in locked}
        for question, prediction in locked.items():
            answer = found[question]
            if answer is not None:
                prediction.reveal(answer.value)
        return {
            "title": words.PREDICTION,
            "columns": list(words.COLUMNS),
            "locked": bool(locked) and not over,
            "rows": [row for question in locked for row in self._row(question, found[question], state)],
            "note": self._note(locked, one) if over else "",
        }

    def _row(self, question: Question, found: Measurement | None, state: RunState) -> list[dict[str, Any]]:
        if state.finished is None:
            waiting = words.LOCKED
        elif question.name != "speedup" or measure("busiest", state) is None:
            waiting = words.TOO_FEW
        else:
            waiting = words.NO_ONE if self.refused else words.MEASURING_ONE
        return predicted.rows([(question, self._locked[question], found)], waiting)

    def _note(self, locked: dict[Question, Prediction], one: Summary | None) -> str:
        if one is None or not any(question.name == "speedup" for question in locked):
            return ""
        now = one.run_id == self.measured_now
        template = words.ONE_NOW if now else words.ONE_EARLIER
        note = str(template.format(steps=self.steps_now, step=duration(one.step_seconds * 1e9)))
        return note if one.settings.modelled else f"{note} {words.ONE_NOISE}"


def asked(experiment: Experiment) -> tuple[Question, ...]:
    """What to ask before this Experiment."""
    known = experiment.net in nets.REGISTRY and experiment.data is not None
    return questions(experiment, nets.layer_names(experiment.net, experiment.data) if known else ())


def shown(experiment: Experiment, answers: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The card's value: the questions, and how the typed answers are read, in the language of now."""
    found = asked(experiment)
    return {
        "questions": [
            {"name": each.name, "text": predicted.asked(each), "options": predicted.choices(each)} for each in found
        ],
        "readings": {each.name: _reading(each, answers[each.name]) for each in found if answers.get(each.name)},
        "most": MOST_ANSWER,
    }


def _reading(question: Question, written: str) -> dict[str, Any]:
    """What stands below a question's field; nothing below a choice."""
    if question.options:
        return {"typed": written, "said": "", "readable": True}
    return {"typed": written, **asdict(predicted.reading(written, question.prediction().unit))}


def measure_one(sessions: Sessions, session: Session) -> Iterator[None]:
    """Runs the tab's Experiment on one device for a few steps, and keeps what comes of it; yields while it goes on.
    Where there is no place for it at the moment, nothing is known of one device: nothing is made up."""
    run = session.run
    if run is None:
        return
    fields = insight.one_device({**run.experiment.explicit(), "devices": list(run.experiment.devices)})
    one = None
    lease = None
    try:
        experiment = Experiment(**{**fields, "steps": ONE_STEPS})
        # The place of the run itself is free a moment after its end.
        for _ in range(PLACE_LOOKS):
            lease = sessions.leases.try_enter(Need.of(experiment), session.owner)
            if lease is not None or session.run is not run:
                break
            yield
            time.sleep(LOOK_SECONDS)
        if lease is not None:
            one = sessions.start_beside(experiment)
            yield from _until_over(session, run, one)
            with one.lock:
                session.earlier.keep(one.state, beside=True)
                session.guesses.measured_now, session.guesses.steps_now = one.id, one.state.step
    except LabError:
        pass  # it may not run here: then there is nothing to compare with
    finally:
        session.guesses.refused = not session.guesses.measured_now
        if one is not None:
            one.close()
        if lease is not None:
            sessions.leases.release(lease)


def _until_over(session: Session, run: Any, one: Any) -> Iterator[None]:
    for look in range(round(MOST_SECONDS / LOOK_SECONDS)):
        over = one.wait(LOOK_SECONDS, lambda state: state.step >= ONE_STEPS)
        enough = ONE_STEPS if look * LOOK_SECONDS < ONE_SECONDS else FEW_STEPS
        if over or one.state.step >= enough or session.run is not run:
            return
        yield
