"""A class on the page: many visitors, of whom some run, and how long the others wait for an answer.

    python -m tests.benchmarks.web_load [--minutes 5] [--visitors 50] [--runners 10]

Visitors are tabs without a browser (`tests.widgets.visitor`): the runners start one run after another, as `parallel-lab
serve` does them, in real worker processes; the others change the theme every two seconds, and wait for the frame that
shows it. The server has a process of its own, whose memory is looked at once a second. Nothing is timed in the first
quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

from tests.benchmarks.common import print_table
from tests.widgets.visitor import LOAD, START, STOP, Visitor

UPDATE_SECONDS = 2.0
"""How often a visitor asks for something."""
MOST_UPDATE_SECONDS = 1.0
MOST_GROWTH_MB = 50.0
RUN_SECONDS = 20.0
"""After which a runner starts anew."""


@dataclass
class Seen:
    """What the visitors saw."""

    since: float
    """When the first quarter was over: until then, PyTorch and data are loaded, and nothing is timed."""
    updates: list[float] = field(default_factory=list)
    frames: int = 0
    runs: int = 0
    errors: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--runners", type=int, default=10)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, asked.runners))
    server.start()
    try:
        url = here.recv()
        seen, memory = asyncio.run(visit(url, server.pid or 0, asked))
        here.send("count")
        tabs, runs, waiting, threads = here.recv()
        left = workers(server.pid or 0)
    finally:
        here.send("end")
        server.join(30)
    report(asked, seen, memory, [tabs, runs, waiting, left], threads)


def serve(pipe: Connection, runs: int) -> None:
    """The server's process: says where it is, and what it holds when it is asked."""
    import threading

    from lab.experiment import Experiment
    from widgets.web.leases import Budget
    from widgets.web.limits import Limits
    from widgets.web.serve import Sharing, serving

    experiment = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"}, epochs=1)
    with serving(experiment, port=0, sharing=Sharing(Limits(), Budget(runs, runs))) as served:
        pipe.send(served.url)
        while pipe.recv() != "end":
            pipe.send((len(served.sessions), *served.sessions.leases.count(), threading.active_count()))


def workers(pid: int) -> int:
    """Training processes of the server: the children of its forkserver, which stays, as the resource tracker does."""
    server = psutil.Process(pid)
    return len(server.children(recursive=True)) - len(server.children())


async def visit(url: str, pid: int, asked: argparse.Namespace) -> tuple[Seen, list[float]]:
    """Opens the tabs, lets them live, and closes them; also the server's memory in MB, once a second."""
    seen = Seen(time.monotonic() + 15 * asked.minutes)
    until = time.monotonic() + 60 * asked.minutes
    memory: list[float] = []

    async def watch() -> None:
        await asyncio.sleep(seen.since - time.monotonic())
        while time.monotonic() < until:
            memory.append(psutil.Process(pid).memory_info().rss / 1e6)
            await asyncio.sleep(1)

    kinds = [runner if number < asked.runners else reader for number in range(asked.visitors)]
    visits = [asyncio.create_task(_visited(url, kind, until, seen, number)) for number, kind in enumerate(kinds)]
    await asyncio.gather(watch(), *visits)
    await asyncio.sleep(5)  # a closed tab's run ends within these
    return seen, memory


async def _visited(url: str, kind: Any, until: float, seen: Seen, number: int) -> None:
    await asyncio.sleep(0.1 * number)
    try:
        async with Visitor(url) as visitor:
            await kind(visitor, until, seen)
            seen.errors += visitor.errors
            seen.frames += visitor.frames
    except Exception as error:  # noqa: BLE001 - whatever goes wrong for a visitor is what is looked for
        seen.errors.append(f"{kind.__name__}: {error!r}")


async def runner(visitor: Visitor, until: float, seen: Seen) -> None:
    """Runs, and starts anew."""
    await visitor.send(LOAD)
    while time.monotonic() < until:
        await visitor.until(lambda frame: frame["status"]["text"].startswith("Step"), 120)
        seen.runs += 1
        await asyncio.sleep(min(RUN_SECONDS, max(0.0, until - time.monotonic())))
        await visitor.send(START)
    await visitor.send(STOP)


async def reader(visitor: Visitor, until: float, seen: Seen) -> None:
    """Looks at the page, and changes something now and then."""
    await visitor.send(STOP)
    await visitor.until(lambda frame: True)
    theme = "light"
    while time.monotonic() < until:
        theme = "dark" if theme == "light" else "light"
        began = time.monotonic()
        answer = await visitor.choose({"theme": theme})
        if answer.status_code != 200:
            seen.errors.append(f"{answer.status_code}: {answer.text}")
            return
        await visitor.until(lambda frame, theme=theme: frame["theme"] == theme, 30)
        if began > seen.since:
            seen.updates.append(time.monotonic() - began)
        await asyncio.sleep(UPDATE_SECONDS)


def report(asked: argparse.Namespace, seen: Seen, memory: list[float], left: list[int], threads: int) -> None:
    updates = statistics.quantiles(seen.updates, n=100)
    half = len(memory) // 2
    growth = statistics.median(memory[half:]) - statistics.median(memory[:half])
    rows = [
        ["errors", str(len(seen.errors)), "0"],
        ["runs that trained", str(seen.runs), ""],
        ["frames", f"{seen.frames:,}", ""],
        ["update of the others, median", f"{updates[49]:.3f} s", ""],
        ["update of the others, p95", f"{updates[94]:.3f} s", f"{MOST_UPDATE_SECONDS:.1f} s"],
        ["update of the others, p99", f"{updates[98]:.3f} s", ""],
        ["memory of the server, median", f"{statistics.median(memory):.0f} MB", ""],
        ["its growth, 2nd half over 1st", f"{growth:+.1f} MB", f"{MOST_GROWTH_MB:.0f} MB"],
        ["left: tabs, runs, in line, workers", ", ".join(map(str, left)), "0, 0, 0, 0"],
        ["threads of the server at the end", str(threads), ""],
    ]
    title = f"{asked.visitors} visitors, of whom {asked.runners} run, for {asked.minutes:g} minutes"
    print_table(title, ["what", "measured", "bar"], rows)
    for error in seen.errors[:10]:
        print(error)


if __name__ == "__main__":
    main()
