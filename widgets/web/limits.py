"""What a visitor may ask for. The lab refuses what cannot run; this refuses what a shared machine should not run.

Every start goes through `Limits.problems` on the server, whatever the page offered: a request can be made by hand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from lab import checks, data, nets, strategies
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment
from lab.vgpu import profiles
from widgets.web import text

RANK_BYTES = 300_000_000
"""Of a worker process before it has a net or data: PyTorch, gloo and the data set; 235 MB were measured."""
COPIES_OF_PARAMETERS = 4
"""The parameters, their gradients, and two of the optimizer's (Adam)."""
ITEM_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that one run may ask for. The defaults are those of `parallel-lab serve`."""

    ranks: int = 4
    virtual_gpus: int = 8
    steps: int = 100_000
    epochs: int = 50
    batch_size: int = 4096
    microbatches: int = 256
    timeout_s: float = 60.0
    seconds: float | None = 600.0
    """Of wall time, after which a run is stopped; None lets it go on."""
    faults: bool = True
    """Whether a visitor may break runs of their own on purpose."""

    def problems(self, experiment: Experiment) -> list[Problem]:
        """Everything in it that is not allowed here."""
        found = [
            Problem(name, text.OVER_LIMIT.format(value=f"{getattr(experiment, name):,}", limit=f"{most:,}"))
            for name, most in self._numbers().items()
            if (getattr(experiment, name) or 0) > most
        ]
        virtual = [name for name in experiment.devices if name.startswith("vgpu:")]
        beyond = [name for name in virtual if int(name.partition(":")[2]) >= self.virtual_gpus]
        if beyond:
            found.append(Problem("devices", text.NO_SUCH_VIRTUAL.format(device=beyond[0], count=self.virtual_gpus)))
        if profiles.is_path(experiment.hardware):
            found.append(Problem("hardware", text.NO_PATHS))
        if experiment.net.startswith(checks.OWN):
            found.append(Problem("net", text.NO_OWN_NETS))
        if experiment.faults and not self.faults:
            found.append(Problem("faults", text.NO_FAULTS))
        return found

    def clamped(self, experiment: Experiment) -> tuple[Experiment, list[Problem]]:
        """The Experiment with numbers brought down to what is allowed, and a sentence for each of them.

        Raises:
            ExperimentError: when something that is no number is not allowed, or what is left of it cannot run.
        """
        lower = {name: most for name, most in self._numbers().items() if (getattr(experiment, name) or 0) > most}
        told = [
            Problem(name, text.CLAMPED.format(value=f"{getattr(experiment, name):,}", limit=f"{most:,}"))
            for name, most in lower.items()
        ]
        allowed = experiment.replace(**lower) if lower else experiment
        if problems := self.problems(allowed):
            raise ExperimentError([*told, *problems])
        return allowed, told

    def _numbers(self) -> dict[str, int | float]:
        return {
            "world_size": self.ranks,
            "steps": self.steps,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "microbatches": self.microbatches,
            "timeout_s": self.timeout_s,
        }


PERSONAL = Limits(
    ranks=16, virtual_gpus=checks.MAX_VGPUS, steps=100_000_000, epochs=10_000, batch_size=65_536, microbatches=4096,
    timeout_s=3600.0, seconds=None,
)  # fmt: skip
"""Of `parallel-lab demo`: the machine is the visitor's own."""


def ranks(experiment: Experiment) -> int:
    """Worker processes that it takes."""
    several = strategies.REGISTRY[experiment.strategy].several_ranks
    return (experiment.world_size or 1) if several else 1


def memory_bytes(experiment: Experiment) -> int:
    """About how much memory its processes take, in bytes, on the host.

    Parameters are counted once more for each rank, or device that holds a copy; activations as autograd keeps them for
    the whole batch, wherever its parts are. GPUs' own memory counts too, which errs on the safe side.
    """
    if experiment.data is None or experiment.net not in nets.REGISTRY:
        return RANK_BYTES
    parameters, activations = _sizes(experiment.net, experiment.data)
    item = ITEM_BYTES[experiment.dtype]
    processes = ranks(experiment)
    copies = max(processes, len(experiment.devices) if experiment.strategy == "data_parallel" else 1)
    held = parameters * COPIES_OF_PARAMETERS * copies + activations * experiment.batch_size
    return processes * RANK_BYTES + held * item


@functools.cache
def _sizes(net: str, data_name: str) -> tuple[int, int]:
    """Numbers in a net's parameters, and in what autograd keeps of one sample. Nothing is computed: the net is traced
    on torch's meta device."""
    import torch

    spec = data.REGISTRY[data_name].spec
    kept = 0

    def note(saved: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        if id(saved) not in own:
            kept += saved.numel()
        return saved

    count = 2  # batch norm refuses a batch of one
    with torch.device("meta"):
        module = nets.build(net, spec)
        own = {id(parameter) for parameter in module.parameters()}
        size = (count, *spec.shape)
        inputs = torch.zeros(size, dtype=torch.int64) if spec.kind == "tokens" else torch.zeros(size)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            module(inputs)
    return sum(parameter.numel() for parameter in module.parameters()), kept // count
