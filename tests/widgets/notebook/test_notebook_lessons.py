"""StepThrough, FormulaCheck and Predict."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import lab
from lab.errors import LabError
from lab.experiment import Experiment
from lab.insight import lock_files
from lab.insight.locks import MIME, from_json
from lab.six_steps import NAMES
from widgets.notebook import FormulaCheck, Predict, StepThrough, text

DDP = Experiment(strategy="ddp", world_size=2, steps=3, lr=0.5)
NUMBER = re.compile(r"[+-]\d\.\d{6}")


def numbers(page: str, label: str) -> list[float]:
    """The numbers of the row of that label."""
    row = next(row for row in page.split("<tr") if f">{label}" in row)
    return [float(number) for number in NUMBER.findall(row)]


def test_six_clicks_make_one_step_and_the_seventh_begins_the_next() -> None:
    panel = StepThrough(DDP)
    assert text.NOT_BEGUN in panel.said.value
    titles = []
    for _ in NAMES:
        panel.next.click()
        titles.append(re.findall(r"<b>(\d\. [^<]*)</b>", panel.said.value)[0])
    assert titles == [
        "1. Split the data",
        "2. Copy the model",
        "3. Compute gradients locally",
        "4. Synchronise",
        "5. Update",
        "6. Repeat",
    ]
    assert panel.next.description == "Next: Split the data"
    panel.next.click()
    assert "1. Split the data" in panel.said.value


def test_tensors_before_and_after_the_average_are_real_ones() -> None:
    panel = StepThrough(DDP, parameter="fc2.bias")
    for _ in range(4):
        panel.advance()
    page = panel.said.value
    before = torch.tensor([numbers(page, f"before: rank {rank}") for rank in range(2)])
    after = torch.tensor([numbers(page, f"after: rank {rank}") for rank in range(2)])
    assert before.shape == (2, 5)
    assert not torch.equal(before[0], before[1])
    assert torch.equal(after[0], after[1])
    torch.testing.assert_close(after[0], before.mean(0), atol=1e-6, rtol=0)
    panel.advance()
    page = panel.said.value
    theta, eta_mean = numbers(page, "θ before"), numbers(page, "η · v")
    moved = numbers(page, "θ after, rank 1")
    assert moved == pytest.approx([a - b for a, b in zip(theta, eta_mean, strict=True)], abs=2e-6)
    assert "between any two copies: 0" in page


def test_another_parameter_can_be_looked_at_and_all_begins_anew() -> None:
    panel = StepThrough(DDP)
    assert panel.parameter.value in ("conv1.bias", "fc2.bias")
    for _ in range(3):
        panel.advance()
    shown = panel.said.value
    panel.parameter.value = "fc1.bias"
    assert panel.said.value != shown
    assert "The first 5 of 50 values" in panel.said.value
    panel.anew.click()
    assert text.NOT_BEGUN in panel.said.value


def test_clicks_from_several_threads_are_done_one_after_another() -> None:
    panel = StepThrough(DDP)
    clicks = [threading.Thread(target=panel.advance) for _ in range(5)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join(60)
    assert panel.steps is not None
    assert panel.steps.done == 5
    assert panel.alert.value == ""


def test_what_cannot_be_stepped_through_is_said_inside() -> None:
    panel = StepThrough(Experiment(strategy="ddp", optimizer="adam"))
    assert "updates by another formula" in panel.alert.value
    assert panel.next.disabled


def test_both_sides_of_the_formula_are_shown_with_their_difference() -> None:
    check = FormulaCheck(DDP.replace(momentum=0), parameter="fc2.bias")
    page = check.said.value
    gradients = torch.tensor([numbers(page, f"∇L{rank} of rank {rank}") for rank in range(2)])
    mean = torch.tensor(numbers(page, "their mean"))
    torch.testing.assert_close(mean, gradients.mean(0), atol=1e-6, rtol=0)
    left, right = numbers(page, "θ − 0.5 · mean"), numbers(page, "θ after the step")
    assert left == pytest.approx(right, abs=1e-6)
    by_hand = [a - 0.5 * b for a, b in zip(numbers(page, "θ before"), mean.tolist(), strict=True)]
    assert right == pytest.approx(by_hand, abs=2e-6)
    assert check.difference < 1e-7
    assert "over all 21,840 values of all parameters" in page


def test_the_formula_has_the_momentum_and_holds_in_every_step() -> None:
    check = FormulaCheck(DDP, parameter="fc2.bias")
    first = numbers(check.said.value, "v = mean")
    assert first == numbers(check.said.value, "their mean")
    check.step.value = 1
    page = check.said.value
    assert check.alert.value == ""
    assert text.FORMULA_MOMENTUM.format(momentum=0.9, mean="mean") in page
    velocity, mean = numbers(page, "v = 0.9 · v + mean"), numbers(page, "their mean")
    assert velocity == pytest.approx([0.9 * v + m for v, m in zip(first, mean, strict=True)], abs=2e-6)
    by_hand = [a - 0.5 * v for a, v in zip(numbers(page, "θ before"), velocity, strict=True)]
    assert numbers(page, "θ after the step") == pytest.approx(by_hand, abs=2e-6)
    assert check.difference < 1e-7
    second = page
    check.step.value = 0  # back: from the beginning again
    assert numbers(check.said.value, "v = mean") == first
    assert FormulaCheck(DDP, parameter="fc2.bias", step=1).said.value == second
    check.step.value = 9
    assert check.step.value == 2  # the last of three


def test_the_formula_per_device() -> None:
    check = FormulaCheck(Experiment(strategy="model_parallel", placement={"conv*": "vgpu:0", "*": "vgpu:1"}))
    assert text.FORMULA_ONE in check.said.value
    # conv1: 10*25+10, conv2: 20*10*25+20; fc1: 50*320+50, fc2: 10*50+10
    assert "vgpu:0 holds 5,280 values" in check.said.value
    assert "vgpu:1 holds 16,560 values" in check.said.value


@pytest.mark.parametrize("strategy", ["ddp", "data_parallel", "model_parallel"])
def test_a_runs_own_losses_stand_beside_the_formula(strategy: str, no_leaks: None) -> None:
    run = lab.start(Experiment(strategy=strategy, steps=2))
    run.result(120)
    check = FormulaCheck(run)
    found = re.findall(r"Loss of rank (\d) in step 0: ([\d.]+) in the run, ([\d.]+) here", check.said.value)
    assert [rank for rank, _, _ in found] == (["0", "1"] if strategy == "ddp" else ["0"])
    check.step.value = 1
    later = re.findall(r"Loss of rank (\d) in step 1: ([\d.]+) in the run, ([\d.]+) here", check.said.value)
    assert [rank for rank, _, _ in later] == [rank for rank, _, _ in found]
    for _, theirs, ours in found + later:
        assert float(theirs) == pytest.approx(float(ours), abs=1e-5)


def test_late_clicks_do_nothing() -> None:
    panel = StepThrough(DDP)
    turn = panel.next.turn
    late = {"event": "click", "turn": turn}
    for _ in range(3):  # three that were sent before the first was done
        panel.next._take(panel.next, late, [])
    assert panel.steps is not None
    assert panel.steps.done == 1
    assert not panel.next.disabled
    assert panel.next.description == "Next: Copy the model"
    panel.anew._take(panel.anew, late, [])
    assert panel.steps.done == 1
    panel.next._take(panel.next, {"event": "click", "turn": panel.next.turn}, [])
    assert panel.steps.done == 2
    panel.anew._take(panel.anew, {"event": "click", "turn": panel.anew.turn}, [])
    assert panel.steps.done == 0
    for odd in ({}, {"event": "click"}, {"event": "click", "turn": "1"}, None):
        panel.next._take(panel.next, odd, [])
    assert panel.steps.done == 0


def test_both_buttons_are_off_while_a_step_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, seen = StepThrough(DDP), []
    assert panel.steps is not None
    monkeypatch.setattr(
        panel.steps, "advance", lambda: seen.append((panel.next.disabled, panel.anew.disabled)) or 1 / 0
    )
    panel.next.click()
    assert seen == [(True, True)]
    assert "ZeroDivisionError" in panel.alert.value
    assert (panel.next.disabled, panel.anew.disabled, panel.next.turn) == (False, False, 1)
    assert panel.next.description == "Next: Split the data"


def said(panel: StepThrough, steps: int) -> str:
    """The words of the last of so many further steps."""
    for _ in range(steps):
        panel.advance()
    return panel.said.value.split("<table")[0]


def test_what_travels_is_said_as_it_is_in_each_round() -> None:
    panel = StepThrough(DDP)
    first_copy = said(panel, 2)
    assert "rank 0&#x27;s parameters, 87,360 bytes, go to each other rank, once" in first_copy
    synchronise = said(panel, 2)
    assert "Each rank brings 87,360 bytes of gradients, and sends 87,360 bytes in a ring" in synchronise
    assert (
        "Nothing else travels between ranks in a step of training; the parameters did, before the first" in synchronise
    )
    assert "has nothing to do from now on" in said(panel, 2)
    second_copy = said(panel, 2)
    assert "Nothing is copied this time" in second_copy
    assert "begins with" not in second_copy
    again = said(panel, 2)
    assert "Nothing else travels between ranks in a step of training." in again
    assert "before the first one" not in again


def test_three_ranks_send_more_than_they_bring() -> None:
    assert "and sends 116,480 bytes in a ring" in said(StepThrough(), 4)  # 2 · 2/3 of 87,360


def test_buffers_travel_too() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    buffers = 784 * 4 * 2 + 8  # mean, variance, and a counter of 8 bytes
    panel = StepThrough(Experiment(net="own:Sequential", strategy="ddp", world_size=2), net)
    assert f"parameters and buffers, {4 * (2 * 784 + 7850):,} and {buffers:,} bytes," in said(panel, 2)
    assert f"rank 0&#x27;s buffers go to all ranks, too: {buffers:,} bytes" in said(panel, 2)
    assert "Nothing else travels" not in panel.said.value


def test_nn_dataparallel_copies_in_every_step() -> None:
    panel = StepThrough(Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1"]))
    for _ in range(2):
        copied = said(panel, 2)
        assert "the first device&#x27;s parameters, 87,360 bytes, go to each other device, in every step" in copied
        assert "on the first one alone" in said(panel, 2)
        assert "will copy the parameters again" in said(panel, 2)


def test_one_rank_sends_nothing() -> None:
    panel = StepThrough(Experiment(strategy="single"))
    assert "There is one copy only, so nothing travels." in said(panel, 2)


def test_a_prediction_is_locked_once_and_compared() -> None:
    predict = Predict("How long?", unit="ms")
    predict.field.value = "8"
    predict.button.click()
    assert predict.locked
    assert predict.answer == 8.0
    assert predict.field.disabled
    with pytest.raises(LabError, match="locked already: 8 ms"):
        predict.lock(9)
    shown = predict.reveal(10)
    assert predict.residual == 2.0
    assert repr(shown) == "Locked: 8 ms\nMeasured: 10 ms\nOff by +2 ms (+20% of what was measured)"
    assert "Measured: 10 ms" in predict.said.value
    assert "Off by +2 ms (+20% of what was measured)" in predict.said.value


def test_a_measurement_is_not_shown_before_an_answer() -> None:
    predict = Predict("How long?")
    assert repr(predict.reveal(3)).startswith("No prediction is locked.")
    assert "3" not in repr(predict.reveal(3))
    assert predict.said.value == ""
    assert predict.measured is None
    predict.button.click()
    assert "give an answer first" in predict.alert.value
    for wrong in ("soon", "nan", "inf"):
        predict.field.value = wrong
        predict.button.click()
        assert "is no number" in predict.alert.value
    assert not predict.locked
    predict.field.value = "2,5"
    predict.button.click()
    assert predict.answer == 2.5
    assert predict.alert.value == ""


def test_a_choice_is_right_or_wrong() -> None:
    predict = Predict("Which?", kind="choice", options=["faster", "slower"])
    predict.button.click()
    assert "give an answer first" in predict.alert.value
    predict.lock("slower")
    predict.reveal("faster")
    assert "You said slower." in predict.said.value
    assert predict.residual is None
    right = Predict("Which?", kind="choice", options=["faster", "slower"])
    right.lock("faster")
    right.reveal("faster")
    assert "As you said." in right.said.value
    with pytest.raises(LabError, match="'up' is not one of 'faster', 'slower'"):
        Predict("Which?", kind="choice", options=["faster", "slower"]).lock("up")
    with pytest.raises(LabError, match="at least two options"):
        Predict("Which?", kind="choice")
    with pytest.raises(LabError, match="no kind of answer"):
        Predict("Which?", kind="guess")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "unit", "said"),
    [
        ("87,360", "bytes", "read as 87,360 bytes; if you mean 87.36, write 87.36"),
        ("87.360", "bytes", "read as 87.36 bytes; if you mean 87360, write 87360"),
        ("1,234,567", "bytes", "read as 1,234,567 bytes"),
        ("12.5 %", "%", "read as 12.5 %"),
        ("0.005 s", "ms", "read as 5 ms"),
    ],
)
def test_how_an_answer_is_read_is_shown_before_it_locks(written: str, unit: str, said: str) -> None:
    predict = Predict("How much?", unit=unit)
    assert predict.button.disabled
    predict.field.value = written
    assert f">{said}<" in predict.read_as.value
    assert not predict.button.disabled
    assert not predict.locked
    predict.button.click()
    assert f"Locked: {said.removeprefix('read as ').partition(';')[0]}" in predict.said.value
    assert predict.read_as.value == ""


def test_what_cannot_be_read_cannot_be_locked_by_a_click() -> None:
    predict = Predict("How long?", unit="ms")
    predict.field.value = "5 GB"
    assert "an amount of bytes, and this question asks for a time" in predict.read_as.value
    assert predict.button.disabled
    predict.field.value = ""
    assert predict.read_as.value == ""
    assert predict.button.disabled
    predict.field.value = "5"
    assert not predict.button.disabled


def test_large_counts_are_shown_in_full() -> None:
    predict = Predict("How many bytes?", unit="bytes")
    predict.lock("87,360")
    assert repr(predict.reveal(177_280)).splitlines() == [
        "Locked: 87,360 bytes",
        "Measured: 177,280 bytes",
        "Off by +89,920 bytes (+51% of what was measured)",
    ]
    assert predict.field.value == "87,360"


def test_outside_of_a_notebook_no_lock_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lock_files.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "book.ipynb"))
    (tmp_path / "book.ipynb").write_text("{}")
    Predict("How long?").lock(8)
    assert not Predict("How long?").locked
    assert [each.name for each in tmp_path.iterdir()] == ["book.ipynb"]


def test_a_notebook_without_its_kernel_shows_what_was_said() -> None:
    predict = Predict("Which <one>?", kind="choice", options=["a", "b"])
    assert "Which &lt;one&gt;?" in predict.still()
    assert "<li>b</li>" in predict.still()
    predict.lock("b")
    predict.reveal("a")
    assert "<li>" not in predict.still()
    assert "Locked: b<br>Measured: a<br>You said b." in predict.still()
    assert from_json(predict.kept()[MIME]) == predict._asked
