"""No notebook tells what it asks to predict: the measurement is revealed beside the answer before it is printed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TEXTS = sorted((Path(__file__).parents[2] / "notebooks" / "text").glob("*.py"))


def cells(text: Path) -> list[ast.Module]:
    """Its code cells, in their order; magics are comments in the text."""
    parts = text.read_text(encoding="utf-8").split("\n# %%")
    code = [part.partition("\n") for part in parts[1:] if not part.startswith(" [markdown]")]
    return [ast.parse(source) for _, _, source in code]


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name == getattr(node.func, "attr", getattr(node.func, "id", ""))
    ]


def told_before(tree: ast.Module) -> bool:
    """Whether the cell prints anything before it reveals."""
    reveals = calls(tree, "reveal")
    if not reveals:
        return False
    first = min(reveals, key=lambda call: (call.lineno, call.col_offset))
    around = {id(call) for call in calls(tree, "print") if first in ast.walk(call)}
    return any(call.lineno < first.lineno for call in calls(tree, "print") if id(call) not in around)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_every_question_is_asked_once_and_revealed_below(text: Path) -> None:
    found = cells(text)
    asks = [index for index, cell in enumerate(found) if calls(cell, "Predict")]
    reveals = [index for index, cell in enumerate(found) if calls(cell, "reveal")]
    assert asks, "a notebook begins with a prediction"
    assert reveals
    assert len(reveals) >= len(asks)
    assert all(ask < reveal for ask, reveal in zip(asks, reveals, strict=False))
    questions = [ast.unparse(call.args[0]) for cell in found for call in calls(cell, "Predict")]
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_measurement_is_not_printed_before_it_is_revealed(text: Path) -> None:
    assert not any(told_before(cell) for cell in cells(text))


def test_a_cell_that_prints_first_is_found() -> None:
    assert told_before(ast.parse("print(f'{ms} ms')\npredict.reveal(ms)"))
    assert not told_before(ast.parse("predict.reveal(ms)\nprint(ms)"))
    assert not told_before(ast.parse("for guess in guesses:\n    print(guess.reveal(ms))"))
