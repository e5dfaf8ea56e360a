"""Files that people write: read as they are meant, or refused in a sentence."""

from __future__ import annotations

import codecs
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import readiness, reading
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment, read_file

HUGE = "1" + "0" * 5000


@pytest.mark.parametrize(
    "content",
    [
        b"steps = 2",
        codecs.BOM_UTF8 + b"steps = 2",
        codecs.BOM_UTF16_LE + "steps = 2".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "steps = 2".encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_text(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_bytes(content)
    assert read_file(file) == {"steps": 2}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"\x80\x81", "not UTF-8 text"),
        (b"#" * (reading.MOST_BYTES + 1), "longer than 4,000,000 bytes"),
        (b"steps = " + HUGE.encode(), "a number of more than 4,300 digits"),
        (b"steps = " + b"[" * 2000 + b"]" * 2000, "nested too deeply"),
        (b"steps = 1\nsteps = 2", "Cannot overwrite a value"),
    ],
)
def test_a_file_that_says_nothing_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_bytes(content)
    with pytest.raises(ExperimentError, match=reason):
        read_file(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"steps": ' + HUGE + "}", "a number of more than 4,300 digits"),
        ('{"a":' * 2000 + "1" + "}" * 2000, "nested too deeply"),
        ('{"steps": 1, "steps": 2}', "'steps' is there twice"),
        ('{"steps": NaN}', "nan is not allowed"),
        ("[1]", "must be an object"),
    ],
)
def test_json_that_says_nothing(text: str, reason: str) -> None:
    with pytest.raises(ExperimentError, match=reason):
        Experiment.from_json(text)


def test_a_folder_and_a_pipe_that_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIPE_SECONDS", 0.1)
    with pytest.raises(ExperimentError, match="Is a directory"):
        read_file(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ExperimentError, match=r"a pipe to which nobody has written anything for 0\.1 s"):
        read_file(pipe)


def test_a_pipe_with_a_slow_writer_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w", encoding="utf-8") as file:
            for part in ("ste", "ps =", " 3"):
                time.sleep(0.05)
                file.write(part)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert read_file(pipe) == {"steps": 3}
    writer.join()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Experiment(steps=10**5000),
        lambda: Experiment(strategy="ddp", world_size=10**5000),
        lambda: Experiment(strategy="ddp", world_size=HUGE),
        lambda: Experiment(strategy="ddp", faults=[{"kind": "kill", "rank": 10**5000}]),
        lambda: Experiment(strategy="ddp", faults=[f"kill:{HUGE}:1"]),
        lambda: Experiment(topology=f"nodes:{HUGE}"),
        lambda: Experiment(devices=f"vgpu:{HUGE}"),
        lambda: Experiment(devices=f"cuda:{HUGE}"),
        lambda: Experiment.from_query(f"version={HUGE}"),
        lambda: readiness.check({"hardware": "a" * 100_000 + ".toml"}),
    ],
)
def test_numbers_of_thousands_of_digits_are_refused_in_a_line(make: Callable[[], Experiment]) -> None:
    with pytest.raises(ExperimentError) as refused:
        make()
    assert len(str(refused.value)) < 2_500


def test_twenty_thousand_wrong_patterns_are_counted_and_not_listed() -> None:
    wrong = {f"layer{index}": "vgpu:0" for index in range(20_000)}
    with pytest.raises(ExperimentError) as refused:
        readiness.check({"strategy": "model_parallel", "placement": wrong})
    lines = str(refused.value).splitlines()
    assert len(refused.value.problems) == 20_001  # and that the four layers have no device
    assert (lines[0], len(lines), lines[-1]) == ("20,001 problems:", 22, "  ... and 19,981 more")


def test_twenty_problems_are_all_told() -> None:
    assert "more" not in str(ExperimentError([Problem("net", str(index)) for index in range(20)]))
