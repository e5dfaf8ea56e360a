"""A real kernel, driven as a front end drives it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

ROOT = Path(__file__).parents[3]
CELL_SECONDS = 120.0
_COLOR = re.compile(r"\x1b\[\d*(?:;\d+)*m")


@dataclass
class Said:
    """What a cell gave."""

    text: str = ""
    result: str = ""
    error: str = ""
    """The exception's name and text; empty when all went well."""
    traceback: str = ""
    displayed: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    def family(self) -> list[psutil.Process]:
        """Processes below the kernel's, those that multiprocessing keeps for good left out."""
        kept = ("forkserver import main", "resource_tracker import main")
        below = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                is_keeper = any(word in line for word in kept) and process.ppid() == self.pid
                if not is_keeper and process.status() != psutil.STATUS_ZOMBIE:
                    below.append(process)
        return below

    def send(self, source: str, cell_id: str = "") -> str:
        """Starts a cell, and returns at once."""
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self.client.session.msg("execute_request", content)
        message["metadata"] = {"cellId": cell_id} if cell_id else {}
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def read(self, number: str, seconds: float = CELL_SECONDS) -> Said:
        """Waits for the end of a cell."""
        said = Said()
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.01, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"the cell has not ended after {seconds} s: {said}") from None
            if message["parent_header"].get("msg_id") != number:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    said.text += _COLOR.sub("", content["text"])
                case "execute_result":
                    said.result = content["data"]["text/plain"]
                    said.displayed.append(content["data"])
                case "display_data":
                    said.displayed.append(content["data"])
                case "error":
                    said.error = f"{content['ename']}: {content['evalue']}"
                    said.traceback = _COLOR.sub("", "\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    return said

    def run(self, source: str, cell_id: str = "", seconds: float = CELL_SECONDS) -> Said:
        return self.read(self.send(source, cell_id), seconds)

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    manager, client = start_new_kernel(env=environment, startup_timeout=120)
    started = Kernel(manager, client)
    family = None
    try:
        yield started
        family = psutil.Process(started.pid).children(recursive=True)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=False)
        _, left = psutil.wait_procs(family or [], 15)
        for process in left:
            process.kill()
    assert not left, f"the kernel left behind: {left}"
