"""Answers to the exercises of notebook 04."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.lab.exercises.answers import right, wrong

DEVICES = ("vgpu:0", "vgpu:1")
Net = Any
Optimizer = Any


# -- 04-step ---------------------------------------------------------------------------------------------------------


def loss_of(net: Net, x: Tensor, y: Tensor) -> Tensor:
    output = net(x)
    return F.cross_entropy(output, y.to(output.device))


@right("04-step")
def targets_to_the_output(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@right("04-step")
def output_to_the_targets(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> Tensor:
    optimizer.zero_grad(set_to_none=False)
    loss = nn.CrossEntropyLoss()(net(x).to(y.device), y)
    loss.backward()
    optimizer.step()
    return loss


@right("04-step")
def zeroed_afterwards(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> Any:
    loss = loss_of(net, x, y)
    loss.backward()
    optimizer.step()
    net.zero_grad()
    return loss.detach().cpu().numpy()


@right("04-step")
def to_the_last_layer(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> Any:
    optimizer.zero_grad()
    scores = net(x)
    loss = -scores.log_softmax(1)[torch.arange(len(y)), y.to(scores.device)].mean()
    loss.backward()
    optimizer.step()
    return np.float32(loss.detach().cpu())


@right("04-step")
def by_a_closure(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    def again() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(net, x, y)
        loss.backward()
        return loss

    return optimizer.step(again).item()


@right("04-step")
def by_autograd_grad(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> list[float]:
    parameters = list(net.parameters())
    loss = loss_of(net, x, y)
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.reshape(1)


@wrong("04-step", "Here the net's output is on vgpu:1.", outcome="raised")
def always_to_the_first(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = F.cross_entropy(net(x), y.to(DEVICES[0]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "Here the net's output is on vgpu:0.", outcome="raised")
def always_to_the_second(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = F.cross_entropy(net(x), y.to(DEVICES[1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "Here the net's output is on vgpu:1.", outcome="raised")
def where_the_first_layer_is(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = F.cross_entropy(net(x), y.to(next(net.parameters()).device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "a call was refused, and it went on with something else")
def one_then_the_other(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    output = net(x)
    try:
        loss = F.cross_entropy(output, y.to(DEVICES[0]))
    except RuntimeError:
        loss = F.cross_entropy(output, y.to(DEVICES[1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "body.weight has gone to cpu; the net has it on vgpu:0")
def all_to_the_cpu(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    net.to("cpu")
    net.first = net.second = "cpu"
    return targets_to_the_output(net, optimizer, x, y)


@wrong("04-step", "head.weight has gone to vgpu:0; the net has it on vgpu:1")
def all_to_the_first(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    net.to(DEVICES[0])
    net.second = DEVICES[0]
    return targets_to_the_output(net, optimizer, x, y)


@wrong("04-step", "a layer's result was computed on cpu; the net's layers are on vgpu:0 and vgpu:1")
def there_and_back(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    first, second = net.first, net.second
    net.to("cpu")
    net.first = net.second = "cpu"
    loss = targets_to_the_output(net, optimizer, x, y)
    net.body.to(first)
    net.head.to(second)
    net.first, net.second = first, second
    return loss


@wrong("04-step", "the net that it is given was never called")
def a_copy_on_the_cpu(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    twin = copy.deepcopy(net).to("cpu")
    twin.first = twin.second = "cpu"
    loss = F.cross_entropy(twin(x), y)
    loss.backward()
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        mine.grad = other.grad.to(mine.device)
    optimizer.step()
    return loss.item()


@wrong("04-step", "In step 2, by SGD with lr=0.1 and momentum, the gradients are still those of the steps before")
def without_zero_grad(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "there was no gradient when the optimizer made its step: all were None or 0")
def zeroed_after_backward(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@wrong("04-step", "there was no gradient when the optimizer made its step")
def without_backward(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@wrong("04-step", "the gradients are there, but no step was made: the parameters are where they were")
def without_a_step(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@wrong("04-step", "there are no gradients, and no step was made")
def the_loss_alone(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    return loss_of(net, x, y).item()


@wrong("04-step", "the optimizer has made 2 steps in place of one")
def two_steps(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = targets_to_the_output(net, optimizer, x, y)
    optimizer.step()
    return loss


@wrong("04-step", "the parameters have changed, but the optimizer that it is given has made no step")
def an_optimizer_of_its_own(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    return targets_to_the_output(net, torch.optim.SGD(net.parameters(), lr=0.1), x, y)


@wrong("04-step", "the parameters have changed, but the optimizer that it is given has made no step")
def by_hand(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = loss_of(net, x, y)
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= optimizer.param_groups[0]["lr"] * parameter.grad
    return loss.item()


@wrong("04-step", "it is the loss after the step")
def loss_afterwards(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    targets_to_the_output(net, optimizer, x, y)
    return loss_of(net, x, y).item()


@wrong("04-step", "it is the sum over the samples")
def loss_summed(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    output = net(x)
    loss = F.cross_entropy(output, y.to(output.device), reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "the gradients are 8 times those of one device")
def backward_of_the_sum(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    loss = loss_of(net, x, y)
    optimizer.zero_grad()
    (loss * len(x)).backward()
    optimizer.step()
    return loss.item()


@wrong("04-step", "the loss is 1.")
def targets_that_are_zero(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    return targets_to_the_output(net, optimizer, x, torch.zeros_like(y))


@wrong("04-step", "one number, the loss, is asked for, and this is None")
def nothing_returned(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> None:
    targets_to_the_output(net, optimizer, x, y)


@wrong("04-step", "the gradients are right, but the parameters are")
def another_rate(net: Net, optimizer: Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.param_groups[0]["lr"] = 0.01
    return targets_to_the_output(net, optimizer, x, y)


# -- 04-anywhere -----------------------------------------------------------------------------------------------------


@right("04-anywhere")
class Cut(nn.Module):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5).to(first), nn.Conv2d(10, 20, 5).to(first)
        self.fc1, self.fc2 = nn.Linear(320, 50).to(second), nn.Linear(50, 10).to(second)

    def images(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x.to(self.first)), 2))
        return F.relu(F.max_pool2d(self.conv2(x), 2)).flatten(1)

    def numbers(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x.to(self.second))))

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers(self.images(x))


@right("04-anywhere")
class MadeThere(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__("cpu", "cpu")
        self.first, self.second = first, second
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5, device=first), nn.Conv2d(10, 20, kernel_size=5, device=first)
        self.fc1, self.fc2 = nn.Linear(320, 50, device=second), nn.Linear(50, 10, device=second)
        self.pool = nn.MaxPool2d(2)

    def images(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x.to(self.first)).relu())
        return self.pool(self.conv2(x).relu()).view(-1, 320)


@right("04-anywhere")
class FollowsItsLayers(nn.Module):
    def __init__(self, *devices: Any) -> None:
        super().__init__()
        layers = {"conv1": nn.Conv2d(1, 10, 5), "conv2": nn.Conv2d(10, 20, 5)}
        layers |= {"fc1": nn.Linear(320, 50), "fc2": nn.Linear(50, 10)}
        for place, (name, layer) in enumerate(layers.items()):
            self.add_module(name, layer.to(devices[place // 2]))

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.named_children():
            x = layer(x.to(layer.weight.device))
            if name.startswith("conv"):
                x = F.max_pool2d(x, 2)
            if name == "conv2":
                x = x.flatten(1)
            if name != "fc2":
                x = F.relu(x)
        return x


@right("04-anywhere")
class BringsItsScoresBack(Cut):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.device)


@right("04-anywhere")
class ByParameters(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        x = (x.to(self.second) @ self.fc1.weight.T + self.fc1.bias).clamp(min=0)
        return F.linear(x, self.fc2.weight, self.fc2.bias)


@wrong("04-anywhere", "The class is called with two devices.", outcome="raised")
class TakesNone(Cut):
    def __init__(self) -> None:
        super().__init__(*DEVICES)


@wrong("04-anywhere", "Anywhere('vgpu:0', 'vgpu:0') has fc1 on vgpu:1, and it belongs on vgpu:0")
class NeverBothOnOne(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(first, "vgpu:1" if str(first) == "vgpu:0" else second)


@wrong(
    "04-anywhere",
    "Anywhere(torch.device('vgpu:1'), torch.device('vgpu:0')) has conv1 on vgpu:0, and it belongs on vgpu:1",
)
class WrittenIntoInit(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(*DEVICES)
        self.first, self.second = first, second


@wrong("04-anywhere", "Here first is vgpu:1, and second is vgpu:0.", outcome="raised")
class WrittenIntoForward(Cut):
    def images(self, x: Tensor) -> Tensor:
        self.first = DEVICES[0]
        return super().images(x)


@wrong("04-anywhere", "has conv1 on vgpu:1, and it belongs on vgpu:0")
class Swapped(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(second, first)


@wrong("04-anywhere", "has conv2 on vgpu:1, and it belongs on vgpu:0")
class CutElsewhere(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(first, second)
        self.conv2.to(second)


@wrong("04-anywhere", "has conv1 on cpu, and it belongs on vgpu:0")
class PlacedInForward(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__("cpu", "cpu")
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        self.conv1.to(self.first), self.conv2.to(self.first), self.fc1.to(self.second), self.fc2.to(self.second)
        return super().forward(x)


@wrong("04-anywhere", "Here first is vgpu:0, and second is vgpu:1.", outcome="raised")
class CrossesNothing(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)))


@wrong("04-anywhere", "Here first is vgpu:0, and second is vgpu:1.", outcome="raised")
class LeavesTheImages(Cut):
    def images(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        return F.relu(F.max_pool2d(self.conv2(x), 2)).flatten(1)


@wrong("04-anywhere", "all scores are 0, whatever the image")
class Zeros(Cut):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 10)


@wrong("04-anywhere", "The ReLU after fc1 is missing")
class LostRelu(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x.to(self.second)))


@wrong("04-anywhere", "The ReLU after conv2 is missing")
class LostReluAtTheCut(Cut):
    def images(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x.to(self.first)), 2))
        return F.max_pool2d(self.conv2(x), 2).flatten(1)


@wrong("04-anywhere", "a log-softmax of the scores")
class LogSoftmax(Cut):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(1)


@wrong("04-anywhere", "The mean of each 2 x 2 square is taken")
class MeanPool(Cut):
    def images(self, x: Tensor) -> Tensor:
        x = F.relu(F.avg_pool2d(self.conv1(x.to(self.first)), 2))
        return F.relu(F.avg_pool2d(self.conv2(x), 2)).flatten(1)


@wrong("04-anywhere", "away from those of Net with the same parameters")
class WithDropout(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        return super().numbers(F.dropout(x, 0.5))


@wrong("04-anywhere", "cannot be trained: its scores are right, but no gradient leads back from them")
class WithoutGradients(Cut):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@wrong("04-anywhere", "no gradient reaches conv1, conv2, so it would never learn there")
class DetachedAtTheCut(Cut):
    def images(self, x: Tensor) -> Tensor:
        return super().images(x).detach()


@wrong("04-anywhere", "no gradient reaches conv1, conv2")
class AsNewTensor(Cut):
    def images(self, x: Tensor) -> Tensor:
        return torch.tensor(super().images(x).tolist())


@wrong("04-anywhere", "the gradient of conv1.weight is")
class ScaledGradient(Cut):
    def images(self, x: Tensor) -> Tensor:
        hidden = super().images(x)
        return hidden.detach() * 0.5 + hidden * 0.5


@wrong("04-anywhere", "linear was computed on cpu, and its layers are on vgpu:1")
class ComputesOnTheCPU(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        x = F.relu(F.linear(x.cpu(), self.fc1.weight.cpu(), self.fc1.bias.cpu()))
        return F.linear(x, self.fc2.weight.cpu(), self.fc2.bias.cpu())


@wrong("04-anywhere", "after a forward, has fc1 on vgpu:0, and it belongs on vgpu:1")
class MovesInForward(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        self.fc1.to(x.device), self.fc2.to(x.device)
        return self.fc2(F.relu(self.fc1(x)))


@wrong("04-anywhere", "a call was refused, and it went on with something else")
class TriesTheOne(Cut):
    def numbers(self, x: Tensor) -> Tensor:
        try:
            return self.fc2(F.relu(self.fc1(x)))
        except RuntimeError:
            return super().numbers(x)


@wrong("04-anywhere", "has no conv1.weight any more: keep conv1, conv2, fc1 and fc2")
class OtherNames(nn.Module):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 10, 5).to(first), nn.Linear(320, 10).to(second))


@wrong("04-anywhere", "has fc1.weight of shape (100, 320), and it was (50, 320)")
class Wider(Cut):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(first, second)
        self.fc1, self.fc2 = nn.Linear(320, 100).to(second), nn.Linear(100, 10).to(second)


@wrong("04-anywhere", "and scores of shape (5, 10) are asked for")
class OneImage(Cut):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


@wrong("04-anywhere", "makes ('vgpu:0', 'vgpu:1'), and a net is asked for")
def no_net(first: Any, second: Any) -> Any:
    return first, second
