"""What the findings are in words: true to their numbers, with the right units and plurals."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest

from lab import insight
from lab.insight import findings as found
from lab.state import RunState
from tests.lab import rank_events as ranks
from tests.widgets import events_factory as factory
from widgets import findings

KINDS = [
    kind
    for kind in vars(found).values()
    if isinstance(kind, type) and issubclass(kind, found.Finding) and kind is not found.Finding
]


def text(each: found.Finding) -> str:
    [said] = findings.say([each])
    return said.text


def test_the_naive_run_is_explained() -> None:
    said = findings.say(insight.look(factory.folded(factory.events(steps=6))))
    assert [each.text for each in said[:4]] == [
        "A step takes 1.27 ms, which makes 50,394 samples per second; on average the 2 devices compute 50% of the "
        "time.",
        "The whole batch passes the 2 stages in one piece, so they take turns. In theory, each of 2 equal stages waits "
        "50% of the time; here the devices wait 44% for each other. With 2 microbatches, it would be 33% in theory.",
        "vgpu:0 does nothing 52% of the time: mostly it waits for vgpu:1, which works on conv2.",
        "The link between vgpu:0 and vgpu:1 carries 737.3 kB per step, and for 6% of their time the devices can only "
        "wait for what travels. While it is busy it carries 9.2 GB/s of the 1.0 GB/s that it could. 50% of that time "
        "is latency, the delay before the first byte arrives.",
    ]
    assert str(said[0]).endswith("(simulated)")


def test_two_ranks_are_explained() -> None:
    said = {each.kind: each.text for each in findings.say(insight.look(ranks.folded()))}
    assert said["Exchange"] == (
        "The ranks average 87.4 kB of gradients per step. 18% of their time this goes on beside computing and costs "
        "nothing; 11% of their time they can only wait for it. Most of that is the last bucket, with the gradients of "
        "conv1: it leaves when backward is over, and nothing is left to hide it behind."
    )
    # Of each step, rank 1 computes for 650 µs and rank 0 for 550.
    assert said["LateRank"] == (
        "Rank 1 is late: the other rank waits 7% of its time for it. It computes 1.2 times as long as the others."
    )
    assert said["SharedProcessor"].startswith("The 2 ranks compute on one processor, each with one thread:")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_finding_has_a_sentence(kind: type) -> None:
    values = {field.name: example(kind, field.name) for field in dataclasses.fields(kind)}
    said = text(kind(**values))
    assert said[0].isupper() or said.startswith(("3 steps", "conv1"))
    assert said.endswith(".")
    assert not re.search(r"[{}]|  |None|nan", said)


def example(kind: type, name: str) -> object:
    """Some value of the field's type."""
    hint = typing.get_type_hints(kind)[name]
    if name == "changes":
        return (("batch_size", "8", "64"),)
    if name == "ends":
        return "vgpu:0", "vgpu:1"
    if name == "last_layers":
        return ("conv1",)
    if name == "move" or typing.get_args(hint) == (found.Move, type(None)):
        return found.Move("conv1", "vgpu:0", "vgpu:1", 0.2, True)
    choices = typing.get_args(hint)
    if choices and isinstance(choices[0], str):
        return choices[0]
    plain = choices[0] if choices else hint
    if typing.get_args(plain):
        return typing.get_args(plain)[0]
    return {int: 3, float: 0.25, str: "conv1", bool: True}[plain]


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0%"), (0.004, "under 1%"), (0.006, "1%"), (0.476, "48%"), (1, "100%")]
)
def test_percent(share: float, shown: str) -> None:
    assert findings.percent(share) == shown


def test_one_and_several() -> None:
    few = found.TooShort(basis="measured", steps=1)
    assert text(few).startswith("One step is too few")
    assert text(dataclasses.replace(few, steps=2)).startswith("2 steps are too few")
    late = found.LateRank(basis="measured", rank=2, others=3, share=0.3, computation=1.0, planned=True)
    assert text(late) == (
        "Rank 2 is late: the other ranks wait 30% of their time for it. It computes no longer than the others: look at "
        "its link. The experiment asked for that."
    )
    copying = found.Copying(basis="simulated", bytes_per_step=9_000, copies=1, purpose="reduce", weight=0.1)
    assert "to one other device and" in text(copying)
    assert "to 3 other devices and" in text(dataclasses.replace(copying, copies=3))
    assert text(copying).endswith("Adding up the gradients takes longest.")


class TestComparisons:
    before = found.Compared(
        basis="simulated",
        changes=(("batch_size", "64", "8"),),
        step_seconds=30e-6,
        before_seconds=100e-6,
        speedup=8 / 30 / (64 / 100),
        fixed_seconds=20e-6,
    )

    def test_a_small_batch_pays_what_every_step_costs(self) -> None:
        assert text(self.before) == (
            "Batch size 8 instead of 64: 0.42 times the samples per second of the run before. A step takes 30.0 µs "
            "instead of 100 µs. On a straight line through both runs, 20.0 µs of each step does not depend on the "
            "batch: 67% of a step at batch 8. A small batch pays that for few samples."
        )

    def test_long_values_are_not_spelled_out(self) -> None:
        placement = (("placement", "conv1: vgpu:0, conv2: vgpu:0, fc1: vgpu:1, *: vgpu:1", "auto"),)
        changed = dataclasses.replace(self.before, changes=placement, fixed_seconds=None, speedup=1.01)
        assert text(changed).startswith("Placement changed: as fast as the run before.")

    def test_strategies_go_by_their_names(self) -> None:
        strategy = (("strategy", "single", "ddp"),)
        changed = dataclasses.replace(self.before, changes=strategy, fixed_seconds=None, speedup=1.8)
        assert text(changed).startswith(
            "Strategy distributed data parallel instead of one device: 1.8 times as many samples per second"
        )

    @pytest.mark.parametrize(
        ("difference", "said"), [(0.0, "to the last digit"), (1e-6, "at most 1e-06: rounding"), (0.2, "up to 0.2.")]
    )
    def test_losses(self, difference: float, said: str) -> None:
        beside = found.LossBeside(basis="measured", steps=40, difference=difference, loss=2.0, strategy="single")
        assert said in text(beside)
        assert "(one device)" in text(beside)

    @pytest.mark.parametrize(
        ("speedup", "said"),
        [(1.83, "are 1.8 times as fast as one"), (0.85, "slower than one device (cpu): 0.85"), (1.02, "as fast as")],
    )
    def test_against_one_device(self, speedup: float, said: str) -> None:
        against = found.AgainstOne(basis="measured", speedup=speedup, devices=2, ranks=True, device="cpu")
        assert said in text(against)
        assert text(against).startswith("Together the 2 ranks")


def test_nothing_is_said_of_no_run() -> None:
    assert findings.say(insight.look(RunState())) == []
