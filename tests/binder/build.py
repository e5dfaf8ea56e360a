"""Builds what repo2docker would from `binder/`'s files, in a virtual environment of its own, and starts it as Binder
does: a copy of the repository, an empty home, the steps in repo2docker's order, and `start` in front of the server.

repo2docker's own environment (conda, JupyterHub's single-user server) is not built; JupyterLab itself is in ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).parents[2]
BASE_URL = "/user/student-parallel-lab-x7f/"
"""As a hub gives one to each server."""
MEMORY_BYTES = 2 * 2**30
"""Of a server on mybinder.org, which tells it so through MEM_LIMIT."""
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Built:
    """An environment and the copy of the repository that it runs."""

    repository: Path
    venv: Path
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs."""

    url: str
    """With the base URL, ending in a slash."""
    token: str
    process: psutil.Process


def build(folder: Path) -> Built:
    """Builds into the folder, which must be empty.

    Raises:
        CalledProcessError: when a step fails; it has said why on the standard error.
    """
    repository, venv, home = folder / "repository", folder / "venv", folder / "home"
    home.mkdir()
    _copy(repository)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        **_where_pip_looks(),
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "MEM_LIMIT": str(MEMORY_BYTES),
    }
    for command in ("pip install -q --no-cache-dir -r binder/requirements.txt", "binder/postBuild"):
        subprocess.run(command.split(), cwd=repository, env=environment, check=True)
    return Built(repository, venv, environment)


def build_or_reuse(folder: Path) -> Built:
    """What an earlier call built into the folder, or a new one."""
    kept = folder / "environment.json"
    if kept.exists():
        shutil.rmtree(folder / "home" / ".jupyter", ignore_errors=True)  # JupyterLab would open what was open last
        return Built(folder / "repository", folder / "venv", json.loads(kept.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    built = build(folder)
    kept.write_text(json.dumps(built.environment))
    return built


@contextlib.contextmanager
def serving(built: Built) -> Iterator[Serving]:
    """The server, until the context ends; everything that it started must end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    command = ["binder/start", "jupyter", "lab", "--ip=127.0.0.1", f"--port={port}", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.base_url={BASE_URL}", f"--IdentityProvider.token={token}"]
    url = f"http://127.0.0.1:{port}{BASE_URL}"
    log = built.repository.parent / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, cwd=built.repository, env=built.environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
    process = psutil.Process(server.pid)
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer:\n{log.read_text()}")
            time.sleep(0.1)
        yield Serving(url, token, process)
    finally:
        if server.poll() is None:
            family = process.children(recursive=True)
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        _, left = psutil.wait_procs([process, *family], 20)
        for each in left:
            each.kill()
    if left:
        raise RuntimeError(f"the server left behind: {left}")


def size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _copy(target: Path) -> None:
    """The repository as it is here, without what git ignores."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def _where_pip_looks() -> dict[str, str]:
    """uv's settings for a machine whose pip is told of folders with packages, such as a CPU build of PyTorch; empty on
    any other, where uv goes where it goes on Binder."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    places = os.environ.get("PIP_FIND_LINKS", "").split() or said
    return {"UV_FIND_LINKS": ",".join(places), "LAB_TORCH": ""} if places else {}


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urlopen(f"{url}api").read())
    return False
