"""The launcher's tile, without JupyterLab: tests/binder/check.py opens the page from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from widgets.web import address, proxy


def command(base_url: str) -> list[str]:
    """As jupyter-server-proxy fills it in."""
    return [word.format(port=7999, base_url=base_url) for word in proxy.page()["command"]]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.mark.parametrize("base_url", ["/", "/user/ada/", "/user/ada%40example.org/", "/hub/user/a-b_c.d~e/"])
def test_the_page_is_told_where_the_proxy_shows_it(base_url: str) -> None:
    root = option(command(base_url), "--root-path")
    assert root == f"{base_url}parallel-lab"
    assert address.root_path(root) == root
    assert option(command(base_url), "--port") == "7999"


@pytest.mark.parametrize(
    ("limit", "bounds"),
    [
        (None, []),
        ("2147483648", ["--max-runs", "1", "--max-ranks", "2"]),
        ("17179869184", []),
        ("unlimited", []),
    ],
)
def test_little_memory_is_kept_for_one_small_run(
    monkeypatch: pytest.MonkeyPatch, limit: str | None, bounds: list[str]
) -> None:
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    if limit is not None:
        monkeypatch.setenv("MEM_LIMIT", limit)
    assert command("/")[8:] == bounds


def test_the_icon_is_there_and_is_a_picture() -> None:
    icon = Path(proxy.page()["launcher_entry"]["icon_path"])
    assert ElementTree.parse(icon).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_jupyterlabs_own_server_loads_nothing_heavy_for_it() -> None:
    asks = "import sys, widgets.web.proxy as proxy; proxy.page(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True).stdout.split()
    assert not {"gradio", "plotly", "torch", "numpy", "pydantic"} & set(loaded)
