"""Which cell a widget belongs to, and what an interrupt of the kernel means for the runs that are looked at."""

from __future__ import annotations

import signal
import threading
import weakref
from typing import Any, Protocol

from widgets.notebook import follow


class Closable(Protocol):
    def close(self) -> None: ...


_owners: dict[str, tuple[int, list[weakref.ref[Any]]]] = {}
"""Cell -> its execution count, and what it made then."""
_lock = threading.Lock()
_watched: weakref.WeakSet[Any] = weakref.WeakSet()
"""Shells whose interrupts are listened to."""


def shell() -> Any:
    """The IPython shell, or None outside of IPython."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def replace_earlier(widget: Closable) -> None:
    """Closes what the same cell made when it was run before, so that a cell that is run again does not double."""
    key, count = _cell()
    if key is None:
        return
    with _lock:
        before, widgets = _owners.get(key, (count, []))
        stale = [] if before == count else widgets
        kept = [] if before != count else widgets
        _owners[key] = (count, [*kept, weakref.ref(widget)])
    for reference in stale:
        old = reference()
        if old is not None:
            old.close()


def current() -> tuple[str, str, int]:
    """The cell that is being run: the front end's name for it, its source, and its execution count; the texts are empty
    and the count 0 where nobody knows, as outside of IPython."""
    ip = shell()
    if ip is None or not hasattr(ip, "execution_count"):
        return "", "", 0
    kernel = getattr(ip, "kernel", None)
    parent = kernel.get_parent() if kernel is not None else {}
    source = ip.history_manager.input_hist_raw[-1] if ip.history_manager is not None else ""
    return str(parent.get("metadata", {}).get("cellId") or ""), source, ip.execution_count


def _cell() -> tuple[str | None, int]:
    """The cell that is being run: by the front end's name for it, else by its source."""
    cell_id, source, count = current()
    return (f"id {cell_id}" if cell_id else source or None), count


def watch_interrupts() -> None:
    """From now on, an interrupt of the kernel stops the runs that are looked at, whether a cell is being run or not.

    Does nothing outside of a kernel, or on another thread than the main one, which has nothing to say of signals.
    """
    ip = shell()
    kernel = getattr(ip, "kernel", None)
    if kernel is None or ip in _watched or threading.current_thread() is not threading.main_thread():
        return
    _watched.add(ip)
    ip.events.register("post_run_cell", _after_cell)
    # Between cells the kernel puts back the handler that it found (SIG_IGN), and keeps it here while it runs a cell.
    if hasattr(kernel, "saved_sigint_handler"):
        kernel.saved_sigint_handler = lambda number, frame: stop_all()
    elif signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: stop_all())


def _after_cell(result: Any) -> None:
    if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
        stop_all()


def stop_all() -> None:
    """Stops every run that is looked at."""
    for run in follow.live():
        run.stop()
