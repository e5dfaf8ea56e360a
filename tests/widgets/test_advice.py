"""The sentences under the timeline hold for the whole run, and advise only what helps."""

from __future__ import annotations

import dataclasses

import pytest

from lab.events import Event, Placed, Span, StepFinished
from lab.state import RunState
from tests.widgets import events_factory as factory
from widgets.web import text
from widgets.web.advice import says

LAYERS = {"conv1": "vgpu:0", "conv2": "vgpu:0", "fc1": "vgpu:1", "fc2": "vgpu:1"}


def run(*work: int, microbatches: int = 1, batch_size: int = 64, layers: dict[str, str] = LAYERS) -> RunState:
    """A step of 1,000 ns in which device `i` computes for `work[i]`."""
    devices = tuple(f"vgpu:{index}" for index in range(len(work)))
    begun = factory.started(devices=devices)
    asked = begun.experiment | {"microbatches": microbatches, "batch_size": batch_size}
    events: list[Event] = [dataclasses.replace(begun, experiment=asked), Placed(layers, "given", "As given.")]
    events += [Span(name, 0, 0, "forward", "l", 0, ns) for name, ns in zip(devices, work, strict=True) if ns]
    state = RunState()
    state.apply_all([*events, StepFinished(0, 0, 1.0, 64, 1e-6, 1_000)])
    return state


def test_the_devices_that_waited_and_what_transfers_took() -> None:
    # Of 1,270 µs, vgpu:0 waited 660; each device took part in transfers for 80.
    said = says(factory.folded(factory.events(steps=5)))
    assert said.startswith("Over the whole run, vgpu:0 waited 52% of the time, and transfers took 6%.")
    assert said.endswith(text.TRY_MICROBATCHES)
    assert "waited 60% of the time, and transfers took under 1%." in says(run(600, 400))


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (run(400, 350), text.TRY_MICROBATCHES),
        (run(300, 250, 200), text.TRY_MICROBATCHES),
        (run(400, 350, batch_size=63), ""),
        (run(600, 550, microbatches=2), ""),
        (run(800, 300), text.MOVE_A_LAYER.format(most="vgpu:0", least="vgpu:1")),
        (run(800, 300, microbatches=4), text.MOVE_A_LAYER.format(most="vgpu:0", least="vgpu:1")),
        (run(700, 300), text.TRY_MICROBATCHES),
        (run(950, 0), text.MOVE_A_LAYER.format(most="vgpu:0", least="vgpu:1")),
        (run(600, 500, 200), text.MOVE_A_LAYER.format(most="vgpu:0", least="vgpu:2")),
        (run(800, 100, layers={"conv1": "vgpu:0", "conv2": "vgpu:1"}), ""),
        (run(200, 150), text.LARGER_BATCH),
        (run(300, 50, microbatches=4), text.LARGER_BATCH),
    ],
)
def test_the_advice_fits_the_shares(state: RunState, advice: str) -> None:
    assert says(state).partition("transfers took under 1%.")[2].strip() == advice


@pytest.mark.parametrize(("moved", "advice"), [(50, ""), (250, text.LARGER_SHARES)])
def test_copies_of_the_net_are_not_told_to_move_layers(moved: int, advice: str) -> None:
    state = run(600, 550)
    state.apply(Placed({"l": "vgpu:0"}, "given", "", copies=("vgpu:1",)))
    state.apply(Span("vgpu:0", 0, 0, "transfer", "replicate vgpu:0 → vgpu:1", 600, 600 + moved, peer="vgpu:1"))
    assert says(state).partition("%.")[2].strip() == advice


def test_one_device_needs_no_advice_and_no_run_no_sentence() -> None:
    assert says(run(900)) == text.ONE_DEVICE
    assert says(RunState()) == ""
