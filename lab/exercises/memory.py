"""Checks of notebook 08: memory."""

from __future__ import annotations

from typing import Any

from lab.exercises.grading import Wrong, call, exercise
from lab.exercises.machines import virtual

LAYERS, WIDTH, BATCH = 8, 128, 512
CAPACITY_MB = 3.2
TOLERANCE = 1e-5


@exercise(
    "08-fits",
    todo="Call backward more than once, on parts of the batch; or let torch.utils.checkpoint recompute activations.",
)
def fits(answer: Any) -> str:
    """The whole batch's gradient in little memory."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        net, x, y = _net(), torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)
    torch.nn.functional.mse_loss(net(x), y).backward()
    wanted = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad(set_to_none=True)
    with virtual(devices=1, memory=round(CAPACITY_MB * 1e6)) as machine:
        placed = net.to("vgpu:0")

        def attempt() -> Any:
            try:
                return answer(placed, x, y)
            except torch.OutOfMemoryError as error:
                return error

        error = call(attempt if callable(answer) else answer)
        if isinstance(error, torch.OutOfMemoryError):
            raise Wrong(f"it does not fit: {error}")
        found = [parameter.grad.cpu() if parameter.grad is not None else None for parameter in placed.parameters()]
        peak = machine.pools[0].peak
    for mine, right in zip(found, wanted, strict=True):
        if mine is None:
            raise Wrong("a parameter has no gradient afterwards: the step has to end with backward")
        difference = float((mine - right).abs().max())
        if difference > TOLERANCE:
            scale = float((mine * right).sum() / (right * right).sum())
            raise Wrong(
                f"it fits, but the gradient differs from the whole batch's by {difference:.2g}; it is about "
                f"{scale:.2g} times as large. All samples have to count, each once, and parts' means have to be weighed"
            )
    return f"the same gradient, with {peak / 1e6:.2f} MB at most."


def _net() -> Any:
    from torch import nn

    return nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)))
