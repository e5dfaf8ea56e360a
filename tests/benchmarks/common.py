"""What the benchmarks share: a plain PyTorch training loop to compare with, and a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn


class PlainLoop:
    """Training on the CPU as a tutorial writes it, with nothing of the lab's around it."""

    def __init__(self, net: nn.Module, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = 110) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=width).print(table)
