"""`%%ranks`: the cell's code on every rank of a live group, and `%ranks` to start and end one.

    %load_ext widgets.notebook
    %ranks start 4                 # four processes on the CPU; add `vgpu` or `cuda` for a device each

    %%ranks                        # on all of them; `%%ranks 0,2` on some; `%%ranks --timeout 60` for so long
    import torch, torch.distributed as dist
    x = torch.tensor([float(rank)], device=device)
    dist.all_reduce(x)
    x

Every rank finds `rank`, `world_size` and `device`, has torch.distributed ready, and keeps its variables between cells.
`%ranks push net, data` gives all ranks variables of the notebook; `%ranks pull x` gives their x as a dictionary.
"""

from __future__ import annotations

import atexit
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from lab.errors import LabError, counted, did_you_mean, listed
from lab.events import RankFailed
from lab.workers.collection import Outcome
from lab.workers.console import Console, DeviceKind, gone
from lab.workers.console_rank import Said

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

FIRST_RANKS = 2
GATHER_SECONDS = 0.5
"""What ranks print within this time is shown rank by rank, not in the order of arrival."""
COMMANDS = ("start", "stop", "restart", "status", "push", "pull")
_COLORS = (34, 33, 32, 35, 36, 31, 94, 93)
"""Terminal colours of the ranks' labels, so that eight ranks can be told apart at a glance; the number says it too."""
_HELP = f"write %ranks {', '.join(COMMANDS[:-1])} or {COMMANDS[-1]}; %%ranks runs a cell"


class Ranks:
    """The magics of one shell, and its group of ranks.

    Args:
        names: the notebook's variables.
        show: prints a text in the cell that is being run.
    """

    def __init__(self, names: dict[str, Any], show: Callable[[str], None] = print) -> None:
        self.console: Console | None = None
        self._names = names
        self._show = show

    # -- %ranks --------------------------------------------------------------------------------------------------------

    def line(self, line: str) -> Any:
        """`%ranks start 4`, and so on.

        Raises:
            RanksError: with what is wrong, as a sentence.
        """
        with _as_sentences():
            return self._command(line)

    def _command(self, line: str) -> Any:
        command, *words = line.replace(",", " ").split() or ["status"]
        if command not in COMMANDS:
            raise RanksError(f"{command!r} is no command of %ranks{did_you_mean(command, COMMANDS)}; {_HELP}")
        return getattr(self, f"_{command}")(words)

    def _start(self, words: Sequence[str]) -> None:
        count, device = FIRST_RANKS, "cpu"
        for word in words:
            if word.isdecimal():
                count = int(word)
            elif word in get_args(DeviceKind):
                device = word
            else:
                raise RanksError(f"{word!r} is neither a number of ranks nor cpu, cuda or vgpu: %ranks start 4 vgpu")
        self.close()
        self.console = Console(count, device)  # type: ignore[arg-type]
        self._status([])

    def _restart(self, words: Sequence[str]) -> None:
        before = self.console
        self._start(words or ([str(before.world_size), before.device] if before is not None else []))

    def _stop(self, words: Sequence[str]) -> None:
        self._show("The ranks are gone." if self.close() else "There are no ranks.")

    def _status(self, words: Sequence[str]) -> None:
        console = self.console
        if console is None or not console.alive:
            self._show("There are no ranks; %ranks start 4 starts four.")
            return
        pids = listed([str(pid) for pid in console.pids])
        each = f"{console.device}:RANK" if console.device != "cpu" else "cpu"
        ranks, process = counted(console.world_size, "rank"), "process" if console.world_size == 1 else "processes"
        ready = "is ready" if console.world_size == 1 else "are ready"
        self._show(f"{ranks} {ready}, on {each} ({process} {pids}).")

    def _push(self, words: Sequence[str]) -> None:
        absent = [word for word in words if word not in self._names]
        if absent or not words:
            raise RanksError(
                f"{absent[0]!r} is not defined in this notebook" if absent else "name a variable: %ranks push net"
            )
        self._group().push(**{word: self._names[word] for word in words})

    def _pull(self, words: Sequence[str]) -> dict[int, Any]:
        if len(words) != 1:
            raise RanksError("name one variable: %ranks pull x")
        return self._group().pull(words[0])

    def _group(self) -> Console:
        """The group; one of two ranks when there is none yet."""
        if self.console is None:
            self._start([])
        if self.console is None or not self.console.alive:
            raise RanksError("the ranks have ended; %ranks restart starts others")
        return self.console

    def close(self) -> bool:
        """Ends the group; False when there is none."""
        console, self.console = self.console, None
        if console is None:
            return False
        was_alive = console.alive
        console.close()
        return was_alive

    # -- %%ranks -------------------------------------------------------------------------------------------------------

    def cell(self, line: str, source: str) -> None:
        """Runs a cell on the ranks that the line names.

        Raises:
            RanksError: with the root cause, when it failed on some rank.
            Interrupted: when it was.
        """
        with _as_sentences():
            self._run(line, source)

    def _run(self, line: str, source: str) -> None:
        ranks, timeout = _options(line)
        console = self._group()
        printer = Printer(self._show)
        outcome = console.run(source, ranks, printer.hear, timeout)
        printer.flush()
        for rank, ended in outcome.ended.items():
            if ended.value is not None:
                self._show(_labelled(rank, ended.value))
        error = _error(outcome, self._show) if outcome.failures else None
        if outcome.connected_anew:
            self._show("The ranks were connected anew and keep their variables; make DDP nets again.")
        ended_group = gone(outcome, console)
        if ended_group:
            self._show(f"{ended_group} %ranks restart starts others.")
        if outcome.interrupted:
            why = f": {outcome.absent.cause}" if outcome.absent is not None else ""
            raise Interrupted(f"the cell was interrupted on every rank{why}")
        if outcome.timed_out:
            why = f": {outcome.absent.cause}" if outcome.absent is not None else ""
            raise RanksError(f"the cell took longer than {timeout:g} s, and was interrupted on every rank{why}")
        if error is not None:
            raise error


class Printer:
    """Shows what ranks print: at once enough to watch, late enough to keep each rank's lines together."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._heard: dict[int, list[str]] = defaultdict(list)
        self._due = time.monotonic() + GATHER_SECONDS

    def hear(self, said: Said) -> None:
        self._heard[said.rank].append(said.text)
        if time.monotonic() > self._due:
            self.flush()

    def flush(self) -> None:
        for rank, texts in sorted(self._heard.items()):
            self._show(_labelled(rank, "".join(texts).removesuffix("\n")))
        self._heard.clear()
        self._due = time.monotonic() + GATHER_SECONDS


def _labelled(rank: int, text: str) -> str:
    label = f"\x1b[{_COLORS[rank % len(_COLORS)]}m[rank {rank}]\x1b[0m"
    return "\n".join(f"{label} {line}" for line in text.split("\n"))


def _options(line: str) -> tuple[list[int] | None, float | None]:
    """The ranks and the time-out that `%%ranks 0,2 --timeout 60` names."""
    words = line.replace(",", " ").split()
    timeout = None
    if "--timeout" in words:
        place = words.index("--timeout")
        given = words[place + 1 : place + 2]
        try:
            timeout = float(*given)
        except ValueError:
            timeout = 0.0
        if not given or timeout <= 0:
            raise RanksError("give the time-out in seconds: %%ranks --timeout 60")
        del words[place : place + 2]
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise RanksError(f"{wrong[0]!r} is no rank: write %%ranks 0,2")
    return [int(word) for word in words] or None, timeout


def _error(outcome: Outcome, show: Callable[[str], None]) -> RanksError:
    """The root cause first, with its traceback; the others, who mostly suffer from it, in a line each."""
    first = outcome.failures[0]
    alike = [failure for failure in outcome.failures if failure.cause == first.cause]
    others = [failure for failure in outcome.failures if failure.cause != first.cause]
    if first.traceback:
        show(_labelled(first.rank, first.traceback.rstrip()))
    for failure in others:
        show(_labelled(failure.rank, failure.cause))
    advice = f" {first.advice}" if first.advice else ""
    return RanksError(f"{_who(alike, outcome)}: {first.cause}.{advice}")


def _who(alike: list[RankFailed], outcome: Outcome) -> str:
    if len(alike) > 1 and len(alike) == len(outcome.ended):
        return "all ranks"
    return f"rank{'s' if len(alike) > 1 else ''} {listed([str(failure.rank) for failure in alike])}"


class RanksError(LabError):
    """A cell or command that failed. It is shown as a sentence: the traceback that matters is the rank's."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[31mRanksError\x1b[0m: {self}"]


class Interrupted(KeyboardInterrupt):
    """The cell was interrupted, and the ranks are ready for the next."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[31mKeyboardInterrupt\x1b[0m: {self}"]


@contextlib.contextmanager
def _as_sentences() -> Iterator[None]:
    try:
        yield
    except RanksError:
        raise
    except LabError as error:
        raise RanksError(str(error)) from error


_KEY = "_parallel_lab_ranks"


def load(ipython: InteractiveShell) -> Ranks:
    """Adds the magics to a shell; called again, it keeps the group that there is."""
    ranks: Ranks | None = getattr(ipython, _KEY, None)
    if ranks is None:
        ranks = Ranks(ipython.user_ns)
        setattr(ipython, _KEY, ranks)
        atexit.register(ranks.close)
    ipython.register_magic_function(ranks.line, "line", "ranks")
    ipython.register_magic_function(ranks.cell, "cell", "ranks")
    return ranks


def unload(ipython: InteractiveShell) -> None:
    """Ends the group of the shell."""
    ranks: Ranks | None = getattr(ipython, _KEY, None)
    if ranks is not None:
        ranks.close()
        delattr(ipython, _KEY)
        atexit.unregister(ranks.close)
