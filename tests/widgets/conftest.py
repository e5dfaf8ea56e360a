"""Fixtures for the faces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def close_gradios_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the event loops that Gradio makes for its locks and never closes: collecting them would warn later."""
    loops: list[asyncio.AbstractEventLoop] = []
    make = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        loops.append(make())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", noted)
    yield
    for loop in loops:
        if not loop.is_running():
            loop.close()
    if loops:
        asyncio.set_event_loop(None)
