"""Model parallelism: each device holds a part of the layers.

Activations cross from device to device on the way forward, and their gradients cross back. With one microbatch a device
works while the others wait. With several, the devices overlap: while vgpu:1 has the first microbatch, vgpu:0 is at the
second. That is GPipe's schedule (Huang et al., 2019, arXiv:1811.06965): all forwards, then all backwards, one update.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab.errors import DeviceError
from lab.strategies.base import Job, evaluating, layer_hooks, loss_function, make_optimizer, transfer
from lab.timing.recorder import Recorder


class ModelParallel:
    """The net's layers on the devices that the placement gives them."""

    def __init__(self, job: Job) -> None:
        self.recorder = job.recorder
        self.enter = job.enter
        self.devices = list(dict.fromkeys(job.placement.values()))
        self.first_device = self.devices[0]
        # Where the output is, there the loss is computed: most likely where the last layer is.
        self.target_device = list(job.placement.values())[-1]
        self.automatic = job.experiment.transfers == "auto"
        self.microbatches = job.experiment.microbatches

        self.net = job.net
        place(self.net, job.placement)
        self.optimizer = make_optimizer(job.experiment, self.net)
        if self.automatic:
            bring_inputs(self.net, job.placement, self.recorder)
        # After `bring_inputs`: a layer's turn begins when its input has arrived.
        self.hooks = layer_hooks(job)

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        recorder, hooks = self.recorder, self.hooks
        count = min(self.microbatches, len(inputs))
        # The host waits for what it copies to a device, so all of it goes before the first microbatch.
        inputs = transfer(inputs, self.first_device, recorder)
        targets = transfer(targets, self.target_device, recorder)
        self.enter("forward")
        self.optimizer.zero_grad()

        losses = []
        for index, (x, y) in enumerate(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True)):
            recorder.microbatch = index
            hooks.start_forward()
            output = self.forward(x)
            y = transfer(y, str(output.device), recorder)
            # Weighted by size, the microbatches' mean losses add up to the batch's, and so do their gradients.
            loss = loss_function(output, y)
            losses.append(loss if count == 1 else loss * (len(x) / len(inputs)))

        self.enter("backward")
        for index, loss in enumerate(losses):
            recorder.microbatch = index
            hooks.start_backward()
            loss.backward()

        self.enter("update")
        with recorder.span("optimizer", self.devices, "optimizer"):
            self.optimizer.step()
        recorder.microbatch = 0
        return torch.stack([loss.detach() for loss in losses]).sum() if count > 1 else losses[0].detach()

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.automatic:
            output: Tensor = self.net(inputs)
            return output
        with AlignDevices(self.recorder):
            aligned: Tensor = self.net(inputs)
        return aligned

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            return self.forward(inputs.to(self.first_device))


def place(net: nn.Module, placement: dict[str, str]) -> None:
    """Moves every layer to its device.

    Raises:
        DeviceError: when two layers on different devices share a parameter, which can live in one place only.
    """
    home: dict[nn.Parameter, str] = {}
    for path, device in placement.items():
        layer = net.get_submodule(path)
        for parameter in layer.parameters():
            other = home.setdefault(parameter, path)
            if placement[other] != device:
                raise DeviceError(
                    f"{other!r} (on {placement[other]}) and {path!r} (on {device}) share a parameter, which lives on "
                    "one device: give both layers the same one"
                )
    for path, device in placement.items():
        net.get_submodule(path).to(device)


def bring_inputs(net: nn.Module, placement: dict[str, str], recorder: Recorder) -> None:
    """Has every layer's inputs moved to its device first."""

    def bring_to(device: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return _moved(args, device, recorder), _moved(kwargs, device, recorder)

        return hook

    for path, device in placement.items():
        net.get_submodule(path).register_forward_pre_hook(bring_to(device), with_kwargs=True)


class AlignDevices(TorchFunctionMode):
    """Between layers, moves the operands of an operation to one device: to where its first operand is.

    So `x + layer(x)` works although the layer lives elsewhere. Layers bring their inputs themselves, and operands of no
    dimension may stay where they are, as on CUDA.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _MOVES:
            home = None
            for tensor in _tensors((*args, *kwargs.values())):
                device = tensor.device
                if home is None:
                    home = device
                elif device != home:
                    args = _moved(args, str(home), self._recorder)
                    kwargs = _moved(kwargs, str(home), self._recorder)
                    break
        return func(*args, **kwargs)


_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.copy_, torch.Tensor.type}
"""What moves tensors itself, and is left to do so."""


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            if value.dim():
                found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors(value)
    return found


def _moved(value: Any, device: str, recorder: Recorder) -> Any:
    if isinstance(value, Tensor):
        return transfer(value, device, recorder)
    if isinstance(value, dict):
        return {key: _moved(item, device, recorder) for key, item in value.items()}
    if type(value) is tuple or type(value) is list:
        return type(value)(_moved(item, device, recorder) for item in value)
    return value


STRATEGY = ModelParallel
