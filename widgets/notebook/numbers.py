"""Tensors as tables that can be read: few values, each with the same number of digits."""

from __future__ import annotations

import html
from collections.abc import Sequence

from torch import Tensor

SHOWN_VALUES = 5
_CELL = "padding:1px 12px 1px 0;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap"


def first(tensor: Tensor, count: int = SHOWN_VALUES) -> list[str]:
    """Its first values, as text."""
    return [f"{value:+.6f}" for value in tensor.flatten()[:count].tolist()]


def small(value: float) -> str:
    """`0` or `7.5e-09`: a difference, of which the size counts."""
    return "0" if value == 0 else f"{value:.1e}"


def table(rows: Sequence[tuple[str, Sequence[str]]], strong: Sequence[str] = ()) -> str:
    """A row for each label; those in `strong` stand out."""
    lines = []
    for label, values in rows:
        weight = "font-weight:bold;" if label in strong else ""
        cells = "".join(f'<td style="{_CELL}">{html.escape(value)}</td>' for value in values)
        head = f'<th scope="row" style="{_CELL};text-align:left;font-weight:inherit">{html.escape(label)}</th>'
        lines.append(f'<tr style="{weight}background:transparent">{head}{cells}</tr>')
    return f'<table style="border-collapse:collapse;font-size:13px;color:inherit">{"".join(lines)}</table>'
