"""Profiles of the reader's own: what a file may leave out, and the sentence for what is wrong in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import lab
from lab.errors import DeviceError
from lab.events import RunStarted, Span
from lab.vgpu import profiles

WHOLE = """
memory_gb = 8
memory_gb_per_s = 100
launch_us = 2
issue_us = 0
link_gb_per_s = 10
host_link_gb_per_s = 12.5
link_latency_us = 3
peak_tflops = { float32 = 1.5 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_a_whole_profile(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    mine = profiles.find(str(file))
    assert (mine.name, mine.title, mine.timing, mine.fictional) == ("mine", "mine", "modelled", False)
    assert (mine.memory_gb, mine.capacity_bytes, mine.issue_us, mine.peak_tflops) == (8, 8 * 10**9, 0, {"float32": 1.5})


def test_what_is_left_out_is_the_bases(file: Path) -> None:
    file.write_text('base = "a100"\nmemory_gb = 40\npeak_tflops = { bfloat16 = 250 }\n', encoding="utf-8")
    a100 = profiles.get("a100")
    expected = dataclasses.replace(
        a100,
        name="mine",
        memory_gb=40,
        peak_tflops={**a100.peak_tflops, "bfloat16": 250},
        source="mine.toml, after a100",
    )
    assert profiles.find(file) == expected
    assert profiles.get("a100").peak_tflops["bfloat16"] == 312  # untouched


def test_what_is_saved_is_read_again(file: Path) -> None:
    profiles.save(profiles.get("h100"), file)
    assert profiles.find(file) == dataclasses.replace(profiles.get("h100"), name="mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHOLE.replace("memory_gb_per_s = 100", ""), 'memory_gb_per_s is missing; give it, or base = "a100"'),
        (WHOLE.replace("float32 = 1.5", "float64 = 1.5"), "peak_tflops.float32 is missing"),
        (
            WHOLE.replace("peak_tflops", "peak_tflop"),
            "'peak_tflop' is not a field of a profile (did you mean 'peak_tflops'?)",
        ),
        (WHOLE + "memory_gbps = 3", "'memory_gbps' is not a field of a profile (did you mean 'memory_gb'?)"),
        (WHOLE + 'name = "x"', "'name' is not a field of a profile"),
        (WHOLE.replace("float32 = 1.5", "float32 = -1.5"), "peak_tflops.float32 is -1.5, but must be above 0"),
        (WHOLE.replace("float32 = 1.5", "float23 = 1.5"), "peak_tflops.float23: there is no such dtype"),
        (WHOLE.replace("{ float32 = 1.5 }", "1.5"), "peak_tflops is 1.5; give a rate for each dtype"),
        (WHOLE.replace("= 100", "= -100"), "memory_gb_per_s is -100, but must be above 0"),
        (WHOLE.replace("= 100", "= 0"), "memory_gb_per_s is 0, but must be above 0"),
        (WHOLE.replace("= 100", '= "fast"'), "memory_gb_per_s is 'fast'; give a number above 0"),
        (WHOLE.replace("= 100", "= nan"), "memory_gb_per_s is nan; give a number above 0"),
        (WHOLE.replace("= 100", "= inf"), "memory_gb_per_s is inf; give a number"),
        (WHOLE.replace("= 100", "= true"), "memory_gb_per_s is True; give a number"),
        (WHOLE.replace("= 100", "= 1e12"), "memory_gb_per_s is 1e+12, which no hardware reaches; look at its unit"),
        (WHOLE.replace("launch_us = 2", "launch_us = -1"), "launch_us is -1, but must be 0 or more"),
        (WHOLE + "title = 3", "title is 3; give text"),
        (WHOLE + "fictional = 1", "fictional is 1; give true or false"),
        (WHOLE + 'timing = "modeled"', 'timing is \'modeled\'; give "measured" or "modelled"'),
        ('base = "a10"', "base 'a10' is not one of classroom, t4"),
        ("base = 3", "base 3 is not one of"),
        ("memory_gb = = 3", "cannot be read as TOML"),
        (None, "cannot read the profile: No such file or directory"),
    ],
)
def test_a_bad_file_gets_one_sentence_with_its_name_and_the_field(file: Path, text: str | None, said: str) -> None:
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(DeviceError) as caught:
        profiles.find(file)
    assert str(caught.value).startswith("mine.toml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match=r"mine\.toml: cannot read the profile: it is not UTF-8 text"):
        profiles.find(file)


def test_a_run_uses_the_file_its_link_and_its_topology(
    file: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    file.write_text('base = "a100"\ntitle = "Mine"\nmemory_gb = 3\n', encoding="utf-8")
    monkeypatch.chdir(file.parent)
    fields = {
        "strategy": "model_parallel",
        "hardware": "mine.toml",
        "steps": 2,
        "placement": {"conv1": "vgpu:0", "*": "vgpu:1"},
    }
    sent = {}
    for name, more in {"profile": {}, "link": {"link": "ethernet_1g"}, "bus": {"topology": "bus"}}.items():
        with lab.start(lab.Experiment(**fields, **more)) as run:
            events = list(run)
        (started,) = (event for event in events if isinstance(event, RunStarted))
        assert [(device.title, device.memory_bytes) for device in started.devices] == [
            ("Mine, modelled", 3 * 10**9)
        ] * 2
        sent[name] = {
            (span.bytes, span.end_ns - span.start_ns)
            for span in events
            if isinstance(span, Span) and span.kind == "transfer" and span.peer == "vgpu:1" and span.device == "vgpu:0"
        }
    for name, latency_ns, gb_per_s in (("profile", 5_000, 300), ("link", 25_000, 0.125), ("bus", 5_000, 31.5)):
        assert sent[name]
        assert all(took == latency_ns + round(size / gb_per_s) for size, took in sent[name])
