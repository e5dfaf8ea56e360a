"""By how much each rank's gradient counts in what an answer returns, found from the numbers alone.

Random gradients point in different directions, so that a sum of them tells by itself what they were multiplied by.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""How far numbers of float32 may be apart, as a part of the largest."""


def weights(got: Tensor, gradients: Sequence[Tensor]) -> list[float] | None:
    """The factors of a weighted sum of gradients; None when it is none."""
    columns = torch.stack([each.double().flatten() for each in gradients], 1)  # (numbers, ranks)
    found = torch.linalg.lstsq(columns, got.double().flatten()[:, None], driver="gelsd").solution[:, 0]
    return [float(each) for each in found] if close((columns @ found).view_as(got), got) else None


def close(a: Tensor, b: Tensor) -> bool:
    """Whether they are the same but for rounding."""
    largest = float(b.abs().max())
    return bool((a.double() - b.double()).abs().max() <= TOLERANCE * max(largest, 1e-6))


def same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether these are the same factors but for rounding."""
    return len(a) == len(b) and all(abs(x - y) <= TOLERANCE * max(abs(y), 1e-2) for x, y in zip(a, b, strict=True))


def written(numbers: Sequence[float]) -> str:
    """`0.5, 0.25 and 0.25`, in a sentence."""
    texts = [f"{0.0 if abs(each) < TOLERANCE * 1e-2 else each:.3g}" for each in numbers]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
