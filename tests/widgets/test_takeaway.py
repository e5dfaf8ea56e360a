"""Links and files: what was taken along opens the same, and nothing in an address does harm."""

from __future__ import annotations

import json
import random
import threading

import pytest

from lab.errors import ExperimentError
from lab.experiment import Experiment
from tests.widgets import events_factory as factory
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.queries import random_query
from widgets.web import takeaway
from widgets.web.form import CONTROLS, Form
from widgets.web.form_values import values
from widgets.web.frame import Painter
from widgets.web.limits import Limits
from widgets.web.session import Session

LIMITS = Limits()
EXPERIMENTS = [
    DEFAULT,
    Experiment(seed=7),
    Experiment(net="gpt", strategy="model_parallel", placement="auto", lr=0.5, optimizer="adam"),
    Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1", "cpu"], steps=10),
    Experiment(strategy="ddp", world_size=4, faults=["kill:1:5"], batch_size=128),
    Experiment(hardware="a100", link={"bandwidth_gb_per_s": 1.5, "latency_us": 20}, memory_mb=100, devices=["vgpu:0"]),
]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_link_opens_the_same_experiment(experiment: Experiment) -> None:
    link = takeaway.texts(experiment)["query"]
    assert takeaway.from_link(f"?{link}", LIMITS) == (experiment, [])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_controls_show_what_the_link_asks_for(experiment: Experiment) -> None:
    shown = dict(zip(CONTROLS, values(experiment), strict=True))
    assert Form(**shown).experiment(experiment) == experiment


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("strategy=nonsense", "strategy: 'nonsense' is not one of"),
        ("seed=-1", "seed: '-1' is not allowed"),
        ("devices=vgpu:9", "devices: vgpu:9 is not on this server, which has 8 virtual GPUs"),
        ("hardware=/etc/passwd", "hardware: "),
        ("hardware=../x.toml&devices=vgpu:0", "hardware: files are not read by the page"),
        ("net=own:x", "net: "),
        ("placement.a=b", "placement"),
        ("version=99", "version: 99 is not a format"),
        ("a=" + "x" * takeaway.MOST_QUERY, "link: is longer than 4000 characters"),
        ("nothing=1", "nothing: "),
    ],
)
def test_a_link_that_cannot_be_followed_is_a_sentence(query: str, problem: str) -> None:
    experiment, problems = takeaway.from_link(query, LIMITS)
    assert experiment is None
    assert str(problems[0]).startswith(problem)


def test_numbers_over_the_limits_are_brought_down() -> None:
    experiment, told = takeaway.from_link("?steps=500000&batch_size=10000&seed=3", LIMITS)
    assert experiment == Experiment(steps=100_000, batch_size=4096, seed=3)
    assert [str(problem) for problem in told] == [
        "steps: 500,000 is more than this server allows; 100,000 was taken instead",
        "batch_size: 10,000 is more than this server allows; 4,096 was taken instead",
    ]


def test_faults_can_be_closed() -> None:
    experiment = Experiment(strategy="ddp", world_size=2, faults=["kill:1:5"])
    assert LIMITS.problems(experiment) == []
    assert [each.field for each in Limits(faults=False).problems(experiment)] == ["faults"]


@pytest.mark.parametrize("query", ["", "?", "?__theme=dark", "&&", "?__sign=x&__theme=light", "?lang=zh&projector"])
def test_an_address_without_an_experiment_opens_the_default(query: str) -> None:
    assert takeaway.from_link(query, LIMITS) == (None, [])


def test_no_address_of_10_000_does_more_than_tell() -> None:
    chance = random.Random(20)
    followed = refused = 0
    for _ in range(10_000):
        query = random_query(chance)
        experiment, problems = takeaway.from_link(query, LIMITS)
        if experiment is not None:
            followed += 1
            assert LIMITS.problems(experiment) == [], query
            assert not experiment.hardware.endswith(".toml")
        elif problems:
            refused += 1
            for problem in problems:
                assert len(str(problem)) < 700, query
                assert "Traceback" not in str(problem)
                assert " object at 0x" not in str(problem)
    assert followed > 300
    assert refused > 3000


def test_the_file_of_a_run_is_bounded_json() -> None:
    state = factory.folded(factory.events(steps=5))
    kept = json.loads(takeaway.run_file("run", DEFAULT, state))
    assert Experiment.from_dict(kept["experiment"]) == DEFAULT
    assert kept["steps"] == 5
    assert set(kept["figures"]) >= {"loss", "timeline", "memory"}
    many = factory.folded(factory.events(steps=3000))
    assert len(takeaway.run_file("run", DEFAULT, many)) < 2_000_000


def test_a_frame_carries_the_link_and_the_toml() -> None:
    state = factory.folded(factory.events(steps=5))
    frame = json.loads(Painter("a", DEFAULT, state, threading.RLock()).paint(Session("a")))
    assert Experiment.from_query(frame["query"]) == DEFAULT
    assert Experiment.from_toml(frame["toml"]) == DEFAULT


def test_limits_refuse_what_a_form_cannot_say() -> None:
    with pytest.raises(ExperimentError):
        LIMITS.clamped(Experiment(devices=["vgpu:63"]))
