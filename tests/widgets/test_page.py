"""The page's controls, frames and handlers, without a browser."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from lab import nets
from lab.errors import ExperimentError
from lab.experiment import Experiment
from lab.state import RunState
from tests.widgets import events_factory as factory
from tests.widgets.fakes import FakeRun
from widgets.web import form as forms
from widgets.web import serve, static, text
from widgets.web.frame import Painter, kpis, says
from widgets.web.page import Handlers, build
from widgets.web.sessions import Session, Sessions

DEFAULT = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, steps=40)
VALUES: dict[str, Any] = {
    "strategy": "model_parallel",
    "net": "net",
    "virtual": 2,
    "real": [],
    "device": "cpu",
    "panel": {"chosen": factory.PLACEMENT},
    "batch_size": 64,
    "microbatches": 1,
    "length": 40,
    "unit": "steps",
    "lr": 0.01,
    "seed": 0,
}


def form(**changes: Any) -> forms.Form:
    return forms.Form(**{**VALUES, **changes})


def tab(key: str) -> Any:
    return SimpleNamespace(session_hash=key)


def frames(stream: Iterator[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [json.loads(parts[0]) for parts in stream]


# -- the form --------------------------------------------------------------------------------------------------------


def test_the_form_of_the_default_is_the_default() -> None:
    assert form().experiment(DEFAULT) == DEFAULT


def test_fields_without_a_control_keep_the_default() -> None:
    default = DEFAULT.replace(optimizer="adam", memory_mb=500.0)
    experiment = form(lr=0.001).experiment(default)
    assert (experiment.optimizer, experiment.memory_mb, experiment.lr) == ("adam", 500.0, 0.001)


def test_one_device_ignores_what_only_several_need() -> None:
    experiment = form(strategy="single", device="vgpu:3", microbatches=7, panel=None).experiment(DEFAULT)
    assert (experiment.strategy, experiment.devices, experiment.microbatches) == ("single", ("vgpu:3",), 1)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ExperimentError) as caught:
        form(batch_size=63, microbatches=4, lr=0, virtual=9, seed=None).experiment(DEFAULT)
    assert {problem.field for problem in caught.value.problems} >= {"microbatches", "lr", "devices", "seed"}


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "nett"},
        {"net": ["net"]},
        {"strategy": "magic"},
        {"strategy": None},
        {"virtual": "two"},
        {"virtual": 1.5},
        {"virtual": math.nan},
        {"virtual": 0},
        {"real": ["cuda:99"]},
        {"real": "cpu"},
        {"panel": None},
        {"panel": {"chosen": {"conv1": 3}}},
        {"panel": {"chosen": {"conv9": "vgpu:0", "conv1": "vgpu:1"}}},
        {"panel": {"chosen": {"conv1": "vgpu:7"}}},
        {"panel": {"chosen": "best"}},
        {"batch_size": None},
        {"batch_size": -1},
        {"batch_size": 100_000},
        {"lr": math.nan},
        {"length": 0},
        {"length": None},
    ],
)
def test_no_value_from_a_client_gets_past_the_checks(changes: dict[str, Any]) -> None:
    if changes in ({"length": None}, {"real": "cpu"}):
        form(**changes).experiment(DEFAULT)  # left out: the default holds
        return
    with pytest.raises(ExperimentError) as caught:
        form(**changes).experiment(DEFAULT)
    assert all(problem.message for problem in caught.value.problems)


def test_patterns_are_short_and_mean_the_same() -> None:
    assert forms.patterns(factory.PLACEMENT) == {"conv1": "vgpu:0", "*": "vgpu:1"}
    assert forms.patterns({"a": "cpu"}) == {"*": "cpu"}


@pytest.mark.parametrize("net", nets.NAMES)
def test_the_panel_lists_the_layers_of_every_net(net: str) -> None:
    panel = forms.panel(net, ["vgpu:0", "vgpu:1"], factory.PLACEMENT)
    assert panel["layers"] == list(nets.layer_names(net, nets.REGISTRY[net].default_data))
    assert panel["chosen"] == (factory.PLACEMENT if net == "net" else "even")


def test_layers_move_off_a_device_that_is_gone() -> None:
    panel = forms.panel("net", ["vgpu:0"], factory.PLACEMENT)
    assert set(panel["chosen"].values()) == {"vgpu:0"}


# -- frames ----------------------------------------------------------------------------------------------------------


def test_kpis_are_the_events_numbers() -> None:
    shown = kpis(factory.folded(factory.events(steps=50)))
    assert shown["step_time"] == ("1.27 ms", text.CLOCKS["virtual"])
    assert shown["crossing"][0] == "737.3 kB"
    assert shown["waiting"][0] == f"{(660 + 450) / 2 / 1270:.0%}"
    assert all(value == text.NO_VALUE for value, _ in kpis(RunState()).values())


def test_a_frame_is_json_even_with_nan_and_only_changed_figures_get_a_new_revision() -> None:
    now = [0.0]
    state = factory.folded(factory.events(steps=30))
    painter = Painter("r", DEFAULT, state, now=lambda: now[0])
    session = Session("a")
    first = json.loads(painter.paint(session))
    assert first["kpis"]["loss"][0] != "NaN"
    state.apply(factory.StepFinished(30, 0, float("nan"), 64, 0.001, 31 * factory.STEP_NS))
    now[0] = 0.3
    second = json.loads(painter.paint(session))
    assert second["kpis"]["loss"][0] == "NaN"
    revisions = {
        name: (first["figures"][name]["revision"], second["figures"][name]["revision"]) for name in first["figures"]
    }
    assert [name for name, (before, after) in revisions.items() if before != after] == ["loss"]
    assert json.loads(painter.paint(Session("a", theme="dark")))["figures"]["busy"]["revision"] > revisions["busy"][1]


def test_the_time_left_follows_the_pace() -> None:
    now = [100.0]
    state = factory.folded(factory.events(steps=100, total_steps=1_100))
    painter = Painter("r", DEFAULT, state, now=lambda: now[0])
    assert json.loads(painter.paint(Session("a")))["eta"] == ""
    for step in range(100, 200):
        state.apply_all(factory.step_events(step))
    now[0] = 110.0
    assert json.loads(painter.paint(Session("a")))["eta"] == text.TIME_LEFT.format(time="1 min 30 s")


def test_a_failure_is_shown_with_cause_advice_and_traceback() -> None:
    state = factory.folded(factory.events(steps=3))
    state.apply(factory.failed())
    state.apply(factory.finished("failed", 3))
    frame = json.loads(Painter("r", DEFAULT, state).paint(Session("a")))
    assert frame["status"] == {"state": "failed", "text": "Failed after 3 of 938 steps"}
    assert frame["alert"]["items"] == ["the worker was killed by signal 9"]
    assert frame["alert"]["advice"] == "Run it again."
    assert "Traceback" in frame["alert"]["traceback"]


def test_the_frame_has_data_source_code_and_layers() -> None:
    frame = json.loads(Painter("r", DEFAULT, factory.folded(factory.events(steps=3))).paint(Session("a")))
    assert frame["data"].startswith("MNIST: 60,000 training and 10,000 test samples, bundled")
    assert frame["clock"] == "simulated clock"
    assert eval_experiment(frame["code"]) == DEFAULT
    assert frame["layers"]["conv1"]["device"] == "vgpu:0"
    assert "260 params" in frame["layers"]["conv1"]["about"]


def eval_experiment(code: str) -> Experiment:
    """The Experiment that the shown code makes, without starting it."""
    names: dict[str, Any] = {"__name__": "shown"}
    exec(code, names)
    return names["experiment"]


def test_what_the_numbers_say() -> None:
    said = says(factory.folded(factory.events(steps=5)))
    assert "vgpu:0 waited 52%" in said
    assert text.TRY_MICROBATCHES in said
    assert says(RunState()) == ""


# -- handlers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    sessions = Sessions(lambda experiment: FakeRun(experiment, ends=3))
    yield sessions
    sessions.close()


def test_opening_the_page_runs_the_default_to_its_end(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    shown = list(do.open("dark", tab("a")))
    first, last = json.loads(shown[0][0]), json.loads(shown[-1][0])
    assert first["status"]["text"] == text.STARTING
    assert last["status"]["state"] == "finished"
    assert last["theme"] == "dark"
    assert (shown[0][1].value, shown[-1][1].value) == (text.RESTART, text.START)
    assert shown[-1][2].interactive is False
    assert sessions.get("a").run.experiment == DEFAULT


def test_a_bad_value_is_a_sentence_and_the_run_goes_on(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    (frame,) = frames(do.start(**{**VALUES, "batch_size": 63, "microbatches": 4}, request=tab("a")))
    assert frame["alert"]["items"] == ["microbatches: 4 does not divide batch_size 63; the nearest that does is 3"]
    assert not sessions.get("a").run.done
    assert json.loads(next(stream)[0])["alert"] == frame["alert"]
    good = frames(do.start(**VALUES, request=tab("a")))
    assert good[-1]["alert"] is None


def test_a_second_start_replaces_the_first(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    first = sessions.get("a").run
    frames(do.start(**VALUES, request=tab("a")))
    assert first.closed.wait(5)
    assert list(stream) == []


def test_stop_stops_this_tab_only(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    streams = [do.open("light", tab(key)) for key in "ab"]
    for stream in streams:
        next(stream), next(stream)
    do.stop(tab("a"))
    assert json.loads(next(streams[0])[0])["status"]["state"] == "stopped"
    assert json.loads(next(streams[1])[0])["status"]["state"] == "running"


def test_a_closed_stream_stops_its_run(sessions: Sessions) -> None:
    stream = Handlers(DEFAULT, sessions, patience_seconds=0).open("light", tab("a"))
    next(stream), next(stream)
    run = sessions.get("a").run
    stream.close()
    assert run.stops == 1


def test_a_start_that_fails_is_a_sentence() -> None:
    def broken(experiment: Experiment) -> FakeRun:
        raise OSError("no process can be started")

    shown = frames(Handlers(DEFAULT, Sessions(broken), patience_seconds=0).open("light", tab("a")))
    assert shown[-1]["alert"]["items"] == ["run: no process can be started"]


def test_choosing_theme_and_step(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    frames(do.open("light", tab("a")))

    def chosen(data: Any) -> dict[str, Any]:
        return json.loads(do.choose(gr.EventData(None, data), tab("a")))

    assert chosen({"step": 2})["figures"]["timeline"]["title"].startswith("step 2")
    assert chosen({"theme": "dark"})["theme"] == "dark"
    assert chosen({"theme": "<script>", "step": "x"})["theme"] == "dark"
    assert chosen(None)["figures"]["timeline"]["title"].startswith("step 4")


def test_arranging_follows_net_and_devices(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    panel, several, device, *_, note = do.arrange("model_parallel", "resnet18", 3, ["cpu"], {"chosen": "auto"})
    assert panel["devices"] == ["vgpu:0", "vgpu:1", "vgpu:2", "cpu"]
    assert "layer1.0" in panel["layers"]
    assert (several.visible, device.visible, note.visible) == (True, False, True)
    _, several, device, *_ = do.arrange("single", "net", 2, [], None)
    assert (several.visible, device.visible) == (False, True)


# -- the page and its server -----------------------------------------------------------------------------------------


def test_every_default_can_be_built(sessions: Sessions) -> None:
    for default in (DEFAULT, Experiment(), Experiment(net="gpt", strategy="model_parallel", placement="auto")):
        page = build(default, sessions)
        assert page.analytics_enabled is False


def test_the_page_names_no_other_host() -> None:
    for name in ("head.html", "head.js", "early.js", "bench.html", "bench.js", "panel.html", "panel.js", "page.css"):
        content = static.read(name)
        assert "http" not in content
        assert "%{" not in content


def test_every_colour_variable_is_defined() -> None:
    import re

    css = static.css()
    used = set(re.findall(r"var\((--lab-[\w-]+)\)", css + static.read("panel.js")))
    defined = set(re.findall(r"(--lab-[\w-]+):", css)) | {"--lab-device"}
    assert used <= defined


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(serve.ServeError, match=f"port {port} on 127.0.0.1 is taken"):
            serve.serve(DEFAULT, port=port, open_browser=False)


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.7", 7860), ("no.such.host.invalid", 7860), ("127.0.0.1", 70_000)]
)
def test_a_host_or_port_that_cannot_be_is_a_sentence(host: str, port: int) -> None:
    with pytest.raises(serve.ServeError, match=r"cannot listen on|ports go from 1"):
        serve.serve(DEFAULT, host=host, port=port, open_browser=False)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1/"), ("0.0.0.0", "http://localhost:1/"), ("::1", "http://[::1]:1/")],
)
def test_the_address_can_be_typed(host: str, url: str) -> None:
    assert serve._url(host, 1) == url
