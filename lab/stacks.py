"""Tracebacks and stacks as people read them."""

from __future__ import annotations

import re

_FRAME = re.compile(r'\s*File "(?P<path>[^"]+)", line (?P<line>\d+) in (?P<name>.+)')
_PACKAGES = re.compile(r".*(?:site-packages|dist-packages)/|.*?lib/python3\.\d+/")
_OWN = re.compile(r".*/(?=(?:lab|widgets|tests)/)")
_ENTRY = "lab/workers/entry.py"
"""Below it is only how the process was started."""


def readable(trace: str) -> str:
    """A hung process's stacks (of `faulthandler`) as the main thread's frames, most recent first, down to where the
    worker began. A Python traceback as it is."""
    threads = [block for block in trace.strip().split("\n\n") if "(most recent call first)" in block]
    if not threads:
        return trace.rstrip()
    main = next((block for block in threads if block.startswith("Current thread")), threads[-1])
    frames = []
    for line in main.splitlines()[1:]:
        frame = _FRAME.fullmatch(line)
        if frame is None:
            continue
        path = _short(frame["path"])
        if path == _ENTRY:
            break
        frames.append(f"  {frame['name']}  ({path}:{frame['line']})")
    return "\n".join(["The main thread, most recent call first:", *frames])


def _short(path: str) -> str:
    """Without the folders in which Python and its packages are installed."""
    package = _PACKAGES.match(path)
    return path[package.end() :] if package else _OWN.sub("", path)
