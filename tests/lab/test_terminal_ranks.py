"""Several ranks in a terminal: a line for each, the mean loss, what failed first, and who was waited for."""

from __future__ import annotations

import io
import re
from dataclasses import astuple

import pytest
from rich.console import Console
from typer.testing import CliRunner

import lab
from lab import breakdown, cli, stacks, terminal
from lab.events import Changed, GroupJoined, Paused, Resumed
from lab.experiment import Experiment
from lab.run import Result
from lab.state import RunState
from lab.terminal._wording import group_line
from tests.lab import rank_events as made
from tests.lab.test_scaling import run


def drawn(state: RunState, width: int = 80) -> str:
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        console.print(terminal.LiveView(state, console).draw())
    return captured.get()


class TestBreakdown:
    def test_by_hand(self) -> None:
        state = made.folded()
        wanted = {
            # data, computing alone, with communication beside it, exposed, transfer, awaited, idle; of 700 µs
            0: (50, 350, 150, 100, 0, 50, 0),
            1: (50, 500, 100, 50, 0, 0, 0),
        }
        for rank, parts in wanted.items():
            spent = breakdown.of_rank(state, rank)
            assert spent is not None
            assert astuple(spent) == pytest.approx([part / 700 for part in parts])
            assert spent.busy + spent.communicating + spent.waiting == pytest.approx(1)

    def test_the_late_rank_is_named_and_not_those_who_wait(self) -> None:
        late = breakdown.latest(made.folded())
        assert late is not None
        assert (late.rank, late.alone) == (1, True)
        assert late.share == pytest.approx(50 / 700)

    def test_nothing_is_known_before_the_first_step(self) -> None:
        state = made.folded(steps=0)
        assert breakdown.of_rank(state, 0) is breakdown.latest(state) is None


class TestLive:
    def test_a_line_for_each_rank(self) -> None:
        text = drawn(made.folded())
        rows = [line for line in text.splitlines() if "●" in line]
        assert len(rows) == 2
        # step, loss, samples/s, computes, hidden, communicates, waits
        assert re.search(r"● 0 +20 +1\.7100 +45,714 .* 79% +21% +14% +7%", rows[0])
        assert re.search(r"● 1 +20 +1\.9100 +45,714 .* 93% +14% +7% +0%", rows[1])
        for said in ("2 ranks over gloo, 1 thread each", "mean loss 1.8100", "wall clock", "ddp on cpu, 2 ranks"):
            assert said in text
        assert "Buckets from step 1 on: 0 with 66.2 kB (fc1), 1 with 21.1 kB (conv1)" in text
        assert "The other ranks waited 7% of their time for rank 1, which came last" in " ".join(text.split())
        assert all(len(line) <= 80 for line in text.splitlines())

    def test_before_the_first_step(self) -> None:
        assert "● 1" in drawn(made.folded(steps=0))

    def test_a_pause_is_told(self) -> None:
        state = made.folded(3, Paused(0, 3, "backward"))
        assert "Paused before backward of step 3" in drawn(state)
        state.apply(Resumed(3))
        assert "Paused" not in drawn(state)


def test_lines_wait_for_all_ranks_and_give_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    view = terminal.LineView(clock=lambda: 0.0)
    for event in [*made.events(1), Paused(0, 1, "data"), Resumed(1), Changed(2, {"lr": 0.1})]:
        view.see(event)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "2 ranks over gloo, 1 thread each",
        "Buckets from step 0 on: 0 with 87.4 kB (conv1, fc1)",
        "step 1/50  loss 2.0000  ranks 1.9000 2.1000",
        "paused before data of step 1",
        "resumed in step 1",
        "from step 2 on: lr 0.1",
    ]


class TestEnd:
    def test_the_summary_counts_all_ranks(self) -> None:
        console = Console(width=120, file=io.StringIO())
        with console.capture() as captured:
            console.print(terminal.summary(made.folded(20, made.finished())))
        text = " ".join(captured.get().split())
        for said in ("20 of 50", "91,429 samples per second, all ranks together", "87.4 kB per step, averaged", "● 1"):
            assert said in text

    def test_the_root_cause_comes_first_then_what_the_others_saw(self) -> None:
        text = terminal.failure_text(made.folded(5, *reversed(made.failures())))
        assert text.splitlines() == [
            "Failed: rank 1 has been in data of step 5 for 4 s",
            "Advice: Its stack shows where it is.",
            "",
            "What the other ranks saw:",
            "  rank 0 was stopped in all_reduce 8, because rank 1 had failed",
            "",
            "Where rank 1 was:",
            "The main thread, most recent call first:",
            "  _hang  (lab/workers/injector.py:140)",
            "  _engine_run_backward  (torch/autograd/graph.py:979)",
        ]

    def test_a_python_traceback_stays_as_it_is(self) -> None:
        trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: no\n'
        assert stacks.readable(trace) == trace.rstrip()


def test_scale_runs_every_world_size_and_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Ended:
        def __init__(self, experiment: Experiment) -> None:
            asked.append((experiment.world_size, experiment.steps, experiment.batch_size))
            assert experiment.world_size is not None
            self.state = run(experiment.world_size, 0.010 / experiment.world_size)

        def result(self) -> Result:
            return Result("finished", 7, 1.0, None, 0.5, {})

        def __enter__(self) -> Ended:
            return self

        def __exit__(self, *error: object) -> None:
            return None

    monkeypatch.setattr(lab, "start", Ended, raising=False)
    done = CliRunner().invoke(cli.app, ["scale", "--world-sizes", "1, 2", "--steps", "7"])
    assert asked == [(1, 7, 64), (2, 7, 64)]
    assert done.exit_code == 0
    assert re.search(r"2 +5 ms +12,800 +2\.00× +100%", done.stdout)
    asked.clear()
    refused = CliRunner().invoke(cli.app, ["scale", "--world-sizes", "1,3"])
    assert (refused.exit_code, asked) == (2, [])
    assert "64 is not a multiple of the 3 ranks" in refused.stderr


@pytest.mark.parametrize(
    ("ranks", "threads", "line"),
    [
        (1, 2, "1 rank over gloo, 2 threads"),
        (2, 1, "2 ranks over gloo, 1 thread each"),
    ],
)
def test_one_rank_is_no_ranks(ranks: int, threads: int, line: str) -> None:
    assert group_line(GroupJoined(ranks, "gloo", threads, ())) == line
