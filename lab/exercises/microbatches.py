"""Checks of notebook 05: microbatches and the bubble."""

from __future__ import annotations

from typing import Any

from lab.exercises.grading import Wrong, call, exercise

TOLERANCE = 1e-5


@exercise(
    "05-accumulate",
    todo="Cut x and y into parts, and call backward on the loss of each: gradients add up by themselves. The means "
    "need a weight.",
)
def accumulate(answer: Any) -> str:
    """Gradients of a batch, one part at a time."""
    import torch
    from torch import nn

    def loss_function(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sizes.append(len(output))
        return nn.functional.mse_loss(output, target)

    for count, parts in ((12, 4), (10, 4)):
        sizes: list[int] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            net, x, y = nn.Linear(6, 3), torch.randn(count, 6), torch.randn(count, 3)
        nn.functional.mse_loss(net(x), y).backward()
        wanted = _gradient(net)
        net.zero_grad()
        call(answer, net, loss_function, x, y, parts)
        if any(parameter.grad is None for parameter in net.parameters()):
            raise Wrong("there is no gradient afterwards: call backward on each part's loss, and keep what is in .grad")
        if sum(sizes) != count:
            raise Wrong(f"of {count} samples in {parts} parts, your losses saw {sum(sizes)}: {sizes}")
        if max(sizes) > -(-count // parts):
            raise Wrong(f"the {count} samples came in parts of {sizes}, which saves no memory: {parts} were asked for")
        _compare(_gradient(net), wanted, sizes, count)
    return "the gradients are those of the whole batch, also where the parts are not of the same size."


def _gradient(net: Any) -> Any:
    import torch

    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).clone()


def _compare(found: Any, wanted: Any, sizes: list[int], count: int) -> None:
    if (found - wanted).abs().max() <= TOLERANCE:
        return
    ratio = float((found @ wanted) / (wanted @ wanted))
    if (found - ratio * wanted).abs().max() <= TOLERANCE:
        raise Wrong(
            f"with parts of {sizes}, your gradient is {ratio:.3g} times that of the whole batch: weigh the means"
        )
    raise Wrong(
        f"with parts of {sizes}, your gradient is not that of all {count} samples. A part's mean has to count for as "
        "many samples as the part has"
    )
