"""Calls of a reader's function in processes of their own: what they share there is what processes share, files alone.

with apart.process() as save, apart.process() as load:
    call(save, function, path)

Functions travel by value, as those of notebook cells have to; so each call begins with the globals as they are in the
notebook now, and what it changes in them is its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import cloudpickle

from lab.exercises.grading import AnswerRaisedError, NotWrittenError, Wrong, call, shown
from lab.workers import interrupts, launch

SECONDS = 60.0
"""For one call."""


class Process:
    """A fresh process, which runs what it is given, one call after the other."""

    def __init__(self, worker: launch.Worker) -> None:
        self._worker = worker

    def __call__(self, function: Any, *arguments: Any) -> Any:
        """Calls it there, and returns a copy of what it returns. An error ends the check, as in `grading.call`.

        Raises:
            Wrong: when it cannot travel, ends its process, or takes longer than `SECONDS`.
        """
        pipe = self._worker.pipe
        packed = _packed((function, arguments))
        try:
            pipe.send_bytes(packed)
            if not pipe.poll(SECONDS):
                raise Wrong(f"After {SECONDS:.0f} s in a process of its own, it has still not returned.")
            answer = pipe.recv_bytes()
        except (EOFError, ConnectionError):
            raise Wrong("The process in which it ran has ended: it has to return.") from None
        kind, value = cloudpickle.loads(answer)
        match kind:
            case "value":
                return value
            case "blank":
                raise NotWrittenError
            case "raised":
                raise AnswerRaisedError(value)
            case _:
                raise Wrong(value)


@contextmanager
def process() -> Iterator[Process]:
    """A process for as long as the block lasts."""
    worker = launch.launch(_serve)
    try:
        yield Process(worker)
    finally:
        worker.kill()
        worker.close()


def _packed(value: tuple[Any, tuple[Any, ...]]) -> bytes:
    try:
        with _by_value(value):
            return bytes(cloudpickle.dumps(value))
    except Exception as error:  # noqa: BLE001 - a reader's globals may be anything
        raise Wrong(
            f"It runs in a process of its own, and cannot be taken there: {type(error).__name__}: {error}. Which "
            f"variable of your notebook does {_readers(value)} use? Give it what it needs as an "
            "argument."
        ) from None


def _readers(value: tuple[Any, tuple[Any, ...]]) -> str:
    """The name of the reader's function, which the lab's own may be given."""
    function, arguments = value
    named = [each for each in (function, *arguments) if callable(each) and hasattr(each, "__name__")]
    return next((str(each.__name__) for each in named if not str(each.__module__).startswith("lab.")), "it")


@contextmanager
def _by_value(value: tuple[Any, tuple[Any, ...]]) -> Iterator[None]:
    """Functions and classes of files that are not installed travel as a notebook's do: they may not be found there."""
    function, arguments = value
    names = {getattr(each, "__module__", None) or type(each).__module__ for each in (function, *arguments)}
    modules = [module for name in names if (module := sys.modules.get(name)) is not None and _own(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _own(module: ModuleType) -> bool:
    """Whether it is a file of the reader's own."""
    file = getattr(module, "__file__", None)
    top = module.__name__.partition(".")[0]
    return file is not None and top not in {"__main__", "lab", *sys.stdlib_module_names} and "site-packages" not in file


def _serve(pipe: Connection, environment: dict[str, str]) -> None:
    """Runs calls until the other end is closed."""
    import torch

    interrupts.ignore()
    torch.set_num_threads(1)
    while True:
        try:
            packed = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            function, arguments = cloudpickle.loads(packed)
        except Exception as error:  # noqa: BLE001 - what it needs may be missing there
            what = f"It runs in a process of its own, and cannot be made there: {type(error).__name__}: {error}."
            pipe.send_bytes(cloudpickle.dumps(("wrong", what)))
            continue
        pipe.send_bytes(_answered(function, arguments))


def _answered(function: Any, arguments: tuple[Any, ...]) -> bytes:
    try:
        value = call(function, *arguments)
    except NotWrittenError:
        return bytes(cloudpickle.dumps(("blank", None)))
    except AnswerRaisedError as raised:
        return bytes(cloudpickle.dumps(("raised", str(raised))))
    except Wrong as wrong:
        return bytes(cloudpickle.dumps(("wrong", str(wrong))))
    try:
        return bytes(cloudpickle.dumps(("value", value)))
    except Exception:  # noqa: BLE001 - a generator, for example
        return bytes(cloudpickle.dumps(("wrong", f"It returns {shown(value)}, which no process can give to another.")))
