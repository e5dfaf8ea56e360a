"""MLP: three linear layers, for images of any size.

Nearly all of its parameters sit in the first layer, which makes it the plain case of an uneven load.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from lab.data import DataSpec


class MLP(nn.Module):
    """Images (B, C, H, W) to logits (B, classes)."""

    def __init__(self, inputs: int, classes: int) -> None:
        """`inputs` is C × H × W."""
        super().__init__()
        self.fc1 = nn.Linear(inputs, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)  # (B, C * H * W)
        x = F.relu(self.fc1(x))  # (B, 256)
        x = F.relu(self.fc2(x))  # (B, 128)
        logits: Tensor = self.fc3(x)  # (B, classes)
        return logits


def build(data: DataSpec) -> nn.Module:
    """An MLP as wide at its ends as the data asks."""
    return MLP(math.prod(data.shape), data.classes)
