"""Measures this machine's CPU or a real GPU, and makes a profile of it: what a modelled run can be held against.

    vgpu.calibrate("cpu", "mine.toml")
    vgpu.enable(hardware="mine.toml", timing="modelled")

The CPU is measured on one thread, as virtual GPUs compute, by the time for which that thread computes. Measured are:

- peak_tflops: square matrix products in each dtype; the best size's median.
- memory_gb_per_s: the sum of two large tensors, which reads two and writes one.
- launch_us: tiny operations in a row. On a GPU they are replayed from a graph, so that the host has no part in it; on
  the CPU this is all that an operation costs besides its work.
- issue_us: what the host spends on issuing an operation; on the CPU, on one that computes nothing (a view).
- host_link_gb_per_s, link_latency_us: copies from the host, large and tiny; from pinned memory to a GPU.
- link_gb_per_s: copies to the next GPU; where there is none, the figure of the host's link.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
import torch

from lab.errors import DeviceError
from lab.vgpu import profiles
from lab.vgpu.profiles import DTYPES, Profile

REPEATS = 5
LONGEST_NS = 300_000_000
"""A size of matrix is left out when one product of it would take longer."""
TINY_OPERATIONS = 200


class _Bench(Protocol):
    """How one kind of device is measured; times are in nanoseconds."""

    device: torch.device
    sizes: tuple[int, ...]
    """Of the square matrices."""
    large: int
    """Elements of the large tensors, float32: far more than any cache holds."""

    def title(self) -> str: ...

    def memory_bytes(self) -> int: ...

    def generation(self) -> tuple[tuple[int, int], int]:
        """The compute capability, and how many multiprocessors."""

    def median_ns(self, work: Callable[[], object]) -> float:
        """How long the device takes for it."""

    def launch_ns(self) -> float: ...

    def issue_ns(self) -> float: ...

    def host_copy_ns(self, elements: int) -> float:
        """Of float32 from the host to the device."""

    def peer_copy_ns(self, elements: int) -> float | None:
        """The same from this device to another of its kind; None when there is none."""


def calibrate(device: str | torch.device = "cpu", path: str | Path | None = None) -> Profile:
    """Measures a device in a few seconds. Other work on it meanwhile makes it look slower.

    Args:
        device: `cpu`, for one thread of it, or a GPU such as `cuda:0`.
        path: a `.toml` file to write the profile to, for `lab.vgpu.enable(hardware=path)`.

    Raises:
        DeviceError: when the device cannot be measured or the file not be written.
    """
    target = None if path is None else _writable(path)
    with _bench(device) as bench:
        profile = _measured(bench, "calibrated" if target is None else target.stem)
    if target is not None:
        profiles.save(profile, target)
    return profile


def _writable(path: str | Path) -> Path:
    target = Path(path).expanduser()
    if not profiles.is_path(target.name):
        raise DeviceError(f"{target.name!r} does not end in .toml, by which the lab knows a profile's file")
    if not target.parent.is_dir():
        raise DeviceError(f"there is no folder {str(target.parent)!r} to write {target.name} to")
    return target


@contextmanager
def _bench(device: str | torch.device) -> Iterator[_Bench]:
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(f"{device!r} is not a device; give cpu or cuda:0") from None
    if where.type == "cuda":
        if (where.index or 0) >= torch.cuda.device_count():
            raise DeviceError(
                f"{str(where)!r} is not on this machine; give cpu, or a GPU that parallel-lab devices lists"
            )
        yield _GPU(torch.device("cuda", where.index or 0))
        return
    if where.type != "cpu":
        raise DeviceError(f"{str(where)!r} cannot be measured; give cpu or a real GPU, such as cuda:0")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _OneThread()
    finally:
        torch.set_num_threads(threads)


def _measured(bench: _Bench, name: str) -> Profile:
    with torch.no_grad():
        a, b, c = (torch.ones(bench.large, device=bench.device) for _ in range(3))
        add_ns = bench.median_ns(lambda: torch.add(a, b, out=c))
        peaks = {dtype: _peak_tflops(bench, getattr(torch, dtype)) for dtype in DTYPES}
    launch_ns, issue_ns = bench.launch_ns(), bench.issue_ns()
    latency_ns = bench.host_copy_ns(1)
    host_gb_per_s = _gb_per_s(bench.host_copy_ns, bench.large, latency_ns)
    peers = bench.peer_copy_ns(bench.large)
    link_gb_per_s = host_gb_per_s if peers is None else bench.large * 4 / max(1.0, peers - latency_ns)
    capability, multiprocessors = bench.generation()
    return Profile(
        name=name,
        title=bench.title(),
        fictional=False,
        timing="modelled",
        speed=1.0,
        peak_tflops={dtype: _rounded(peak) for dtype, peak in peaks.items()},
        memory_gb=_rounded(bench.memory_bytes() / 1e9),
        memory_gb_per_s=_rounded(3 * 4 * bench.large / add_ns),
        launch_us=_rounded(launch_ns / 1e3),
        issue_us=_rounded(issue_ns / 1e3),
        link_gb_per_s=_rounded(link_gb_per_s),
        host_link_gb_per_s=_rounded(host_gb_per_s),
        link_latency_us=_rounded(latency_ns / 1e3),
        source=f"Measured on {datetime.date.today().isoformat()} with torch {torch.__version__}.",
        compute_capability=capability,
        multiprocessors=multiprocessors,
    )


def _peak_tflops(bench: _Bench, dtype: torch.dtype) -> float:
    best = 0.0
    for size in bench.sizes:
        a, b, c = (torch.ones(size, size, device=bench.device, dtype=dtype) for _ in range(3))

        def product(a: torch.Tensor = a, b: torch.Tensor = b, c: torch.Tensor = c) -> None:
            torch.mm(a, b, out=c)

        flops = 2 * size**3
        if best and flops / best > LONGEST_NS:
            break
        best = max(best, flops / bench.median_ns(product))
    return best / 1e3


def _gb_per_s(copy_ns: Callable[[int], float], elements: int, latency_ns: float) -> float:
    return elements * 4 / max(1.0, copy_ns(elements) - latency_ns)


def _rounded(figure: float) -> float:
    """To four digits: more would pretend to a precision that no measurement of this kind has."""
    return float(f"{figure:.4g}")


def _median_ns(work: Callable[[], object], clock_ns: Callable[[], int]) -> float:
    """Of a few turns after one to warm up. What is too short for the clock is repeated within a turn."""
    work()
    began = clock_ns()
    work()
    times = max(1, 1_000_000 // max(1, clock_ns() - began))
    turns = []
    for _ in range(REPEATS):
        began = clock_ns()
        for _ in range(times):
            work()
        turns.append((clock_ns() - began) / times)
    return statistics.median(turns)


class _OneThread:
    """The CPU, with torch on one thread."""

    device = torch.device("cpu")
    sizes: tuple[int, ...] = (128, 256, 512, 1024)
    large = 16_000_000

    def title(self) -> str:
        from lab import devices

        return f"{devices.available()[0].title}, one thread, calibrated"

    def memory_bytes(self) -> int:
        return int(psutil.virtual_memory().total)

    def generation(self) -> tuple[tuple[int, int], int]:
        return (8, 0), 1

    def median_ns(self, work: Callable[[], object]) -> float:
        # Time in which other programs have the core does not count.
        return _median_ns(work, time.thread_time_ns)

    def launch_ns(self) -> float:
        """Forward and backward, as in training, of multiplications of one number."""
        start = torch.ones(1, requires_grad=True)

        def chain() -> None:
            x = start
            for _ in range(TINY_OPERATIONS):
                x = x * 0.5
            x.backward()
            start.grad = None

        with torch.autograd.set_multithreading_enabled(False):  # else another thread would compute the backward
            return self.median_ns(chain) / (2 * TINY_OPERATIONS)

    def issue_ns(self) -> float:
        x = torch.ones(1)
        return self.median_ns(lambda: x.view(1))

    def host_copy_ns(self, elements: int) -> float:
        source, target = torch.ones(elements), torch.ones(elements)
        return self.median_ns(lambda: target.copy_(source))

    def peer_copy_ns(self, elements: int) -> float | None:
        return None


class _GPU:
    """A real GPU, timed by CUDA events."""

    sizes: tuple[int, ...] = (1024, 2048, 4096, 8192)
    large = 64_000_000

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def title(self) -> str:
        return f"{torch.cuda.get_device_name(self.device)}, calibrated"

    def memory_bytes(self) -> int:
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def generation(self) -> tuple[tuple[int, int], int]:
        about = torch.cuda.get_device_properties(self.device)
        return (about.major, about.minor), about.multi_processor_count

    def median_ns(self, work: Callable[[], object]) -> float:
        with torch.cuda.device(self.device):
            work()
            turns = []
            for _ in range(REPEATS):
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                began.record()
                work()
                ended.record()
                torch.cuda.synchronize()
                turns.append(float(began.elapsed_time(ended)) * 1e6)
        return statistics.median(turns)

    def launch_ns(self) -> float:
        with torch.cuda.device(self.device):
            x = torch.ones(1, device=self.device)
            x.mul_(1.0)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(TINY_OPERATIONS):
                    x.mul_(1.0)
        return self.median_ns(graph.replay) / TINY_OPERATIONS

    def issue_ns(self) -> float:
        """Forward and backward, as in training; few enough that the GPU's queue never makes the host wait."""
        start = torch.ones(1, device=self.device, requires_grad=True)
        turns = []
        for _ in range(REPEATS + 1):
            torch.cuda.synchronize(self.device)
            began = time.perf_counter_ns()
            x = start
            for _ in range(TINY_OPERATIONS):
                x = x * 0.5
            x.backward()
            turns.append((time.perf_counter_ns() - began) / (2 * TINY_OPERATIONS))
        return statistics.median(turns[1:])

    def host_copy_ns(self, elements: int) -> float:
        source, target = torch.ones(elements).pin_memory(), torch.ones(elements, device=self.device)
        return self.median_ns(lambda: target.copy_(source, non_blocking=True))

    def peer_copy_ns(self, elements: int) -> float | None:
        if torch.cuda.device_count() < 2:
            return None
        index = ((self.device.index or 0) + 1) % torch.cuda.device_count()
        source, target = torch.ones(elements, device=self.device), torch.ones(elements, device=f"cuda:{index}")
        return self.median_ns(lambda: target.copy_(source, non_blocking=True))
