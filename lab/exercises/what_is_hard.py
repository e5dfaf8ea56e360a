"""Checks of notebook 07: what is hard."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from lab.exercises.grading import Wrong, call, exercise

STEPS, SAVED = 6, 3


@exercise(
    "07-resume",
    todo="torch.save can write a dictionary of state_dict()s; load reads it, and puts each back with load_state_dict.",
)
def resume(save: Any, load: Any) -> str:
    """A run that was ended goes on as if nothing had happened."""
    import torch

    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(7)
        batches = [(torch.randn(8, 4), torch.randn(8, 2)) for _ in range(STEPS)]
        path = Path(folder) / "checkpoint.pt"
        net, optimizer = _fresh(0)
        _train(net, optimizer, batches[:SAVED])
        call(save, path, net, optimizer, SAVED)
        if not path.exists():
            raise Wrong(f"after save, there is no file at the path that it was given, {path.name}")
        _train(net, optimizer, batches[SAVED:])

        again, another = _fresh(1)
        step = call(load, path, again, another)
        if step != SAVED:
            raise Wrong(f"load has to return the step to go on with, {SAVED}; yours returns {step!r}")
        _train(again, another, batches[step:])
        return _verdict(net, again, optimizer, another)


def _fresh(seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Linear(4, 2)
    return net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def _train(net: Any, optimizer: Any, batches: Any) -> None:
    import torch

    for x, y in batches:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()


def _verdict(net: Any, again: Any, optimizer: Any, another: Any) -> str:
    import torch

    if torch.equal(net.weight, again.weight) and torch.equal(net.bias, again.bias):
        return f"a run that ended after step {SAVED} and went on has the same parameters, bit for bit."
    momentum, restored = (each.state[each.param_groups[0]["params"][0]] for each in (optimizer, another))
    if not torch.allclose(momentum["momentum_buffer"], restored["momentum_buffer"]):
        difference = (net.weight - again.weight).abs().max()
        raise Wrong(
            f"after {STEPS} steps the parameters differ by {difference:.2g} from those of a run without a break. "
            "What besides the net has a memory of the steps before? Here it is SGD, with momentum"
        )
    raise Wrong("the parameters differ from those of a run without a break: are they all put back by load?")
