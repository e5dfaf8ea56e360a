"""docs/virtual-gpus.md does what it says: its Python runs, from top to bottom, and prints what stands below it."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lab import vgpu
from lab.vgpu import links, profiles
from lab.vgpu.purposes import PURPOSES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "virtual-gpus.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RAISES = re.compile(r"#\s*(\w+Error): (.*)$")


def run(code: str, names: dict[str, Any]) -> str:
    """What the code prints. A line with an error in its comment has to raise it."""
    lines = code.splitlines()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for statement in ast.parse(code).body:
            program = compile(ast.Module([statement], []), "virtual-gpus.md", "exec")
            expected = RAISES.search(lines[statement.lineno - 1])
            if expected is None:
                exec(program, names)
            else:
                with pytest.raises(RuntimeError, match=expected[2]) as raised:
                    exec(program, names)
                assert raised.type.__name__ == expected[1]
    return printed.getvalue()


def programs() -> Iterator[tuple[str, str | None]]:
    """Each block of Python, with the text that has to come of it."""
    blocks = BLOCK.findall(PAGE)
    for (language, code), (next_language, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "python":
            yield code, text if next_language == "text" else None


def test_the_code_runs_and_prints_what_is_below_it() -> None:
    names: dict[str, Any] = {}
    outputs = [(run(code, names), expected) for code, expected in programs()]
    assert len([expected for _, expected in outputs if expected is not None]) >= 4
    for printed, expected in outputs:
        assert expected is None or printed == expected
    profile = names["p"]
    assert {span.layer for span in profile.spans} >= {"first.0.0", "second.3"}
    assert {span.kind for span in profile.spans} == {"forward", "backward", "optimizer", "other"}


def test_without_the_side_stream_the_example_takes_as_long_as_it_says() -> None:
    vgpu.enable(devices=2, hardware="classroom", timing="modelled")
    x = torch.zeros(250_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        x.add_(1)
        x.to("vgpu:1", non_blocking=True)
        for _ in range(4):
            x.mul(2)
    assert (p.spans[1].start_ns, p.spans[-1].end_ns) == (1_235_000, 2_075_000)
    assert "would begin when the copy has ended, at 1235 µs, and end at 2075 µs" in PAGE.replace("\n", " ")


def test_what_it_lists_is_there() -> None:
    for name in (*links.names(), *profiles.names()):
        assert f"`{name}`" in PAGE, f"{name} is not in the page"
    for purpose in PURPOSES:
        assert purpose in PAGE
    for name in re.findall(r"`p\.(\w+)", PAGE):
        assert hasattr(vgpu.profile(), name)
    for path in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        if not path.startswith("http"):
            assert (DOCS / path).exists(), path
