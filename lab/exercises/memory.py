"""Checks of notebook 08: memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from lab.exercises import surroundings
from lab.exercises.grading import Wrong, call, exercise
from lab.exercises.machines import virtual

if TYPE_CHECKING:
    from torch import nn

    from lab.vgpu.machine import Machine

LAYERS, WIDTH = 8, 128
CASES = ((512, 3.2), (384, 2.6))
"""Samples, and the device's MB: the whole batch at once needs 3.4 and 2.7."""
TOLERANCE = 1e-4
"""Of a gradient's length."""
DEVICE = "vgpu:0"


@exercise(
    "08-fits",
    todo="Write step: the gradient of the whole batch in .grad, on a device that is too small to do it at once.",
    hints=(
        "What fills the memory: parameters, gradients, or activations? Which of them depend on the batch?",
        "Gradients add up over several calls of backward; or activations can be computed a second time.",
        "Parts of the batch, with a backward for each, and each part's mean counting for as many samples as it has; or "
        "torch.utils.checkpoint.checkpoint_sequential(net, 4, x, use_reentrant=False).",
    ),
)
def fits(answer: Any) -> str:
    """The whole batch's gradient in little memory."""
    import torch

    peaks = []
    for number, (samples, capacity_mb) in enumerate(CASES):
        torch.manual_seed(8 + number)
        net, x, y = _net(), torch.randn(samples, WIDTH), torch.randn(samples, WIDTH)
        alone = copy.deepcopy(net)
        torch.nn.functional.mse_loss(alone(x), y).backward()
        case = f"With {samples} samples and {capacity_mb} MB"
        with virtual(devices=1, memory=round(capacity_mb * 1e6)) as machine:
            placed = net.to(DEVICE)
            seen = _attempt(answer, placed, (x.clone(), y.clone()), machine, case)
            _unchanged(placed, alone, case)
            _compare(placed, alone, case, seen, samples)
            peaks.append(f"{machine.pools[0].peak / 1e6:.2f}")
    return f"The same gradient, with {' and '.join(peaks)} MB at most."


def _attempt(answer: Any, net: nn.Module, data: tuple[Any, Any], machine: Machine, case: str) -> int:
    """Runs it and sees that it stays on the device that there is. Returns how many samples the first layer saw."""
    import torch

    from lab.exercises.watching import Operations

    seen: list[int] = []
    next(net.children()).register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    capacity = machine.pools[0].capacity

    def attempt() -> Any:
        try:
            return answer(net, *data)
        except torch.OutOfMemoryError as error:
            return error

    with Operations() as watch:
        ended = call(attempt if callable(answer) else answer)
    if surroundings.machine() is not machine or machine.pools[0].capacity != capacity:
        raise Wrong(f"{case}: it takes another device than the one that there is, which has {capacity / 1e6:g} MB.")
    if isinstance(ended, torch.OutOfMemoryError):
        raise Wrong(f"{case}, it does not fit: {str(ended).rstrip('.')}.")
    elsewhere = [device for device in watch.of_layers() if device != torch.device(DEVICE)]
    if elsewhere:
        raise Wrong(
            f"{case}: the net is on {DEVICE}, and {len(elsewhere)} of its layers' results were computed on "
            f"{elsewhere[0]}."
        )
    for name, parameter in net.named_parameters():
        if parameter.device != torch.device(DEVICE):
            raise Wrong(f"{case}: the net was on {DEVICE}, and {name} is on {parameter.device} now.")
    return sum(seen)


def _unchanged(net: nn.Module, alone: nn.Module, case: str) -> None:
    import torch

    for (name, mine), before in zip(net.named_parameters(), alone.parameters(), strict=True):
        if not torch.equal(mine.detach().cpu(), before):
            raise Wrong(f"{case}: {name} has changed. Gradients are asked for, and no update.")


def _compare(net: nn.Module, alone: nn.Module, case: str, seen: int, samples: int) -> None:
    """Raises:
    Wrong: unless the gradients are those of the whole batch.
    """
    import torch

    gradients = []
    for name, parameter in net.named_parameters():
        if parameter.grad is None:
            raise Wrong(f"{case}, it fits, but {name} has no gradient afterwards.")
        gradients.append(parameter.grad.detach().cpu().flatten())
    found = torch.cat(gradients)
    wanted = torch.cat([parameter.grad.flatten() for parameter in alone.parameters() if parameter.grad is not None])
    away = float((found - wanted).norm() / wanted.norm())
    if away <= TOLERANCE:
        return
    if seen < samples:
        raise Wrong(f"{case}, it fits, but only {seen} of the samples went through the net.")
    ratio = float((found @ wanted) / (wanted @ wanted))
    if float((found - ratio * wanted).norm() / wanted.norm()) <= TOLERANCE * max(1, abs(ratio)):
        raise Wrong(f"{case}, it fits, but your gradient is {ratio:.3g} times as large as the whole batch's.")
    raise Wrong(
        f"{case}, it fits, but your gradient is not the whole batch's: it is {100 * away:.2g}% of its length away."
    )


def _net() -> nn.Module:
    from torch import nn

    return nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)))
