"""How many of PyTorch's operators a virtual GPU runs as the CPU does: every operator of PyTorch's own test database.

    python -m tests.benchmarks.opinfo [--only NAME] [--jobs N] [--samples N]

For each operator of `op_db` and a few of its float32 samples, the result on `vgpu:1` is compared with the CPU's, bit
for bit, forward and, where the operator supports it, backward. Only the operators whose CPU run passes count. An
operator may abort the process, so they run in forked children; what a child leaves undone goes to another.

Private PyTorch names used here: `torch.testing._internal.common_methods_invocations.op_db`. Tried on torch 2.13.0.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import time
import types
import unittest
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lab import vgpu

DEVICE = "vgpu:1"
SAMPLES = 5
PATIENCE_S = 120.0
UNINITIALISED = ("empty", "new_empty")
"""Names that start so give memory as it is: only what describes their result can be compared."""

OTHER_NUMBERS = "other numbers"
CPU_NUMBERS = ("tensor_split",)
"""Operators whose integer tensors have to lie on the CPU; PyTorch refuses them on CUDA as well."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one operator."""

    name: str
    state: str
    """`passes`, `fails`, or `not counted` when the CPU does not run it."""
    reason: str = ""


def operators() -> list[Any]:
    """PyTorch's operator database."""
    try:
        import expecttest  # noqa: F401
    except ImportError:
        # PyTorch's test helpers want it for a base class that is not used here.
        stand_in: Any = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        stand_in.assert_expected_inline = None
        sys.modules["expecttest"] = stand_in
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return list(op_db)


def full_name(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def check(op: Any, samples: int = SAMPLES) -> Outcome:
    """Runs an operator on the CPU and on a virtual GPU."""
    name = full_name(op)
    if torch.float32 not in op.supported_dtypes("cpu"):
        return Outcome(name, "not counted", "the CPU has no float32 for it")
    backward = op.supports_autograd and torch.float32 in op.supported_backward_dtypes("cpu")
    try:
        torch.manual_seed(0)
        inputs = list(op.sample_inputs("cpu", torch.float32, requires_grad=backward))[:samples]
        expected = [_run(op, sample, "cpu", backward) for sample in inputs]
        again = [_run(op, sample, "cpu", backward) for sample in inputs]
    except Exception as error:  # noqa: BLE001 - any error of an operator is its outcome
        return Outcome(name, "not counted", f"on the CPU: {_short(error)}")
    for number, sample in enumerate(inputs):
        try:
            actual = _run(op, sample, DEVICE, backward)
        except Exception as error:  # noqa: BLE001 - as above
            return Outcome(name, "fails", f"sample {number}: {_short(error)}")
        loose = op.name.startswith(UNINITIALISED)
        for part in ("forward", "backward"):
            on_cpu = expected[number][part]
            exact = not loose and _difference(again[number][part], on_cpu, "cpu", exact=True) is None
            different = _difference(actual[part], on_cpu, DEVICE, exact=exact)
            if different == OTHER_NUMBERS and _varies(op, sample, backward, part, on_cpu):
                different = _difference(actual[part], on_cpu, DEVICE, exact=False)
            if different is not None:
                return Outcome(name, "fails", f"sample {number}, {part}: {different}")
    return Outcome(name, "passes")


def _varies(op: Any, sample: Any, backward: bool, part: str, expected: list[Any]) -> bool:
    """Whether the CPU disagrees with itself, as kernels do whose sums depend on where in memory their numbers lie."""
    kept = []
    for size in range(12):
        kept.append(torch.empty(17 + 4 * size))  # so that the next run's memory lies elsewhere
        if _difference(_run(op, sample, "cpu", backward)[part], expected, "cpu", exact=True) is not None:
            return True
    return False


def _run(op: Any, sample: Any, device: str, backward: bool) -> dict[str, list[Any]]:
    """The leaves of the result, and the gradients of the inputs."""

    def place(value: Any) -> Any:
        if isinstance(value, Tensor):
            if op.name in CPU_NUMBERS and not value.is_floating_point():
                return value
            there = value.detach().clone().to(device)
            return there.requires_grad_(value.requires_grad)
        if isinstance(value, torch.device) or value == "cpu":
            return torch.device(device)
        return value

    positional, named = pytree.tree_map(place, ([sample.input, *sample.args], dict(sample.kwargs)))
    torch.manual_seed(1)
    result = op(*positional, **named)
    leaves = pytree.tree_leaves(result)
    gradients: list[Any] = []
    if backward:
        inputs = [leaf for leaf in pytree.tree_leaves((positional, named)) if _wants_gradient(leaf)]
        outputs = [leaf for leaf in pytree.tree_leaves(sample.output_process_fn_grad(result)) if _wants_gradient(leaf)]
        if inputs and outputs:
            generator = torch.Generator().manual_seed(2)
            given = [
                torch.randn(output.shape, dtype=output.dtype, generator=generator).to(device) for output in outputs
            ]
            gradients = list(torch.autograd.grad(outputs, inputs, given, allow_unused=True))
    return {"forward": leaves, "backward": gradients}


def _wants_gradient(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad


def _difference(actual: list[Any], expected: list[Any], device: str, *, exact: bool) -> str | None:
    """How two lists of results differ; None when they do not. Not `exact`: only what describes tensors counts."""
    if len(actual) != len(expected):
        return f"{len(actual)} results instead of {len(expected)}"
    for mine, theirs in zip(actual, expected, strict=True):
        if not isinstance(theirs, Tensor):
            if type(mine) is not type(theirs) or (exact and mine != theirs and theirs == theirs):
                return f"{mine!r} instead of {theirs!r}"
            continue
        if not isinstance(mine, Tensor):
            return f"a {type(mine).__name__} instead of a tensor"
        for about in ("shape", "dtype", "layout", "requires_grad"):
            if getattr(mine, about) != getattr(theirs, about):
                return f"{about} {getattr(mine, about)} instead of {getattr(theirs, about)}"
        if theirs.layout == torch.strided and mine.stride() != theirs.stride():
            return f"strides {mine.stride()} instead of {theirs.stride()}"
        if mine.device != torch.device(device):
            return f"the result is on {mine.device}"
        if exact and not _same_bits(mine.detach().cpu(), theirs.detach()):
            return OTHER_NUMBERS
    return None


def _same_bits(mine: Tensor, theirs: Tensor) -> bool:
    if mine.layout != torch.strided:
        return _same_bits(mine.to_dense(), theirs.to_dense())
    if mine.dtype == torch.complex32:  # has no comparison
        mine, theirs = mine.to(torch.complex64), theirs.to(torch.complex64)
    return bool(((mine == theirs) | ((mine != mine) & (theirs != theirs))).all())  # a NaN is not itself


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


# -- children -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Child:
    todo: collections.deque[Any]
    process: Any
    pipe: multiprocessing.connection.Connection
    errors: str
    heard: float


def _work(ops: list[Any], samples: int, pipe: multiprocessing.connection.Connection, errors: str) -> None:
    sink = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    vgpu.enable(devices=2, memory=64_000_000_000)
    for op in ops:
        pipe.send(check(op, samples))
    pipe.close()


def run_all(ops: list[Any], jobs: int, samples: int, folder: str) -> Iterator[Outcome]:
    """Runs the operators in `jobs` children at a time; an operator that takes its child along fails."""
    context = multiprocessing.get_context("fork")

    def start(todo: collections.deque[Any], number: int) -> _Child:
        theirs: Any
        ours, theirs = context.Pipe(duplex=False)
        errors = os.path.join(folder, f"errors-{number}")
        process = context.Process(target=_work, args=(list(todo), samples, theirs, errors))
        process.start()
        theirs.close()
        return _Child(todo, process, ours, errors, time.monotonic())

    started = 0
    children: list[_Child] = []
    for first in range(jobs):
        if ops[first::jobs]:
            children.append(start(collections.deque(ops[first::jobs]), started))
            started += 1
    while children:
        ready = multiprocessing.connection.wait([child.pipe for child in children], timeout=1)
        for child in list(children):
            if child.pipe in ready:
                with contextlib.suppress(EOFError):
                    outcome = child.pipe.recv()
                    child.todo.popleft()
                    child.heard = time.monotonic()
                    yield outcome
                    continue
                reason = "aborts the process"
            elif time.monotonic() - child.heard > PATIENCE_S:
                child.process.kill()
                reason = f"no answer in {PATIENCE_S:.0f} s"
            else:
                continue
            child.process.join()
            children.remove(child)
            if child.todo:
                yield Outcome(full_name(child.todo.popleft()), "fails", f"{reason}: {_last_words(child.errors)}")
            if child.todo:
                children.append(start(child.todo, started))
                started += 1


def _last_words(path: str) -> str:
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    said = [line for line in lines if "what():" in line or "Error" in line] or lines
    return said[-1][:300] if said else "without a word"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="operators whose name has this in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="children at a time")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples of each operator")
    arguments = parser.parse_args()
    ops = [op for op in operators() if arguments.only is None or arguments.only in full_name(op)]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = sorted(run_all(ops, arguments.jobs, arguments.samples, folder), key=lambda outcome: outcome.name)
    by_state = {state: [o for o in outcomes if o.state == state] for state in ("passes", "fails", "not counted")}
    for outcome in by_state["fails"]:
        print(f"{outcome.name}: {outcome.reason}")
    if arguments.only is not None:
        for outcome in by_state["not counted"]:
            print(f"not counted: {outcome.name}: {outcome.reason}")
    passing, counted = len(by_state["passes"]), len(by_state["passes"]) + len(by_state["fails"])
    share = 100 * passing / counted if counted else 0.0
    print(
        f"{passing} of {counted} operators ({share:.2f}%) are the CPU's on {DEVICE}, forward and backward; "
        f"{len(by_state['not counted'])} not counted, as the CPU does not run their float32 samples here"
    )


if __name__ == "__main__":
    main()
