"""Answers to the exercise of notebook 08."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from lab import vgpu
from tests.lab.exercises.answers import right, wrong

DEVICE = "vgpu:0"


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x.to(DEVICE)), y.to(DEVICE))


@right("08-fits")
def four_chunks(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.chunk(4), y.chunk(4), strict=True):
        (loss_of(net, part, target) / 4).backward()


@right("08-fits")
def parts_of_fifty(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.split(50), y.split(50), strict=True):
        (loss_of(net, part, target) * len(part) / len(x)).backward()


@right("08-fits")
def eight_from_the_device(net: Any, x: Tensor, y: Tensor) -> None:
    x, y = x.to(DEVICE), y.to(DEVICE)
    for part, target in zip(x.chunk(8), y.chunk(8), strict=True):
        (F.mse_loss(net(part), target, reduction="sum") / y.numel()).backward()


@right("08-fits")
def recomputed(net: Any, x: Tensor, y: Tensor) -> None:
    output = checkpoint_sequential(net, 4, x.to(DEVICE), use_reentrant=False)
    F.mse_loss(output, y.to(DEVICE)).backward()


@right("08-fits")
def recomputed_by_halves(net: Any, x: Tensor, y: Tensor) -> None:
    hidden = checkpoint(net[:4], x.to(DEVICE), use_reentrant=False)
    F.mse_loss(checkpoint(net[4:], hidden, use_reentrant=False), y.to(DEVICE)).backward()


@right("08-fits")
def kept_by_the_host(net: Any, x: Tensor, y: Tensor) -> None:
    with torch.autograd.graph.save_on_cpu():
        loss_of(net, x, y).backward()


@right("08-fits")
def by_autograd_grad(net: Any, x: Tensor, y: Tensor) -> None:
    parameters = list(net.parameters())
    for part, target in zip(x.chunk(8), y.chunk(8), strict=True):
        gradients = torch.autograd.grad(loss_of(net, part, target) / 8, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


@right("08-fits")
def smaller_until_it_fits(net: Any, x: Tensor, y: Tensor) -> None:
    parts = 1
    while True:
        net.zero_grad()
        try:
            for part, target in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (loss_of(net, part, target) / parts).backward()
            return
        except torch.OutOfMemoryError:
            parts *= 2


@wrong("08-fits", "With 512 samples and 3.2 MB, it does not fit: ")
def whole(net: Any, x: Tensor, y: Tensor) -> None:
    loss_of(net, x, y).backward()


@wrong("08-fits", "it does not fit: ")
def one_backward_at_the_end(net: Any, x: Tensor, y: Tensor) -> None:
    sum(loss_of(net, part, target) / 4 for part, target in zip(x.chunk(4), y.chunk(4), strict=True)).backward()


@wrong("08-fits", "With 512 samples and 3.2 MB, it does not fit: ")
def each_layer_recomputed(net: Any, x: Tensor, y: Tensor) -> None:
    F.mse_loss(checkpoint_sequential(net, 8, x.to(DEVICE), use_reentrant=False), y.to(DEVICE)).backward()


@wrong("08-fits", "8 of its layers' results were computed on cpu")
def on_the_cpu(net: Any, x: Tensor, y: Tensor) -> None:
    F.mse_loss(net.to("cpu")(x), y).backward()


@wrong("08-fits", "8 of its layers' results were computed on cpu")
def there_and_back(net: Any, x: Tensor, y: Tensor) -> None:
    F.mse_loss(net.cpu()(x), y).backward()
    net.to(DEVICE)


@wrong("08-fits", "8 of its layers' results were computed on cpu")
def a_copy_on_the_cpu(net: Any, x: Tensor, y: Tensor) -> None:
    twin = copy.deepcopy(net).cpu()
    F.mse_loss(twin(x), y).backward()
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        mine.grad = other.grad.to(DEVICE)


@wrong("08-fits", "4 of its layers' results were computed on cpu")
def half_on_the_cpu(net: Any, x: Tensor, y: Tensor) -> None:
    twin = copy.deepcopy(net[:4]).cpu()
    F.mse_loss(net[4:](twin(x).to(DEVICE)), y.to(DEVICE)).backward()
    for mine, other in zip(net[:4].parameters(), twin.parameters(), strict=True):
        mine.grad = other.grad.to(DEVICE)


@wrong("08-fits", "it takes another device than the one that there is, which has 3.2 MB")
def on_a_larger_device(net: Any, x: Tensor, y: Tensor) -> None:
    vgpu.enable(devices=1, memory="1GB")
    loss_of(net.to(DEVICE), x, y).backward()


@wrong("08-fits", "it takes another device than the one that there is, which has 3.2 MB")
def with_more_memory(net: Any, x: Tensor, y: Tensor) -> None:
    vgpu.current().pools[0].capacity = 10**9
    loss_of(net, x, y).backward()


@wrong("08-fits", "it fits, but only 256 of the samples went through the net")
def first_half(net: Any, x: Tensor, y: Tensor) -> None:
    loss_of(net, x[: len(x) // 2], y[: len(x) // 2]).backward()


@wrong("08-fits", "it fits, but only 64 of the samples went through the net")
def first_part(net: Any, x: Tensor, y: Tensor) -> None:
    loss_of(net, x[:64], y[:64]).backward()


@wrong("08-fits", "your gradient is 4 times as large as the whole batch's")
def summed(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.chunk(4), y.chunk(4), strict=True):
        loss_of(net, part, target).backward()


@wrong("08-fits", "your gradient is 0.0312 times as large as the whole batch's")
def divided_by_samples(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.chunk(4), y.chunk(4), strict=True):
        (loss_of(net, part, target) / len(part)).backward()


@wrong("08-fits", "your gradient is not the whole batch's")
def parts_of_unequal_weight(net: Any, x: Tensor, y: Tensor) -> None:
    sizes = [len(x) // 2, len(x) // 4, len(x) // 4]
    for part, target in zip(x.split(sizes), y.split(sizes), strict=True):
        (loss_of(net, part, target) / 3).backward()


@wrong("08-fits", "your gradient is not the whole batch's")
def last_part_only(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.chunk(4), y.chunk(4), strict=True):
        net.zero_grad()
        loss_of(net, part, target).backward()


@wrong("08-fits", "With 384 samples and 2.6 MB, it fits, but your gradient is 0.75 times as large")
def of_512_samples(net: Any, x: Tensor, y: Tensor) -> None:
    for part, target in zip(x.split(128), y.split(128), strict=True):
        (loss_of(net, part, target) * 128 / 512).backward()


@wrong("08-fits", "has changed. Gradients are asked for, and no update")
def with_an_update(net: Any, x: Tensor, y: Tensor) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for part, target in zip(x.chunk(4), y.chunk(4), strict=True):
        (loss_of(net, part, target) / 4).backward()
        optimizer.step()


@wrong("08-fits", "0.0.weight has no gradient afterwards")
def no_backward(net: Any, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return loss_of(net, x[:8], y[:8])


@wrong("08-fits", "0.0.weight has no gradient afterwards")
def cleared_at_the_end(net: Any, x: Tensor, y: Tensor) -> None:
    four_chunks(net, x, y)
    net.zero_grad()


@wrong("08-fits", "does not require grad", outcome="raised")
def without_gradients(net: Any, x: Tensor, y: Tensor) -> None:
    with torch.no_grad():
        loss_of(net, x[:128], y[:128]).backward()


@wrong("08-fits", "Expected all tensors to be on the same device", outcome="raised")
def x_stays_on_the_cpu(net: Any, x: Tensor, y: Tensor) -> None:
    F.mse_loss(net(x), y).backward()
