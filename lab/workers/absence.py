"""Who did not come, in a cell of a live group: from where every rank is, or was when its collective failed.

A rank that waits in vain fails first and loudest. The one to blame is the one that was elsewhere: still computing or
asleep, at the end of the cell already, or in another collective than the others.
"""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FrameType

from lab.errors import listed
from lab.events import RankFailed

_DISTRIBUTED = re.compile(r"torch/distributed/(?!c10d_logger)")
_IN_TRACE = re.compile(r'File "[^"]*torch/distributed/(?!c10d_logger)[^"]*", line \d+, in (\w+)')
_ADVICE = "Every rank of the group has to call the same collectives, in the same order and as often as the others."


@dataclass(frozen=True, slots=True)
class Where:
    """Where a rank is in a cell."""

    rank: int
    cell: int
    line: int
    """Of the cell; 0 where it is not known."""
    code: str
    """What stands there."""
    collective: str
    """The function of torch.distributed in which it waits; empty for none."""
    stack: str = ""

    def __str__(self) -> str:
        return f"line {self.line} of the cell ({self.code})" if self.line else "the cell"


def look(rank: int, cell: int, filename: str, frame: FrameType | None) -> Where:
    """Where a rank is whose main thread has this frame."""
    line, collective = 0, ""
    names = []
    while frame is not None:
        code = frame.f_code
        names.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}')
        if code.co_filename == filename:
            line = line or frame.f_lineno
            if code.co_name == "<module>":
                break
        elif not line and _DISTRIBUTED.search(code.co_filename):
            collective = code.co_name  # the outermost is what the cell called
        frame = frame.f_back
    code_line = linecache.getline(filename, line).strip() if line else ""
    return Where(rank, cell, line, code_line, collective, "\n".join(reversed(names)))


def of_failure(failure: RankFailed) -> str:
    """The collective in which a rank failed; empty when its traceback shows none."""
    found = _IN_TRACE.search(failure.traceback)
    return found[1] if found else ""


def explain(
    ranks: Iterable[int], running: Mapping[int, Where], waited: Mapping[int, str], ended: Iterable[int]
) -> RankFailed | None:
    """The rank for which the others waited in vain; None where nobody waits, or nobody is to blame more than another.

    Args:
        ranks: those that run the cell.
        running: rank -> where it is, of those that have not ended.
        waited: rank -> the collective in which it failed, of those that lost the others.
        ended: ranks that have come to the end of the cell.
    """
    waiting = {**waited, **{rank: where.collective for rank, where in running.items() if where.collective}}
    if not waiting:
        return None
    away = [rank for rank in sorted(running) if not running[rank].collective]
    over, everyone = sorted(ended), sorted(ranks)
    names = _named(waiting)
    if away:
        rank = away[0]
        text = f"rank {rank} did not come: it is in {running[rank]}, while {names}"
        return RankFailed(rank, text, True, advice=_ADVICE)
    if over:
        if len(waiting) == 1 and len(over) > 1:
            [(rank, collective)] = waiting.items()
            text = f"rank {rank} called a collective more than the others: it waits in {collective}, and {_who(over)} "
            return RankFailed(rank, text + "came to the end of the cell without it", True, advice=_ADVICE)
        text = f"rank {over[0]} did not come: it is at the end of the cell, while {names}"
        return RankFailed(over[0], text, True, advice=_ADVICE)
    kinds = Counter(waiting.values())
    if len(kinds) > 1 and set(waiting) == set(everyone):
        [(usual, _)] = kinds.most_common(1)
        rank = next(rank for rank in everyone if waiting[rank] != usual)
        others = [other for other in everyone if other != rank]
        text = f"rank {rank} called {waiting[rank]}, where {_who(others)} called {usual}"
        return RankFailed(rank, text, True, advice=_ADVICE)
    return None


def _named(waiting: Mapping[int, str]) -> str:
    collectives = listed(dict.fromkeys(name or "a collective" for _, name in sorted(waiting.items())))
    one = len(waiting) == 1
    return f"{_who(sorted(waiting))} {'waits' if one else 'wait'} for it in {collectives}"


def _who(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {listed([str(rank) for rank in ranks])}"
