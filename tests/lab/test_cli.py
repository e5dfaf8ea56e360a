"""The command line, with runs made by hand: options, exit codes, and what is printed where."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

import lab
from lab import Experiment, LabError, Link, cli, terminal
from lab.events import (
    DataSource,
    DeviceInfo,
    DeviceTotals,
    Evaluated,
    Event,
    MemorySampled,
    Placed,
    RankFailed,
    RunFinished,
    RunStarted,
    Span,
    StepFinished,
)
from lab.state import RunState

SPLIT = ["--strategy", "model_parallel", "--devices", "vgpu:0,vgpu:1"]
MS = 1_000_000


def events_of_a_run(steps: int = 3, ending: str = "finished") -> list[Event]:
    """Two virtual GPUs, 10 ms a step: vgpu:0 works 4 ms and sends for 1 ms, vgpu:1 works 2 ms."""
    experiment = Experiment(strategy="model_parallel", steps=steps)
    devices = tuple(DeviceInfo(f"vgpu:{i}", "Classroom GPU (fictional)", 2 * 10**9, simulated=True) for i in range(2))
    data = DataSource("mnist", "MNIST", 60_000, 10_000, "bundled with the lab")
    events: list[Event] = [
        RunStarted("r1", experiment.to_dict(), devices, "virtual", data, "Net", steps, {"torch": "2"}),
        Placed({"conv1": "vgpu:0", "conv2": "vgpu:1"}, "even", "Cut evenly by parameters."),
    ]
    for step in range(steps):
        at = step * 10 * MS
        events += [
            Span("vgpu:0", 0, step, "forward", "conv1", at, at + 4 * MS),
            Span("vgpu:0", 0, step, "transfer", "vgpu:0 → vgpu:1", at + 4 * MS, at + 5 * MS, bytes=9, peer="vgpu:1"),
            Span("vgpu:1", 0, step, "forward", "conv2", at + 5 * MS, at + 7 * MS),
            MemorySampled("vgpu:0", at, 1_500_000, 2_500_000, 2 * 10**9),
            StepFinished(step, 0, 2.0 - step / 2, 64, 0.01, at + 10 * MS),
        ]
    events.append(Evaluated(steps, 1, "test", 0.1234, 0.9712, 10_000))
    if ending == "failed":
        events.append(
            RankFailed(0, "the loss became NaN", True, "Traceback of the worker\n", "lower the learning rate")
        )
    totals = {"vgpu:0": DeviceTotals(12 * MS, 3 * MS, 0, 15 * MS), "vgpu:1": DeviceTotals(6 * MS, 0, 0, 24 * MS)}
    events.append(RunFinished(ending, steps, 1.5, totals))  # type: ignore[arg-type]
    return events


class ByHand:
    """A run that is a list of events."""

    def __init__(self, events: list[Event]) -> None:
        self.events, self.state, self.lock, self.stopped = events, RunState(), threading.Lock(), False

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            with self.lock:
                self.state.apply(event)
            yield event

    def __enter__(self) -> ByHand:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The Experiments that were started; each run is the one made by hand."""
    seen: list[Experiment] = []

    def start(experiment: Experiment) -> ByHand:
        seen.append(experiment)
        return ByHand(events_of_a_run())

    monkeypatch.setattr(lab, "start", start, raising=False)
    return seen


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


class TestOptions:
    def test_every_field_has_an_option(self, started: list[Experiment]) -> None:
        options = {
            "net": "mlp", "data": "mnist", "strategy": "model_parallel", "devices": "vgpu:0,vgpu:1",
            "placement": "auto", "transfers": "manual", "batch-size": "32", "microbatches": "4", "epochs": "2",
            "steps": "7", "optimizer": "adam", "lr": "1e-3", "momentum": "0.5", "seed": "9", "hardware": "classroom",
            "memory-mb": "50", "link-bandwidth": "3", "link-latency": "4", "topology": "bus", "clock": "virtual",
            "dtype": "float64",
        }  # fmt: skip
        done = invoke("run", *(f"--{name}={value}" for name, value in options.items()))
        assert done.exit_code == 0, done.stderr
        assert started == [
            Experiment(
                net="mlp", data="mnist", strategy="model_parallel", devices=("vgpu:0", "vgpu:1"), placement="auto",
                transfers="manual", batch_size=32, microbatches=4, epochs=2, steps=7, optimizer="adam", lr=0.001,
                momentum=0.5, seed=9, hardware="classroom", memory_mb=50, clock="virtual", dtype="float64",
                link={"bandwidth_gb_per_s": 3, "latency_us": 4}, topology="bus",
            )
        ]  # fmt: skip

    def test_no_field_was_forgotten(self) -> None:
        run = typer.main.get_command(cli.app).commands["run"]
        flags = {flag for parameter in run.params for flag in parameter.opts}
        assert {f"--{field.replace('_', '-')}" for field in Experiment.model_fields} <= flags

    def test_placing_layers_in_order(self, started: list[Experiment]) -> None:
        assert invoke("run", *SPLIT, "--place", "conv1=vgpu:0", "--place", "*=vgpu:1").exit_code == 0
        placement = started[0].placement
        assert isinstance(placement, dict)
        assert list(placement.items()) == [("conv1", "vgpu:0"), ("*", "vgpu:1")]

    def test_one_figure_of_the_link_keeps_the_profiles_other(self, started: list[Experiment]) -> None:
        assert invoke("run", *SPLIT, "--link-latency", "7").exit_code == 0
        assert started[0].link is not None
        assert (started[0].link.bandwidth_gb_per_s, started[0].link.latency_us) == (1.0, 7.0)

    def test_a_link_by_name_and_one_figure_of_it_changed(self, started: list[Experiment]) -> None:
        assert invoke("run", *SPLIT, "--link", "nvlink4").exit_code == 0
        assert invoke("run", *SPLIT, "--link", "ethernet_10g", "--link-latency", "7").exit_code == 0
        assert [experiment.link for experiment in started] == ["nvlink4", Link(bandwidth_gb_per_s=1.25, latency_us=7)]

    def test_a_profile_of_ones_own(self, started: list[Experiment], tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('base = "a100"\nlink_gb_per_s = 7', encoding="utf-8")
        assert invoke("run", *SPLIT, "--hardware", str(file), "--link-latency", "3").exit_code == 0
        assert started[0].hardware == str(file)
        assert started[0].link == Link(bandwidth_gb_per_s=7, latency_us=3)


class TestConfig:
    def test_options_go_before_the_file(self, started: list[Experiment], tmp_path: Path) -> None:
        file = tmp_path / "e.toml"
        file.write_text(Experiment(lr=0.5, batch_size=16, steps=5).to_toml(), encoding="utf-8")
        assert invoke("run", "--config", str(file), "--lr", "0.25", "--epochs", "2").exit_code == 0
        assert started == [Experiment(lr=0.25, batch_size=16, epochs=2)]

    def test_everything_wrong_in_file_and_options_at_once(self, started: list[Experiment], tmp_path: Path) -> None:
        file = tmp_path / "e.toml"
        file.write_text("momentun = 0.5\nbatch_size = 0\n", encoding="utf-8")
        done = invoke("run", "--config", str(file), "--lr", "nan", *SPLIT, "--place", "conv3=vgpu:0", "--place", "fc1")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert started == []
        fields = [line.strip("- ").split(":")[0] for line in done.stderr.splitlines()[1:]]
        assert fields == ["place", "batch_size", "lr", "momentun", "placement", "placement"]

    @pytest.mark.parametrize(("name", "text"), [("none.toml", None), ("bad.toml", "lr = = 1"), ("bad.json", "[1]")])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, name: str, text: str | None) -> None:
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
        done = invoke("run", "--config", str(tmp_path / name), "--batch-size", "0")
        assert done.exit_code == 2
        assert name in done.stderr
        assert "batch_size: '0' is not allowed" in done.stderr
        assert "Traceback" not in done.output


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--net", "nett"], "net: 'nett' is not one of net, mlp, resnet18, gpt (did you mean 'net'?)"),
            (["--batch-size", "many"], "batch_size: 'many' is not allowed; give a whole number from 1 to 65536"),
            (["--link", "nvlnk3"], "link: 'nvlnk3' is not one of pcie3"),
            (["--link", "nvlnk3", "--link-latency", "3"], "link: 'nvlnk3' is not one of pcie3"),
            (["--topology", "nodes"], "topology: 'nodes' does not say how many devices a node has"),
            (["--hardware", "none.toml"], "hardware: none.toml: cannot read the profile"),
            (["--hardware", "none.toml", "--link-latency", "3"], "hardware: none.toml: cannot read the profile"),
            (["--devices", "cuda:99"], "devices: 'cuda:99' is not on this machine"),
            ([*SPLIT, "--place", "conv1"], "place: 'conv1' has no '='; write LAYER=DEVICE"),
            ([*SPLIT, "--place", "a=cpu", "--place", "a=vgpu:0"], "place: 'a' is sent to 'cpu' and to 'vgpu:0'"),
            ([*SPLIT, "--place", "*=vgpu:0", "--placement", "even"], "placement: give either --placement or --place"),
        ],
    )
    def test_a_sentence_and_exit_code_2(self, started: list[Experiment], arguments: list[str], said: str) -> None:
        done = invoke("run", *arguments)
        assert (done.exit_code, done.stdout, started) == (2, "", [])
        assert said in done.stderr

    def test_an_unknown_option(self) -> None:
        assert invoke("run", "--batchsize", "3").exit_code == 2


class TestOutput:
    def test_json_is_one_event_a_line_and_nothing_else(self, started: list[Experiment]) -> None:
        done = invoke("run", *SPLIT, "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["event"] for line in lines] == [type(event).__name__ for event in events_of_a_run()]
        assert done.exit_code == 0
        assert done.stderr == ""

    def test_lines_and_summary_without_a_terminal(self, started: list[Experiment]) -> None:
        done = invoke("run", *SPLIT)
        assert "\x1b" not in done.stdout
        assert "times are simulated" in done.stdout
        assert "Cut evenly by parameters." in done.stdout
        assert "Data: MNIST, 60000 training and 10000 test samples; bundled with the lab" in done.stdout
        assert re.search(r"step 3/3 +loss 1\.0000", done.stdout)
        for said in ("Finished", "97.12%", "3 of 3", "simulated (virtual clock)", "conv1", "2.5 MB / 2.0 GB"):
            assert said in done.stdout

    @pytest.mark.parametrize(
        ("length", "said"),
        [({"steps": 3}, "after step 3: test accuracy 97.12%"), ({"epochs": 2}, "epoch 2: test accuracy 97.12%")],
    )
    def test_a_test_is_dated_as_the_run_was_asked_for(
        self, capsys: pytest.CaptureFixture[str], length: dict[str, int], said: str
    ) -> None:
        view = terminal.LineView()
        begun = dataclasses.replace(events_of_a_run()[0], experiment=Experiment(**length).to_dict())
        view.see(begun)
        view.see(Evaluated(2, 1, "test", 0.1234, 0.9712, 10_000))
        assert said in capsys.readouterr().out.splitlines()[-1]

    def test_shares_are_those_of_the_whole_run(self, started: list[Experiment]) -> None:
        table = next(line for line in invoke("run", *SPLIT).stdout.splitlines() if "● vgpu:0" in line)
        assert re.findall(r"(\d+)%", table) == ["40", "10", "50"]

    def test_a_failed_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lab, "start", lambda experiment: ByHand(events_of_a_run(ending="failed")), raising=False)
        done = invoke("run")
        assert done.exit_code == 1
        assert "Failed" in done.stdout
        for said in ("Failed: the loss became NaN", "Advice: lower the learning rate", "Traceback of the worker"):
            assert said in done.stderr

    def test_batch_norm_and_microbatches_are_explained(self, started: list[Experiment]) -> None:
        done = invoke("run", *SPLIT, "--net", "resnet18", "--microbatches", "2", "--json")
        assert "batch norm" in done.stderr
        assert "rightly differ" in done.stderr

    def test_batch_norm_and_shares_of_the_batch_are_explained(self, started: list[Experiment]) -> None:
        several = ["run", "--strategy", "data_parallel", "--net", "resnet18", "--json"]
        assert "each device's part of the batch alone" in invoke(*several).stderr
        assert invoke(*several, "--devices", "vgpu:0").stderr == ""

    def test_a_device_with_a_copy_of_the_net(self) -> None:
        state = RunState()
        placed = Placed({"conv1": "vgpu:0", "fc1": "vgpu:0"}, "given", "", copies=("vgpu:1",))
        state.apply_all([placed if isinstance(event, Placed) else event for event in events_of_a_run()])
        console = Console(width=100, file=io.StringIO())
        with console.capture() as captured:
            console.print(terminal.device_table(state))
        rows = [line for line in captured.get().splitlines() if "●" in line]
        assert "conv1, fc1" in rows[0]
        assert "a copy of all" in rows[1]


class TestLiveView:
    def draw(self, state: RunState, width: int = 150) -> str:
        console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
        with console.capture() as captured:
            console.print(terminal.LiveView(state, console).draw())
        return captured.get()

    def test_before_the_start(self) -> None:
        assert "Starting" in self.draw(RunState())

    def test_half_way(self) -> None:
        state = RunState()
        state.apply_all(events_of_a_run()[:-3])
        drawn = self.draw(state)
        for said in (
            "Net",
            "Cut evenly",
            "model_parallel on vgpu:0, vgpu:1",
            "2/3",
            "ETA",
            "loss 1.5000",
            "simulated",
            "MNIST",
        ):
            assert said in drawn
        first = next(line for line in drawn.splitlines() if "● vgpu:0" in line)
        assert re.findall(r"(\d+)%", first) == ["60", "15", "25"]  # 12 + 3 of the 20 ms of two finished steps
        second = next(line for line in drawn.splitlines() if "● vgpu:1" in line)
        assert "conv2" in second
        assert re.findall(r"(\d+)%", second) == ["30", "15", "55"]  # 6 + 3 of 20

    def test_the_page_says_the_same(self) -> None:
        state = RunState()
        state.apply_all(events_of_a_run(steps=10)[:-2])
        for device, wanted in (("vgpu:0", (0.4, 0.1, 0.5)), ("vgpu:1", (0.2, 0.1, 0.7))):
            shares, drawn = terminal.device_shares(state, device), state.shares(device)
            assert (shares.busy, shares.transfer, shares.waiting) == pytest.approx(wanted)
            assert (drawn["forward"], drawn["transfer"], drawn["wait"]) == pytest.approx(wanted)

    def test_it_fits_a_narrow_terminal(self) -> None:
        state = RunState()
        state.apply_all(events_of_a_run())
        drawn = self.draw(state, width=80)
        assert all(len(line) <= 80 for line in drawn.splitlines())
        assert re.search(r"● vgpu:0 .* 40% +10% +50% +2.5 MB / 2.0 GB +conv1", drawn)

    def test_it_is_drawn_and_removed_in_a_terminal(self) -> None:
        state = RunState()
        state.apply_all(events_of_a_run())
        console = Console(width=120, force_terminal=True)
        with console.capture() as captured, terminal.LiveView(state, console):
            pass
        assert "vgpu:1" in captured.get()


class TestTexts:
    def test_bytes(self) -> None:
        figures = [0, 999, 368_640, 2_500_000, 2 * 10**9, 3 * 10**12]
        assert [terminal.bytes_text(n) for n in figures] == ["0 B", "999 B", "368.6 kB", "2.5 MB", "2.0 GB", "3.0 TB"]

    def test_seconds(self) -> None:
        figures = [5e-6, 0.00127, 0.5, 12.34, 245]
        assert [terminal.seconds_text(s) for s in figures] == ["5 µs", "1.27 ms", "500 ms", "12.3 s", "4 min 05 s"]

    def test_sparkline(self) -> None:
        assert terminal.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
        assert terminal.sparkline([0.0, float("nan"), 7.0]) == "▁ █"
        assert terminal.sparkline([1.0]) == "▁"
        assert terminal.sparkline([]) == terminal.sparkline([float("inf")]) == ""
        assert len(terminal.sparkline(list(range(1000)), width=48)) <= 48


class TestOtherCommands:
    def test_devices_in_json(self) -> None:
        found = json.loads(invoke("devices", "--json").stdout)
        assert found["devices"][0]["name"] == "cpu"
        assert len(found["virtual_gpus"]) == 64
        assert found["hardware"][0]["fictional"] is True
        assert {"name": "pcie5", "gb_per_s": 63.0}.items() <= found["links"][2].items()

    def test_devices(self) -> None:
        shown = invoke("devices").stdout
        for said in ("cpu", "vgpu:0 to vgpu:63", "classroom", "fictional", "nvlink5", "900 GB/s"):
            assert said in shown

    @pytest.mark.parametrize("command", [["-m", "lab"], ["-c", "from lab.cli import main; main()"]])
    def test_version(self, command: list[str]) -> None:
        done = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout.strip()) == (0, f"parallel-lab {lab.__version__}")

    def test_help_without_a_command(self) -> None:
        assert "run" in invoke().output


class TestDemo:
    @pytest.fixture
    def page(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the page was started with."""
        served: dict[str, Any] = {}

        def serve(experiment: Experiment, host: str, port: int | None, open_browser: bool) -> None:
            served.update(experiment=experiment, host=host, port=port, open_browser=open_browser)
            if port == 1:
                raise LabError("cannot listen on port 1")

        module = type(sys)("widgets.web.serve")
        module.serve = serve  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "widgets.web.serve", module)
        return served

    def test_the_default_experiment(self, page: dict[str, Any]) -> None:
        assert invoke("demo", "--no-browser").exit_code == 0
        placement = {"conv1": "vgpu:0", "*": "vgpu:1"}
        experiment = Experiment(
            strategy="model_parallel", placement=placement, epochs=1, batch_size=128, timing="modelled"
        )
        assert page == {"experiment": experiment, "host": "127.0.0.1", "port": None, "open_browser": False}

    def test_an_address_that_is_taken(self, page: dict[str, Any]) -> None:
        done = invoke("demo", "--port", "1")
        assert done.exit_code == 1
        assert done.stderr == "parallel-lab: cannot listen on port 1\n"

    def test_serve_passes_on_what_the_options_say(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from widgets.web import serve

        given: dict[str, Any] = {}
        monkeypatch.setattr(serve, "serve", lambda experiment, **others: given.update(others))
        users = tmp_path / "users"
        options = ["--max-runs", "3", "--max-ranks", "2", "--max-seconds", "60", "--auth-file", str(users)]
        done = invoke("serve", *options, "--root-path", "/lab", "--host", "0.0.0.0", "--port", "8000", "--no-faults")
        assert done.exit_code == 0, done.stderr
        sharing = given.pop("sharing")
        assert given == {"host": "0.0.0.0", "port": 8000, "open_browser": False}
        assert (sharing.limits.ranks, sharing.limits.seconds, sharing.limits.faults) == (2, 60.0, False)
        assert (sharing.budget.runs, sharing.auth_file, sharing.root_path) == (3, users, "/lab")

    @pytest.mark.parametrize("option", ["--max-runs", "--max-ranks", "--max-seconds", "--port"])
    def test_serve_refuses_what_is_below_nothing(self, option: str) -> None:
        done = invoke("serve", option, "-1")
        assert done.exit_code == 2
        assert option in done.stderr

    def test_serve_says_what_is_wrong_with_its_users(self, tmp_path: Path) -> None:
        done = invoke("serve", "--auth-file", str(tmp_path / "absent"))
        assert done.exit_code == 1
        assert done.stderr.startswith("parallel-lab: cannot read the users in")
        assert invoke("serve", "--root-path", "lab").stderr.startswith("parallel-lab: 'lab' is no root path")
        assert invoke("serve", "--add-user", "ada").exit_code == 2

    def test_a_user_is_added(self, tmp_path: Path) -> None:
        users = tmp_path / "users"
        done = CliRunner().invoke(
            cli.app, ["serve", "--add-user", "ada", "--auth-file", str(users)], input="secret words\n"
        )
        assert done.exit_code == 0, done.output
        assert users.read_text().startswith("ada:scrypt$")
        assert "secret words" not in users.read_text() + done.output

    def test_without_gradio_it_gives_the_pip_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class NoGradio:
            def find_spec(self, name: str, path: object = None, target: object = None) -> None:
                if name == "widgets.web.serve":
                    raise ModuleNotFoundError("No module named 'gradio'", name="gradio")

        monkeypatch.delitem(sys.modules, "widgets.web.serve", raising=False)
        monkeypatch.setattr(sys, "meta_path", [NoGradio(), *sys.meta_path])
        done = invoke("demo")
        assert done.exit_code == 1
        assert "the page needs gradio, which is not installed: pip install gradio" in done.stderr
