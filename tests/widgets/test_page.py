"""What the page does on each event, without a browser."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from lab.errors import RunError
from lab.experiment import Experiment
from lab.state import RunState
from tests.widgets import events_factory as factory
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT, VALUES, form
from widgets.web import controls, presets, static, text
from widgets.web.controls import ARRANGED
from widgets.web.form import CONTROLS
from widgets.web.form_values import values
from widgets.web.handlers import BUTTONS, Handlers
from widgets.web.limits import Limits
from widgets.web.page import build
from widgets.web.sessions import Sessions
from widgets.web.text import en, zh


def tab(key: str) -> Any:
    return SimpleNamespace(session_hash=key)


def frames(stream: Iterator[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [json.loads(parts[0]) for parts in stream]


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


def test_a_run_is_shown_as_soon_as_there_is_something_to_show() -> None:
    """What was there before stays until then: empty charts between two runs would flicker."""
    states = [factory.folded(factory.events(steps=5)), RunState()]
    sessions = Sessions(lambda experiment: FakeRun(experiment, states.pop(0)))
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    first = do.start(tab("a"), *VALUES.values())
    losses = [json.loads(next(first)[0])["kpis"]["loss"][0], json.loads(next(first)[0])["kpis"]["loss"][0]]
    second = do.start(tab("a"), *VALUES.values())
    before = json.loads(next(second)[0])
    assert (before["status"]["text"], before["kpis"]["loss"][0]) == (text.STARTING, losses[1])
    run = sessions.get("a").run
    threading.Timer(0.05, run.tell, [factory.events(steps=1)]).start()
    shown = json.loads(next(second)[0])
    assert (shown["run"], shown["kpis"]["loss"][1]) == (run.id, text.OF_STEP.format(step=1))
    assert all(figure["data"] for figure in shown["figures"].values())
    sessions.close()


def test_a_bad_value_is_a_sentence_and_the_run_goes_on(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    (frame,) = frames(do.start(tab("a"), *{**VALUES, "batch_size": 63, "microbatches": 4}.values()))
    assert frame["alert"]["items"] == ["Microbatches: 4 does not divide batch size 63; the nearest that does is 3"]
    assert not sessions.get("a").run.done
    assert json.loads(next(stream)[0])["alert"] == frame["alert"]
    good = frames(do.start(tab("a"), *VALUES.values()))
    assert good[-1]["alert"] is None


def test_problems_name_the_controls_and_what_is_empty(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    empty = {"batch_size": None, "lr": None, "length": None, "seed": -1, "virtual": 0}
    (frame,) = frames(do.start(tab("a"), *{**VALUES, **empty}.values()))
    items = frame["alert"]["items"]
    assert "Batch size: is empty; give a whole number from 1 to 65536" in items
    assert "Learning rate: is empty; give a number above 0 and at most 1000" in items
    assert "Train for: is empty; give a whole number of steps or epochs" in items
    assert any(item.startswith("Seed: -1 is not allowed") for item in items)
    assert "Devices: none; choose at least one virtual GPU or real device" in items


def test_a_second_start_replaces_the_first(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    first = sessions.get("a").run
    frames(do.start(tab("a"), *VALUES.values()))
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
    assert shown[-1]["alert"]["items"] == ["Run: no process can be started"]


def test_choosing_theme_and_step(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    frames(do.open("light", tab("a")))

    def chosen(data: Any) -> dict[str, Any]:
        return json.loads(do.choose(gr.EventData(None, data), tab("a")))

    assert chosen({"step": 2})["figures"]["timeline"]["title"].startswith("step 2")
    assert chosen({"theme": "dark"})["theme"] == "dark"
    assert chosen({"theme": "<script>", "step": "x"})["theme"] == "dark"
    assert chosen(None)["figures"]["timeline"]["title"].startswith("step 4")


def arranged(sessions: Sessions, **changes: Any) -> dict[str, Any]:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    return dict(zip(ARRANGED, do.arrange(tab("a"), *dataclasses.astuple(form(**changes))), strict=True))


def seen(shown: dict[str, Any]) -> set[str]:
    """Which controls are to be seen."""
    return {name for name, update in shown.items() if getattr(update, "visible", False) is True}


def test_arranging_follows_net_and_devices(sessions: Sessions) -> None:
    shown = arranged(sessions, net="resnet18", virtual=3, real=["cpu"], panel={"chosen": "auto"})
    board = shown["panel"].value
    assert [lane["name"] for lane in board["devices"]] == ["vgpu:0", "vgpu:1", "vgpu:2", "cpu"]
    assert "layer1.0" in [layer["path"] for layer in board["layers"]]
    assert (board["chosen"], board["can_add"], board["removable"]) == ("auto", True, "vgpu:2")
    assert seen(shown) == {"panel", "several", "microbatches", "note", "hardware_card"}
    assert [arranged(sessions, net=net)["data"] for net in ("resnet18", "gpt", "nett")] == ["mnist", "sums", "mnist"]
    assert seen(arranged(sessions, strategy="single")) == {"device"}
    assert seen(arranged(sessions, strategy="single", device="vgpu:1")) == {"device", "hardware_card"}
    copies = arranged(sessions, strategy="data_parallel", net="resnet18")
    assert seen(copies) == {"panel", "several", "note", "hardware_card"}
    assert [lane["samples"] for lane in copies["panel"].value["copies"]] == [32, 32]


def test_arranging_follows_ranks(sessions: Sessions) -> None:
    shown = arranged(sessions, strategy="ddp", net="resnet18")
    assert seen(shown) == {"panel", "of_ranks", "microbatches", "note", "trouble_card"}
    assert [lane["name"] for lane in shown["panel"].value["copies"]] == ["Rank 0 · cpu", "Rank 1 · cpu"]
    split = arranged(sessions, strategy="ddp", each="split")
    assert "hardware_card" in seen(split)
    board = split["panel"].value
    assert (board["copies"], board["fixed"], board["chosen"]) == (None, False, factory.PLACEMENT)
    whole = Sessions(FakeRun, limits=Limits(faults=False))
    assert "trouble_card" not in seen(arranged(whole, strategy="ddp"))


def test_the_note_says_how_times_come_about(sessions: Sessions) -> None:
    assert arranged(sessions)["timing_note"] == text.MEASURED
    assert arranged(sessions, hardware="t4")["timing_note"] == text.MODELLED
    for nonsense in ("a1000", None, ["t4"]):
        assert arranged(sessions, hardware=nonsense)["timing_note"] == gr.skip()


@pytest.mark.parametrize(
    "changes", [{"batch_size": None}, {"batch_size": -3}, {"lr": None, "seed": -1}, {"microbatches": 7}, {"panel": 3}]
)
def test_the_board_is_there_whatever_else_is_wrong(sessions: Sessions, changes: dict[str, Any]) -> None:
    board = Handlers(DEFAULT, sessions).arrange(tab("a"), *dataclasses.astuple(form(**changes)))[0]
    assert [layer["path"] for layer in board.value["layers"]] == list(factory.PLACEMENT)


@pytest.mark.parametrize(
    "changes", [{"net": "nett"}, {"net": []}, {"virtual": "two"}, {"virtual": 0}, {"strategy": {}}]
)
def test_there_is_no_board_of_nothing(sessions: Sessions, changes: dict[str, Any]) -> None:
    assert Handlers(DEFAULT, sessions).arrange(tab("a"), *dataclasses.astuple(form(**changes)))[0].visible is False


def test_the_board_adds_and_removes_virtual_gpus(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions)

    def resized(data: Any, **changes: Any) -> tuple[Any, Any]:
        return do.resize(gr.EventData(None, data), *dataclasses.astuple(form(**changes)))

    nothing = (gr.skip(), gr.skip())
    assert [resized({"by": by})[0] for by in (1, -1)] == [3, 1]
    split = {"strategy": "ddp", "each": "split"}
    assert [resized({"by": by}, **split, per_rank=3)[1] for by in (1, -1)] == [4, 2]
    for data, changes in (
        ({"by": 100}, {}),
        (None, {}),
        ({"by": 1}, {"virtual": "2"}),
        ({"by": 1}, {"virtual": 8}),
        ({"by": 1}, {**split, "per_rank": 4}),
        ({"by": -1}, {**split, "per_rank": 2}),
        ({"by": 1}, {**split, "per_rank": None}),
    ):
        assert resized(data, **changes) == nothing


def test_a_preset_fills_in_all_controls_and_runs(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    shown = list(do.preset(gr.EventData(None, {"preset": "straggler"}), tab("a")))
    wanted = presets.all_presets()["straggler"].experiment
    assert sessions.get("a").run.experiment == wanted
    controls = dict(zip(CONTROLS, shown[0][5:], strict=True))
    assert (controls["strategy"], controls["ranks"], controls["trouble_rank"], controls["planned"]) == (
        "ddp",
        4,
        2,
        True,
    )
    assert shown[1][5:] == tuple(gr.skip() for _ in CONTROLS)
    assert json.loads(shown[-1][0])["preset"] == "straggler"
    again = json.loads(list(do.start(tab("a"), *values(wanted)))[-1][0])
    assert sessions.get("a").run.experiment == wanted
    assert again["preset"] == "straggler"
    other = list(do.start(tab("a"), *values(wanted.replace(seed=3))))
    assert json.loads(other[-1][0])["preset"] is None


@pytest.mark.parametrize("data", [None, {}, {"preset": None}, {"preset": "none"}, {"preset": ["naive"]}])
def test_what_is_no_preset_changes_nothing(sessions: Sessions, data: Any) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    ((_, *updates),) = do.preset(gr.EventData(None, data), tab("a"))
    assert updates == [gr.skip()] * len(updates)
    assert sessions.get("a").run is None


def test_reset_goes_back_to_what_the_page_opens_on(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    frames(do.open("light", tab("a"), "strategy=single&seed=9&optimizer=adam"))
    shown = list(do.reset(tab("a")))
    assert sessions.get("a").run.experiment == DEFAULT
    assert dict(zip(CONTROLS, shown[0][5:], strict=True))["seed"] == 0


def test_a_link_without_a_name_is_a_choice_of_its_own(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    query = "strategy=model_parallel&link.bandwidth_gb_per_s=0.5&link.latency_us=3"
    shown = list(do.open("light", tab("a"), query))
    link = dict(zip(CONTROLS, shown[0][5:], strict=True))["link"]
    assert (link.value, link.choices[-1]) == ("given", ("As opened: 0.5 GB/s, 3 µs", "given"))


def test_slow_motion_lasts_from_run_to_run() -> None:
    do = Handlers(DEFAULT, Sessions(FakeRun), patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    first = do.sessions.get("a").run
    do.speed("slower", tab("a"))
    assert first.pauses_s == [1.0]
    for nonsense in ("fast", None, 0.2, ["slow"]):
        do.speed(nonsense, tab("a"))
    following = do.start(tab("a"), *VALUES.values())
    next(following), next(following)
    second = do.sessions.get("a").run
    deadline = time.monotonic() + 10
    while not second.pauses_s and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (first.pauses_s, second.pauses_s) == ([1.0], [1.0])
    do.speed("full", tab("a"))
    assert second.pauses_s == [1.0, 0.0]
    do.sessions.close()


def test_trouble_goes_into_the_run_of_this_tab(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, Sessions(FakeRun), patience_seconds=0)
    values = dataclasses.astuple(form(strategy="ddp", trouble="hang", trouble_rank=0))
    assert "there is no run to break" in json.loads(do.inject(tab("a"), *values))["alert"]["items"][0]
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    assert json.loads(do.inject(tab("a"), *values))["alert"] is None
    assert do.sessions.get("a").run.injected == ["hang:0"]
    odd = dataclasses.astuple(form(trouble="hang:0:0", trouble_rank=0))
    assert "reload the page" in json.loads(do.inject(tab("a"), *odd))["alert"]["items"][0]
    do.sessions.limits = Limits(faults=False)
    assert "does not break runs" in json.loads(do.inject(tab("a"), *values))["alert"]["items"][0]
    assert do.sessions.get("a").run.injected == ["hang:0"]
    do.sessions.close()


def test_every_default_can_be_built(sessions: Sessions) -> None:
    copies = Experiment(strategy="data_parallel")
    automatic = Experiment(net="gpt", strategy="model_parallel", placement="auto")
    ranks = Experiment(strategy="ddp", world_size=4)
    both = Experiment(strategy="ddp", world_size=2, devices="vgpu:0,vgpu:1,vgpu:2,vgpu:3", microbatches=2)
    for default in (DEFAULT, Experiment(), copies, automatic, ranks, both):
        page = build(default, sessions)
        assert page.analytics_enabled is False


def test_the_page_names_no_other_host() -> None:
    for name in (
        "head.html",
        "head.js",
        "early.js",
        "words.js",
        "bench.html",
        "bench.js",
        "panel.html",
        "panel.js",
        "presets.html",
        "presets.js",
        "page.css",
        "bench.css",
    ):
        content = static.read(name)
        assert "http" not in content


def test_every_variable_of_the_stylesheets_is_defined() -> None:
    import re

    css = static.css() + static.head()
    used = set(re.findall(r"var\((--lab-[\w-]+)\)", css))
    defined = set(re.findall(r"(--lab-[\w-]+):", css)) | {
        f"--lab-{name}" for name in ("device", "nth", "lines", "thick")
    }
    assert used <= defined


def test_pause_resume_and_step_reach_this_tabs_run_and_the_buttons_follow(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, Sessions(FakeRun), patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream)
    running = next(stream)
    assert (running[3].value, running[3].interactive, running[4].interactive) == (text.PAUSE, True, True)
    assert json.loads(do.pause(tab("a")))["status"]["state"] == "paused"
    paused = next(stream)
    assert (paused[3].value, paused[3].interactive) == (text.RESUME, True)
    do.step(tab("a"))
    run = do.sessions.get("a").run
    assert run.steps == 1
    do.sessions.get("a").step = 3
    do.pause(tab("a"))
    assert run.state.status == "running"
    assert do.sessions.get("a").step is None  # the timeline follows the run again
    run.end()
    do.pause(tab("a")), do.step(tab("a"))
    assert run.steps == 1
    *_, last = stream
    assert [button.interactive for button in last[3:5]] == [False, False]
    do.pause(tab("nobody")), do.step(tab("nobody"))


def test_a_run_that_ends_while_it_is_paused_is_no_error() -> None:
    class JustEnded(FakeRun):
        def pause(self) -> None:
            raise RunError("run is over")

    do = Handlers(DEFAULT, Sessions(JustEnded), patience_seconds=0)
    stream = do.open("light", tab("a"))
    next(stream), next(stream)
    assert json.loads(do.pause(tab("a")))["status"]["state"] == "running"
    do.sessions.close()


def test_each_tab_speaks_its_own_language(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    chinese = do.open("light", tab("a"), "", "zh")
    first = next(chinese)
    assert json.loads(first[0])["status"]["text"] == zh.STARTING
    assert json.loads(first[0])["lesson"] == zh.LESSONS["model_parallel"]
    assert first[1].value == zh.RESTART
    english = next(do.open("light", tab("b"), "", "en"))
    assert json.loads(english[0])["status"]["text"] == en.STARTING
    assert json.loads(next(chinese)[0])["kpis"]["crossing"][1] == zh.PER_STEP
    assert json.loads(do.stop(tab("a"))[0])["status"]["text"] == zh.STOPPED.format(step=5, total=938)
    chinese.close()


def test_a_tab_that_changes_its_language(sessions: Sessions) -> None:
    """Everything that is on the page comes again: the frame, the buttons, the board, and the words of the controls."""
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    stream = do.open("light", tab("a"), "", "en")
    next(stream), next(stream)
    values = {**VALUES, "strategy": "ddp", "net": "net"}
    frame, start, pause, board, *words = do.speak("zh", tab("a"), *values.values())
    assert json.loads(frame)["lesson"] == zh.LESSONS["model_parallel"]
    assert (start.value, pause.value) == (zh.RESTART, zh.PAUSE)
    assert "副本" in board.value["copies"][0]["note"]
    said = dict(zip(controls.words(), words, strict=True))
    assert said["net"]["label"] == zh.NET
    assert said["trouble"]["choices"][0] == (zh.TROUBLES["straggle"], "straggle")
    assert json.loads(next(stream)[0])["kpis"]["crossing"][1] == zh.PER_STEP
    assert json.loads(do.speak("en", tab("a"), *VALUES.values())[0])["lesson"] == en.LESSONS["model_parallel"]
    stream.close()


def test_the_page_is_built_in_english_and_greets_the_others(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    assert do.greet("en", tab("a")) == [gr.skip()] * len(controls.words())
    said = dict(zip(controls.words(), do.greet("zh", tab("a")), strict=True))
    assert said["seed"]["label"] == zh.SEED
    assert do.greet({"a": 1}, tab("b")) == [gr.skip()] * len(controls.words())


def test_a_link_that_breaks_its_run_waits_for_start(sessions: Sessions) -> None:
    do = Handlers(DEFAULT, sessions, patience_seconds=0)
    broken = DEFAULT.replace(strategy="ddp", world_size=2, placement=None, devices=["cpu"], faults=["kill:1:5"])
    ((frame, *updates),) = do.open("light", tab("a"), f"?{broken.to_query()}", "en")
    seen = json.loads(frame)
    assert sessions.get("a").run is None
    assert sessions.leases.count() == (0, 0)
    assert seen["status"]["state"] == "ready"
    assert seen["query"] == broken.to_query()
    assert "breaks its run on purpose" in seen["alert"]["title"]
    controls = dict(zip(CONTROLS, updates[len(BUTTONS) :], strict=True))
    assert (controls["trouble"], controls["trouble_rank"], controls["planned"]) == ("kill", 1, True)
    list(do.start(tab("a"), *values(broken)))
    assert sessions.get("a").run.experiment == broken
    assert sessions.get("a").problems == ()
