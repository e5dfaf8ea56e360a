"""A run beside the one before it, and beside one device."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lab import insight
from lab.events import StepFinished
from lab.experiment import Experiment
from lab.insight.compare import one_device
from lab.insight.findings import AgainstOne, Compared, Finding, LossBeside, NormalisedApart, SameLoss
from lab.insight.settings import Settings
from lab.state import RunState
from tests.lab.insight.runs import state
from tests.widgets import events_factory as factory

ROWS = (("vgpu:0", "forward", "a", 0, 50), ("vgpu:1", "forward", "b", 50, 100))
BASE = factory.started().experiment


def summary(seconds: float = 1e-3, run_id: str = "before", read: str = "virtual", **fields: Any) -> insight.Summary:
    settings = Settings(BASE | fields, read, True)  # type: ignore[arg-type]
    return insight.Summary(run_id, settings, seconds, (), False, ("Classroom GPU",), len(settings.fields["devices"]))


def look(before: insight.Summary | None, one: insight.Summary | None = None, **fields: Any) -> tuple[Finding, ...]:
    """At a run with steps of 100 µs."""
    return insight.look(state(ROWS, 100, **fields), before, one)


def of(found: tuple[Finding, ...], kind: type) -> Any:
    [one] = [each for each in found if type(each) is kind]
    return one


def has(found: tuple[Finding, ...], kind: type) -> bool:
    return any(type(each) is kind for each in found)


class TestARunBesideTheOneBefore:
    def test_a_larger_batch_and_what_every_step_costs_whatever_its_batch(self) -> None:
        # 8 samples in 30 µs and 64 in 100: 1.25 µs each, and 20 µs for none.
        found = of(look(summary(30e-6, batch_size=8)), Compared)
        assert found.changes == (("batch_size", "8", "64"),)
        assert found.speedup == pytest.approx(64 / 100 / (8 / 30))
        assert found.fixed_seconds == pytest.approx(20e-6)

    def test_a_smaller_batch_after_a_larger_one_has_the_same_line(self) -> None:
        found = of(look(summary(170e-6, batch_size=120)), Compared)  # 56 more samples take 70 µs more
        assert found.fixed_seconds == pytest.approx(20e-6)

    @pytest.mark.parametrize(("batch_size", "seconds"), [(60, 99e-6), (8, 100e-6), (8, 5e-6)])
    def test_no_line_through_what_is_close_flat_or_below_zero(self, batch_size: int, seconds: float) -> None:
        assert of(look(summary(seconds, batch_size=batch_size)), Compared).fixed_seconds is None

    def test_what_follows_from_the_strategy_is_not_named(self) -> None:
        found = of(look(summary(strategy="data_parallel", placement=None, devices=["vgpu:0", "vgpu:1"])), Compared)
        assert found.changes == (("strategy", "data_parallel", "model_parallel"),)
        assert found.fixed_seconds is None

    def test_runs_that_differ_in_nothing_or_in_too_much_or_in_their_clock_are_not_compared(self) -> None:
        assert not has(look(summary()), Compared)
        assert not has(look(summary(steps=7)), Compared)  # a longer run has the same steps
        many = summary(lr=0.5, batch_size=8, dtype="float64", link="pcie4")
        assert not has(look(many), Compared)
        assert not has(look(summary(read="wall", batch_size=8)), Compared)

    def test_a_run_is_not_compared_with_itself(self) -> None:
        assert not has(look(summary(run_id="run-1", batch_size=8)), Compared)

    def test_a_run_of_two_steps_cannot_be_compared_with(self) -> None:
        assert insight.summary(state(ROWS, 100, steps=2)) is None
        kept = insight.summary(state(ROWS, 100, steps=3))
        assert kept is not None
        assert (kept.step_seconds, kept.parts) == (pytest.approx(100e-6), 2)


class TestTheLossBesideAnother:
    def losses(self, values: list[float], strategy: str, run_id: str) -> RunState:
        found = state(ROWS, 100, steps=0, strategy=strategy)
        assert found.started is not None
        found.started = dataclasses.replace(found.started, run_id=run_id)
        for step, loss in enumerate(values):
            found.apply(StepFinished(step, 0, loss, 64, 1e-4, (step + 1) * 100_000))
        return found

    def beside(self, now: list[float], before: list[float], strategy: str = "single") -> tuple[Finding, ...]:
        kept = insight.summary(self.losses(before, strategy, "before"))
        assert kept is not None
        mine = state(ROWS, 100, steps=4)
        mine.mean_loss.y[:] = now
        return insight.look(mine, kept)

    def test_the_largest_difference_of_the_steps_that_both_have(self) -> None:
        found = of(self.beside([2.0, 1.5, 1.0, 0.5], [2.0, 1.25, 1.0]), LossBeside)
        assert (found.steps, found.difference, found.strategy) == (3, 0.25, "single")

    def test_it_may_be_nothing(self) -> None:
        assert of(self.beside([2.0, 1.5, 1.0, 0.5], [2.0, 1.5, 1.0]), LossBeside).difference == 0

    def test_a_loss_that_is_no_number_is_not_compared(self) -> None:
        assert not has(self.beside([2.0, float("nan"), 1.0, 0.5], [2.0, 1.5, 1.0]), LossBeside)

    def test_nor_is_that_of_the_same_strategy(self) -> None:
        assert not has(self.beside([2.0, 1.5, 1.0, 0.5], [2.0, 1.5, 1.0], "model_parallel"), LossBeside)


class TestOneDevice:
    def test_the_experiment_of_the_same_training_on_one_device(self) -> None:
        split = Experiment(
            strategy="model_parallel", batch_size=128, microbatches=4, placement="even", hardware="t4", steps=9
        )
        one = Experiment(**one_device(split.explicit() | {"devices": list(split.devices)}))
        assert one == Experiment(strategy="single", devices=["vgpu:0"], batch_size=128, hardware="t4", steps=9)
        ranks = Experiment(strategy="ddp", world_size=2, faults=["straggle:1:5"], bucket_cap_mb=1, compression="fp16")
        assert Experiment(**one_device(ranks.to_dict())).explicit() == Experiment(strategy="single").explicit()

    def test_it_is_recognised(self) -> None:
        fields = Experiment(strategy="model_parallel", batch_size=128, steps=9).to_dict()
        one = summary(**Experiment(strategy="single", devices=["vgpu:3"], batch_size=128, seed=4, steps=500).to_dict())
        assert insight.is_reference(one, fields)
        for other in ({"batch_size": 64}, {"devices": ["cpu"]}, {"strategy": "data_parallel"}, {"hardware": "t4"}):
            wrong = dataclasses.replace(
                one, settings=dataclasses.replace(one.settings, fields=one.settings.fields | other)
            )
            assert not insight.is_reference(wrong, fields), other

    def test_the_speed_up_is_said_once(self) -> None:
        one = summary(50e-6, **one_device(BASE))
        found = look(one, one)
        assert of(found, AgainstOne).speedup == pytest.approx(0.5)
        assert not has(found, Compared)
        assert has(look(one), Compared)

    def test_not_on_another_clock(self) -> None:
        assert not has(look(None, summary(50e-6, read="wall", **one_device(BASE))), AgainstOne)


class TestWhatIsLearned:
    @pytest.mark.parametrize(
        ("fields", "split"), [({}, "layers"), ({"microbatches": 4}, "both"), ({"strategy": "data_parallel"}, "batch")]
    )
    def test_splitting_changes_nothing(self, fields: dict[str, Any], split: str) -> None:
        copies = ("vgpu:1",) if "strategy" in fields else ()
        layers = {"a": "vgpu:0", "b": "vgpu:0" if copies else "vgpu:1"}
        found = of(insight.look(state(ROWS, 100, layers, copies=copies, **fields)), SameLoss)
        assert (found.split, found.basis) == (split, "theory")

    def test_batch_norm_sees_the_parts(self) -> None:
        found = look(None, net="resnet18", microbatches=8)
        assert of(found, NormalisedApart).parts == 8
        assert of(found, NormalisedApart).samples == 8
        assert not has(found, SameLoss)
        assert has(look(None, net="resnet18"), SameLoss)

    def test_nothing_is_promised_for_other_gradients_nets_or_one_device(self) -> None:
        for fields in ({"faults": ["nan:0:5"]}, {"net": "own:Mine"}):
            assert not has(look(None, **fields), SameLoss)
        alone = state(ROWS[:1], 100, {"a": "vgpu:0"}, lanes=("vgpu:0",), strategy="single")
        assert not has(insight.look(alone), SameLoss)
