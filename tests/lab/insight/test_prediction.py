"""Predictions are locked once and compared; what a run answers to what was asked."""

from __future__ import annotations

import pytest

from lab import insight
from lab.errors import LabError
from lab.experiment import Experiment
from lab.insight.prediction import Prediction
from lab.insight.questions import SAME, Question, measure, questions
from lab.state import RunState
from tests.lab import rank_events as ranks
from tests.lab.insight.runs import state
from tests.widgets import events_factory as factory


class TestANumber:
    def test_it_is_locked_once_and_compared(self) -> None:
        prediction = Prediction(unit="ms")
        assert not prediction.locked
        assert prediction.lock("8") == 8.0
        with pytest.raises(LabError, match="locked already: 8 ms"):
            prediction.lock(9)
        assert (prediction.residual, prediction.score) == (None, None)
        prediction.reveal(10)
        assert prediction.residual == 2.0
        assert prediction.residual_share == pytest.approx(0.2)
        assert prediction.score == pytest.approx(0.8)
        assert prediction.right is False

    @pytest.mark.parametrize(("answer", "score"), [(10, 1.0), (12, 0.8), (0, 0.0), (25, 0.0)])
    def test_the_score_falls_with_the_part_that_it_is_off(self, answer: float, score: float) -> None:
        prediction = Prediction()
        prediction.lock(answer)
        prediction.reveal(10)
        assert prediction.score == pytest.approx(score)

    def test_of_nothing_measured_there_is_no_part(self) -> None:
        prediction = Prediction()
        prediction.lock(3)
        prediction.reveal(0)
        assert (prediction.residual, prediction.residual_share, prediction.score) == (-3.0, None, 0.0)

    def test_a_comma_is_a_point(self) -> None:
        assert Prediction().lock("2,5") == 2.5

    @pytest.mark.parametrize("wrong", ["", None, "fast", "nan", "inf", "1;2"])
    def test_what_is_no_answer_leaves_it_open(self, wrong: object) -> None:
        prediction = Prediction()
        with pytest.raises(LabError):
            prediction.lock(wrong)
        assert not prediction.locked

    def test_nothing_is_revealed_before(self) -> None:
        prediction = Prediction()
        with pytest.raises(LabError, match="lock an answer first"):
            prediction.reveal(3)
        assert prediction.measured is None


class TestAChoice:
    def test_right_and_wrong(self) -> None:
        for answer, right in (("a", True), ("b", False)):
            prediction = Prediction("choice", options=("a", "b"))
            prediction.lock(answer)
            prediction.reveal("a")
            assert (prediction.right, prediction.score, prediction.residual) == (right, float(right), None)

    def test_only_options_count(self) -> None:
        with pytest.raises(LabError, match="'c' is not one of 'a', 'b'"):
            Prediction("choice", options=("a", "b")).lock("c")
        with pytest.raises(LabError, match="two options"):
            Prediction("choice", options=("a",))
        with pytest.raises(LabError, match="no kind of answer"):
            Prediction("guess")  # type: ignore[arg-type]


class TestWhatIsAsked:
    def test_of_several_devices_and_ranks(self) -> None:
        split = Experiment(strategy="model_parallel", devices=["vgpu:0", "vgpu:1", "cpu"])
        assert questions(split) == (Question("busiest", ("vgpu:0", "vgpu:1", "cpu", SAME)), Question("speedup"))
        two = Experiment(strategy="ddp", world_size=2)
        assert questions(two)[0].options == ("rank 0", "rank 1", SAME)

    def test_of_one_device(self) -> None:
        assert questions(Experiment(), ("conv1", "fc1")) == (Question("heaviest", ("conv1", "fc1")),)
        assert questions(Experiment()) == ()
        assert questions(Experiment(strategy="ddp", world_size=1)) == ()

    def test_every_question_takes_an_answer(self) -> None:
        choice, number = (each.prediction() for each in questions(Experiment(strategy="data_parallel")))
        assert choice.lock("vgpu:1") == "vgpu:1"
        assert number.lock("1.8") == 1.8


class TestWhatTheRunAnswers:
    def test_the_busiest_device(self) -> None:
        found = measure("busiest", factory.folded(factory.events(steps=5)))
        assert found is not None
        assert found.value == "vgpu:1"
        assert found.shares == {"vgpu:0": pytest.approx(530 / 1270), "vgpu:1": pytest.approx(740 / 1270)}

    def test_devices_that_are_about_equal(self) -> None:
        for second, value in ((91, SAME), (89, "vgpu:0")):
            rows = (("vgpu:0", "forward", "a", 0, 100), ("vgpu:1", "forward", "b", 0, second))
            found = measure("busiest", state(rows, 200))
            assert found is not None
            assert found.value == value

    def test_the_busiest_rank(self) -> None:
        found = measure("busiest", ranks.folded())
        assert found is not None
        assert found.value == "rank 1"  # 650 against 550 of 700 µs
        assert found.shares["rank 1"] == pytest.approx(650 / 700)

    def test_the_heaviest_layer(self) -> None:
        found = measure("heaviest", factory.folded(factory.events(steps=5)))
        assert found is not None
        assert found.value == "conv2"
        assert found.shares["conv2"] == pytest.approx(460 / 1100)

    def test_the_speed_up_needs_one_device_to_compare_with(self) -> None:
        here = factory.folded(factory.events(steps=5))
        assert here.started is not None
        assert measure("speedup", here) is None
        alone = state(
            (("vgpu:0", "forward", "conv1", 0, 900),),
            1000,
            {"conv1": "vgpu:0"},
            lanes=("vgpu:0",),
            **insight.one_device(here.started.experiment),
        )
        one = insight.summary(alone)
        found = measure("speedup", here, one)
        assert found is not None
        assert found.value == pytest.approx(1000 / 1270)
        assert measure("speedup", factory.folded(factory.events(steps=5, clock="wall")), one) is None
        assert measure("speedup", here, insight.summary(here)) is None  # that is not one device

    @pytest.mark.parametrize("name", ["busiest", "heaviest", "speedup"])
    def test_nothing_after_too_few_steps(self, name: str) -> None:
        for steps in (0, 1, 2):
            assert measure(name, factory.folded(factory.events(steps=steps))) is None  # type: ignore[arg-type]
        assert measure(name, RunState()) is None  # type: ignore[arg-type]
