"""Model parallelism: each device holds a part of the layers.

Activations cross from device to device on the way forward, and their gradients cross back. With one microbatch a device
works while the others wait. With several, the devices overlap: while vgpu:1 has the first microbatch, vgpu:0 is at the
second. That is GPipe's schedule (Huang et al., 2019, arXiv:1811.06965): all forwards, then all backwards, one update.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab.errors import DeviceError
from lab.layers import layer_at
from lab.strategies.base import Job, backward, evaluating, layer_hooks, loss_function, make_optimizer, transfer
from lab.structures import changed
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
            backward(loss, AlignDevices(recorder) if self.automatic else None)

        self.enter("update")
        with recorder.span("optimizer", self.devices, "optimizer"):
            self.optimizer.step()
        recorder.microbatch = 0
        return torch.stack([loss.detach() for loss in losses]).sum() if count > 1 else losses[0].detach()

    def forward(self, inputs: Tensor) -> Tensor:
        with AlignDevices(self.recorder) if self.automatic else contextlib.nullcontext():
            output: Tensor = self.net(inputs)
        return output

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            return self.forward(inputs.to(self.first_device))


def place(net: nn.Module, placement: dict[str, str]) -> None:
    """Moves every layer to its device, and the whole net where that is one.

    Raises:
        DeviceError: when two layers on different devices share a parameter, which can live in one place only.
    """
    home: dict[nn.Parameter, str] = {}
    layers = {path: layer_at(net, path) for path in placement}
    for path, device in placement.items():
        layer = layers[path]
        for parameter in layer.parameters():
            other = home.setdefault(parameter, path)
            if placement[other] != device:
                raise DeviceError(
                    f"{other!r} (on {placement[other]}) and {path!r} (on {device}) share a parameter, which lives on "
                    "one device: give both layers the same one"
                )
    devices = set(placement.values())
    if len(devices) == 1:  # all of it, also what belongs to no layer
        net.to(devices.pop())
        return
    for path, device in placement.items():
        layers[path].to(device)


def bring_inputs(net: nn.Module, placement: dict[str, str], recorder: Recorder) -> None:
    """Has every layer's inputs moved to its device first."""

    def bring_to(device: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return _moved(args, device, recorder), _moved(kwargs, device, recorder)

        return hook

    for path, device in placement.items():
        layer = layer_at(net, path)
        if isinstance(layer, torch.jit.ScriptModule):  # which takes no hooks
            layer.forward = _after(bring_to(device), layer, layer.forward)
        else:
            layer.register_forward_pre_hook(bring_to(device), with_kwargs=True)


def _after(hook: Any, layer: nn.Module, forward: Any) -> Any:
    def brought(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = hook(layer, args, kwargs)
        return forward(*args, **kwargs)

    return brought


class AlignDevices(TorchFunctionMode):
    """Between layers, moves the operands of an operation to one device: to where its first operand is.

    So `x + layer(x)` works although the layer lives elsewhere. Layers bring their inputs themselves, and operands of no
    dimension may stay where they are, as on CUDA. Of a net whose layers are all on other devices, nothing is computed
    on the CPU: a constant that its forward makes there goes to where the other operands are.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._host = None if "cpu" in recorder.devices else torch.device("cpu")

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _MOVES:
            home = None
            for tensor in _operands((*args, *kwargs.values())):
                device = tensor.device
                if home is None:
                    home = device
                elif device != home:
                    if home == self._host:
                        home = self._first_elsewhere((*args, *kwargs.values()))
                    args, kwargs = self._aligned(func, args, kwargs, str(home))
                    break
        return func(*args, **kwargs)

    def _first_elsewhere(self, values: tuple[Any, ...]) -> torch.device:
        return next(tensor.device for tensor in _operands(values) if tensor.device != self._host)

    def _aligned(self, func: Any, args: Any, kwargs: Any, home: str) -> tuple[Any, Any]:
        lengths_stay = getattr(func, "__name__", "") in _WITH_LENGTHS
        return (
            _moved(args, home, self._recorder, lengths_stay),
            _moved(kwargs, home, self._recorder, lengths_stay),
        )


_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.copy_, torch.Tensor.type}
"""What moves tensors itself, and is left to do so."""
_WITH_LENGTHS = {"_pack_padded_sequence", "_pad_packed_sequence", "lstm", "gru", "rnn_tanh", "rnn_relu"}
"""What takes the lengths of sequences, as integers on the CPU, beside data that may be elsewhere."""


def _operands(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            if value.dim():
                found.append(value)
        elif isinstance(value, tuple | list):
            found += _operands(value)
    return found


def _moved(value: Any, device: str, recorder: Recorder, lengths_stay: bool = False) -> Any:
    def move(tensor: Tensor) -> Tensor:
        if lengths_stay and tensor.device.type == "cpu" and tensor.dtype == torch.int64:
            return tensor
        return transfer(tensor, device, recorder)

    return changed(value, move)


STRATEGY = ModelParallel
