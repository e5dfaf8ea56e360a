"""The tests of virtual GPUs on the oldest PyTorch that pyproject.toml allows, and on the newest that there is.

    python -m tests.versions                          # both
    python -m tests.versions --torch 2.12.0           # another
    python -m tests.versions -- -x -k attention       # what follows goes to pytest

Each version is installed into an environment of its own in a temporary folder, which takes up to 6 GB while it is
there; everything else comes from the environment that runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import site
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/lab/vgpu"
NEWEST = "newest"


def oldest() -> str:
    """The lowest version that pyproject.toml allows, as `2.10.*`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"torch>=([\d.]+)"', text)
    if found is None:
        raise SystemExit('pyproject.toml has no "torch>=..." among its dependencies')
    return f"{found[1]}.*"


def install(version: str, folder: Path) -> Path:
    """Makes an environment with that version; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import site; print(site.getsitepackages()[-1])"
    own = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    # Comes after the environment's own packages, so torch is the one that is installed there.
    Path(own, "everything_else.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    wanted = ["--upgrade", "torch"] if version == NEWEST else [f"torch=={version}"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *wanted], check=True)
    return python


def run(version: str, arguments: list[str]) -> tuple[str, int]:
    """What was run, and pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="parallel-lab-torch-") as folder:
        python = install(version, Path(folder))
        said = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
        if said.returncode:
            return f"torch {version} cannot be imported: {said.stderr.strip().splitlines()[-1]}", said.returncode
        name = f"torch {said.stdout.strip()}"
        print(f"\n== {name} ==", flush=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS, *arguments]
        return name, subprocess.run(command, cwd=ROOT, env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests of virtual GPUs on other versions of PyTorch.")
    parser.add_argument("--torch", action="append", metavar="VERSION", help=f"such as 2.12.0, 2.12.*, or {NEWEST}")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args()
    results = [run(version, options.pytest) for version in options.torch or (oldest(), NEWEST)]
    print()
    for name, code in results:
        print(f"{name}: {'passed' if code == 0 else f'failed (exit code {code})'}")
    return int(any(code for _, code in results))


if __name__ == "__main__":
    sys.exit(main())
