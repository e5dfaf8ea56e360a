"""The panel without a browser: its controls, its buttons, and what it says when something is wrong."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from torch import nn

import lab
from lab import checks
from lab.errors import LabError, RunError
from lab.events import Paused, Resumed
from lab.experiment import Experiment
from lab.placement import resolve
from tests.widgets import events_factory as factory
from tests.widgets.notebook.slow_run import SlowRun, until
from widgets.notebook import LabPanel, cells, text
from widgets.notebook import controls as controls_module
from widgets.notebook.controls import Controls

EXPERIMENTS = [
    Experiment(),
    Experiment(net="gpt", steps=30, seed=7),
    Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, microbatches=4),
    Experiment(strategy="model_parallel", placement="auto", hardware="a100", link="nvlink3"),
    Experiment(strategy="model_parallel", devices=["cpu", "vgpu:0"], link=lab.Link(bandwidth_gb_per_s=1, latency_us=5)),
    Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1", "vgpu:2"], batch_size=48, lr=0.1),
    Experiment(strategy="ddp", world_size=3, batch_size=48, timeout_s=5, momentum=0.0),
    Experiment(strategy="ddp", devices=["vgpu:0", "vgpu:1", "vgpu:2", "vgpu:3"], world_size=2),
    Experiment(strategy="ddp", bucket_cap_mb=0.02, faults=["straggle:1:3:4", "kill:0:9"], optimizer="adam"),
    Experiment(strategy="ddp", bucket_cap_mb=10_000, devices=["vgpu:0", "vgpu:1"], topology="nodes:1:ethernet_10g"),
    Experiment(strategy="data_parallel", memory_mb=64, topology="ports", dtype="float64", momentum=0.0),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 8), nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x.flatten(1)))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.to_query()[10:50])
def test_controls_say_the_experiment_that_they_were_given(experiment: Experiment) -> None:
    assert Controls(experiment).experiment() == experiment


def test_a_module_of_ones_own_is_offered_with_its_layers() -> None:
    controls = Controls(Experiment(strategy="model_parallel"), Net)
    assert controls.experiment().net == "own:Net"
    controls.board.experiment = controls.experiment().replace(placement={"first": "vgpu:1", "*": "vgpu:0"})
    placed = controls.experiment().placement
    assert isinstance(placed, dict)
    assert resolve(placed, ["first", "second"]) == {"first": "vgpu:1", "second": "vgpu:0"}


def test_a_module_that_cannot_be_made_is_said_at_the_start(
    runs: list[SlowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> nn.Module:
        raise OSError("no such file: weights.pt")

    panel = LabPanel(Experiment(strategy="model_parallel"), net=broken, show=())
    panel.buttons["run"].click()
    assert "no such file: weights.pt" in panel.alert.value
    assert runs == []
    panel.close()


def test_a_layer_whose_device_is_gone_moves_to_the_first() -> None:
    given = {"conv1": "vgpu:2", "conv2": "vgpu:1", "*": "vgpu:0"}
    controls = Controls(Experiment(strategy="model_parallel", devices=["vgpu:0", "vgpu:1", "vgpu:2"], placement=given))
    controls.count.value = 2
    placed = controls.experiment().placement
    assert isinstance(placed, dict)
    assert resolve(placed, ["conv1", "conv2", "fc1"]) == {"conv1": "vgpu:0", "conv2": "vgpu:1", "fc1": "vgpu:0"}


def shown(controls: Controls) -> set[str]:
    """Of the controls that are not always there."""
    often = {name: getattr(controls, name) for name in ("count", "ranks", "microbatches", "hardware", "board")}
    names = ("momentum", "overlap", "bucket", "link", "topology", "memory", "trouble", "trouble_rank", "inject")
    seldom = {name: getattr(controls.more, name) for name in names}
    return {name for name, control in {**often, **seldom}.items() if control.layout.display != "none"}


def test_only_controls_with_a_meaning_are_shown() -> None:
    controls = Controls(Experiment())
    assert shown(controls) == {"momentum"}
    controls.kind.value = "vgpu"
    assert shown(controls) == {"momentum", "hardware", "memory"}
    controls.more.optimizer.value = "adam"
    virtual = {"count", "hardware", "memory", "link", "topology"}
    controls.strategy.value = "data_parallel"
    assert shown(controls) == virtual
    controls.strategy.value = "model_parallel"
    assert shown(controls) == {*virtual, "microbatches", "board"}
    controls.strategy.value, controls.kind.value = "ddp", "cpu"
    of_ranks = {"ranks", "microbatches", "overlap", "trouble"}
    assert shown(controls) == {*of_ranks, "bucket"}
    controls.more.overlap.value, controls.more.trouble.value = False, "kill"
    assert shown(controls) == {*of_ranks, "trouble_rank", "inject"}


def test_every_control_of_the_page_reaches_the_experiment() -> None:
    controls = Controls(Experiment(strategy="ddp", devices=["vgpu:0", "vgpu:1"], world_size=2))
    more = controls.more
    more.bucket.value, more.optimizer.value, more.dtype.value, more.seed.value = 0.03, "adamw", "float64", 5
    more.memory.value, more.topology.value, more.link.value = 500, "bus", "nvlink3"
    more.trouble.value, more.trouble_rank.value, more.trouble_step.value = "straggle", 0, 7
    expected = Experiment(
        strategy="ddp",
        devices=["vgpu:0", "vgpu:1"],
        world_size=2,
        bucket_cap_mb=0.03,
        optimizer="adamw",
        dtype="float64",
        seed=5,
        memory_mb=500,
        topology="bus",
        link="nvlink3",
        faults=["straggle:0:7"],
    )
    assert controls.experiment() == expected
    more.optimizer.value, more.momentum.value, more.trouble.value = "sgd", 0.5, ""
    assert controls.experiment() == expected.replace(optimizer="sgd", momentum=0.5, faults=[])


def test_without_overlap_there_is_one_bucket() -> None:
    controls = Controls(Experiment(strategy="ddp", bucket_cap_mb=0.03))
    controls.more.overlap.value = False
    assert controls.experiment().bucket_cap_mb == checks.ONE_BUCKET_MB
    controls.more.overlap.value = True
    assert controls.experiment().bucket_cap_mb == 0.03


def test_what_only_ranks_need_goes_with_them() -> None:
    controls = Controls(Experiment(strategy="ddp", bucket_cap_mb=0.03, faults=["kill:1:5"]))
    controls.strategy.value, controls.kind.value = "single", "cpu"
    assert controls.experiment() == Experiment()


def test_another_net_brings_its_data() -> None:
    controls = Controls(Experiment())
    controls.net.value = "gpt"
    assert controls.experiment().data == Experiment(net="gpt").data != Experiment().data


def test_no_control_offers_more_than_an_experiment_takes() -> None:
    assert controls_module.MAX_DEVICES <= checks.MAX_VGPUS


def test_run_stop_and_run_again(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(strategy="model_parallel"), show=("loss", "log"))
    assert panel.run is None
    assert panel.buttons["stop"].disabled
    panel.buttons["run"].click()
    assert panel.run is runs[0]
    assert panel.views["loss"].run is runs[0]
    assert not panel.buttons["stop"].disabled
    panel.buttons["stop"].click()
    until(lambda: "Stopped after 5" in panel.status.value)
    assert panel.buttons["stop"].disabled
    panel.buttons["run"].click()
    assert [run.done for run in runs] == [True, False]
    panel.close()
    assert runs[1].closed.wait(5)


def test_a_cell_below_waits_for_the_run_and_starts_one_where_there_is_none(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(steps=10), show=("loss",))

    def end() -> None:
        until(lambda: runs)
        runs[0].stop()

    ending = threading.Thread(target=end)
    ending.start()
    assert panel.finished() is runs[0]
    assert runs[0].done
    ending.join()
    assert panel.finished() is runs[0]  # one that was started is not started again
    assert len(runs) == 1
    panel.close()


def test_waiting_where_nothing_can_start_says_so(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(strategy="model_parallel"), show=())
    panel.controls.batch.value, panel.controls.microbatches.value = 63, 4
    with pytest.raises(LabError, match="the panel says why"):
        panel.finished()
    assert panel.alert.value
    panel.close()


def test_a_second_run_ends_the_first(runs: list[SlowRun]) -> None:
    panel = LabPanel(show=())
    panel.start()
    panel.start()
    assert runs[0].closed.wait(5)
    assert not runs[1].done
    panel.close()


def test_a_double_click_on_two_threads_leaves_one_run(runs: list[SlowRun]) -> None:
    panel = LabPanel(show=("loss",))
    clicks = [threading.Thread(target=panel.start) for _ in range(6)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join(20)
    until(lambda: sum(not run.done for run in runs) == 1)
    assert not panel.run.done
    panel.close()


def test_what_cannot_run_is_said_in_the_panels_words(runs: list[SlowRun]) -> None:
    panel = LabPanel(Experiment(strategy="model_parallel"), show=())
    panel.controls.batch.value, panel.controls.microbatches.value = 63, 4
    panel.buttons["run"].click()
    assert "Microbatches: 4 does not divide batch size 63; the nearest that does is 3" in panel.alert.value
    assert runs == []
    with pytest.raises(LabError):
        panel.code()
    panel.controls.microbatches.value = 3
    panel.buttons["run"].click()
    assert panel.alert.value == ""
    assert len(runs) == 1
    panel.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RunError("your net cannot be sent <b>here</b>"), ["your net cannot be sent &lt;b&gt;here&lt;/b&gt;"]),
        (KeyError("oops"), ["KeyError", text.BUG, "Traceback"]),
    ],
)
def test_whatever_goes_wrong_in_a_click_is_said(
    runs: list[SlowRun], monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    def refuse(experiment: Experiment, net: Any = None) -> None:
        raise error

    panel = LabPanel(show=())
    monkeypatch.setattr(lab, "start", refuse)
    panel.buttons["run"].click()
    for word in words:
        assert word in panel.alert.value
    panel.close()


def test_a_run_that_fails_says_why(runs: list[SlowRun]) -> None:
    panel = LabPanel(show=())
    panel.start()
    runs[0].apply([factory.failed()])
    runs[0].end("failed")
    until(lambda: "killed by signal 9" in panel.alert.value)
    assert "Run it again." in panel.alert.value
    until(lambda: "Failed after 5" in panel.status.value)
    panel.close()


def test_pause_becomes_resume(runs: list[SlowRun], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for name in ("pause", "resume", "step"):
        monkeypatch.setattr(SlowRun, name, lambda run, name=name: said.append(name), raising=False)
    panel = LabPanel(show=())
    panel.start()
    panel.buttons["pause"].click()
    runs[0].apply([Paused(0, 5, "forward")])
    until(lambda: panel.buttons["pause"].description == text.RESUME)
    assert "Paused before forward of step 5." in panel.status.value
    panel.buttons["step"].click()
    panel.buttons["pause"].click()
    assert said == ["pause", "step", "resume"]
    panel.close()


def test_resume_in_the_one_step_that_was_asked_for_goes_on(
    runs: list[SlowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for name in ("pause", "resume", "step"):
        monkeypatch.setattr(SlowRun, name, lambda run, name=name: said.append(name), raising=False)
    monkeypatch.setattr(SlowRun, "held", True)
    panel = LabPanel(show=())
    panel.start()
    runs[0].apply([Paused(0, 5, "data"), Resumed(5)])  # the step is under way
    panel.refresh(everything=True)
    assert panel.buttons["pause"].description == text.RESUME
    panel.buttons["pause"].click()
    assert said == ["resume"]
    panel.close()


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(LabError, match="'los' is not one of the panel's figures: loss, timeline"):
        LabPanel(show=("los",))


class Shell:
    """What a widget asks of IPython."""

    def __init__(self, cell_id: str | None) -> None:
        self.execution_count = 1
        self.cell_id = cell_id
        self.kernel = self
        self.history_manager = self
        self.input_hist_raw = ["LabPanel()"]

    def get_parent(self) -> dict[str, Any]:
        return {"metadata": {"cellId": self.cell_id} if self.cell_id else {}}


@pytest.mark.parametrize("cell_id", ["abc", None])
def test_a_cell_that_is_run_again_replaces_its_panel(
    runs: list[SlowRun], monkeypatch: pytest.MonkeyPatch, cell_id: str | None
) -> None:
    shell = Shell(cell_id)
    monkeypatch.setattr(cells, "shell", lambda: shell)
    monkeypatch.setattr(cells, "_owners", {})
    monkeypatch.setattr(cells, "watch_interrupts", lambda: None)
    first, beside = LabPanel(show=()), LabPanel(show=())
    first.start()
    beside.start()
    assert not any(run.done for run in runs)
    shell.execution_count = 2
    second = LabPanel(show=())
    assert all(run.closed.wait(5) for run in runs)
    second.start()
    shell.execution_count, shell.cell_id, shell.input_hist_raw = 3, cell_id and "other", ["panel = LabPanel()"]
    other = LabPanel(show=())
    assert not runs[2].done
    second.close()
    other.close()
