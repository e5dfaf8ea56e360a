"""Net: the course's first net. Two convolutions and two linear layers, for MNIST's images of 1 × 28 × 28.

Small enough to follow tensor by tensor, and just large enough to be cut: four layers to place on devices.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lab.data import DataSpec


class Net(nn.Module):
    """Images (B, 1, 28, 28) to log-probabilities (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        # (B, 1, 28, 28)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # conv (B, 10, 24, 24), pool (B, 10, 12, 12)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # conv (B, 20, 8, 8), pool (B, 20, 4, 4)
        x = x.flatten(1)  # (B, 320)
        x = F.relu(self.fc1(x))  # (B, 50)
        x = self.fc2(x)  # (B, 10)
        # Cross-entropy takes the log-softmax itself; a second one changes nothing, since the first already sums to 1.
        return F.log_softmax(x, dim=1)


def build(data: DataSpec) -> nn.Module:
    """Net as it is. It reads only data of shape (1, 28, 28) with 10 classes, as the registry says."""
    return Net()
