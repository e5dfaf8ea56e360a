"""Nets that plain PyTorch trains and that are unlike those of the registry, each for images of 1 x 28 x 28."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Two(nn.Module):
    """784 -> 32 -> 10, made of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = self.layers()

    def layers(self) -> tuple[nn.Module, nn.Module]:
        return nn.Linear(784, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x.flatten(1))))


class OldWeightNorm(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return torch.nn.utils.weight_norm(nn.Linear(784, 32)), nn.Linear(32, 10)


class NewWeightNorm(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        weight_norm = nn.utils.parametrizations.weight_norm
        return weight_norm(nn.Linear(784, 32, bias=False)), weight_norm(nn.Linear(32, 10))


class Orthogonal(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return nn.utils.parametrizations.orthogonal(nn.Linear(784, 32)), nn.Linear(32, 10)


class OldSpectralNorm(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return nn.utils.spectral_norm(nn.Linear(784, 32)), nn.Linear(32, 10)


class NewSpectralNorm(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return nn.utils.parametrizations.spectral_norm(nn.Linear(784, 32)), nn.Linear(32, 10)


class Lazy(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return nn.Sequential(nn.LazyLinear(32), nn.LazyBatchNorm1d()), nn.LazyLinear(10)


class Scripted(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return torch.jit.trace(nn.Linear(784, 32), torch.zeros(2, 784)), nn.Linear(32, 10)


class Compiled(Two):
    def layers(self) -> tuple[nn.Module, nn.Module]:
        return torch.compile(nn.Linear(784, 32), backend="eager"), nn.Linear(32, 10)


class HoldsALock(Two):
    """What it holds cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.first.lock = threading.Lock(), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


class Tied(nn.Module):
    """Its first and its last layer share a weight, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(784, 64, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.widen, self.tail = nn.Linear(64, 784), nn.Linear(784, 64, bias=False)
        self.tail.weight = self.embed.weight
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(self.tail(self.widen(x)))


class SharedModule(nn.Module):
    """One module under two names, in two containers, called three times."""

    def __init__(self) -> None:
        super().__init__()
        same = nn.Linear(32, 32)
        self.start, self.a, self.b = nn.Linear(784, 32), nn.Sequential(same), nn.Sequential(nn.Tanh(), same)
        self.out = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.a(self.b(self.a(self.start(x.flatten(1))))))


class UsesWeights(nn.Module):
    """Uses weights without calling their layers: a ParameterList's, an embedding's, a convolution's, in layers too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.maps = nn.ParameterList([torch.randn(16, 16) / 4, torch.randn(16, 16) / 4])
        self.named = nn.ParameterDict({"out": torch.randn(10, 16) / 4})
        self.embed = nn.Linear(784 * 4, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
        x = self.embed(F.relu(x).flatten(1))
        for weight in self.maps:
            x = x + torch.tanh(x @ weight)
        x = F.linear(F.linear(x, self.embed.weight.t()), self.embed.weight)
        return F.linear(x, self.named["out"])


class Checkpointed(nn.Module):
    """Computes two layers and what is between them again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.a, self.b = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.out = nn.Linear(32, 10)

    def middle(self, x: Tensor) -> Tensor:
        return torch.tanh(self.b(F.relu(self.a(x)))) + x

    def forward(self, x: Tensor) -> Tensor:
        return self.out(checkpoint(self.middle, self.start(x.flatten(1)), use_reentrant=False))


class ReentrantCheckpoint(Checkpointed):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(checkpoint(self.middle, self.start(x.flatten(1)), use_reentrant=True))


class Names(nn.Module):
    """Layers with the names that a graph of the net, or a span, has for itself."""

    NAMES = (
        "loss",
        "input",
        "output",
        "add",
        "add_2",
        "total",
        "data",
        "target",
        "optimizer",
        "net",
        "(input)",
    )

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(784, 16)
        for name in self.NAMES:
            self.add_module(name, nn.Linear(16, 16))
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x.flatten(1))
        for name in self.NAMES:
            x = x + torch.tanh(self.get_submodule(name)(x))
        return self.out(x)


class Wrapper(nn.Module):
    """One net inside of another, beside what has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.model = nn.Sequential(Wrapped())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.flatten(x))


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(784, 32), nn.Linear(32, 32)
        self.norm, self.c = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.norm(x + self.b(F.relu(x))))


class Scaled(nn.Sequential):
    """A container with a parameter of its own is one layer."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(32, 32), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(32) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class SequentialOfContainers(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 32), Scaled(), nn.Linear(32, 10))


class OnAValue(nn.Module):
    """Its flow depends on numbers: which layer, how many rows, which of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.flatten(1)))
        branch = self.left if bool(x.sum() > 0) else self.right
        chosen = x.mean(1) > x.mean()
        y = branch(x[chosen])
        return self.out(x.index_put((chosen.nonzero(as_tuple=True)[0],), y))


class Autocast(Two):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            x = self.first(x.flatten(1))
        return self.last(x.float())


class Constants(Two):
    """Makes tensors on the CPU, first and second operands alike, and takes rows by them."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[:, torch.arange(784)]
        x = torch.linspace(0.5, 1, 784) * x
        x = self.first(x) + torch.ones(32)
        x = torch.where(torch.arange(32) < 30, x, torch.zeros(32))
        return self.last(torch.cat([torch.zeros(len(x), 2), x[:, 2:]], 1))


class Packed(nn.Module):
    """Recurrent layers over packed sequences, whose lengths PyTorch keeps on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.lstm, self.gru = nn.Linear(28, 16), nn.LSTM(16, 16), nn.GRU(16, 16)
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.arange(len(x)) % 5 + 24
        rows = self.project(x[:, 0])
        packed = nn.utils.rnn.pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.lstm(packed)
        packed, _ = self.gru(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        return self.out(padded.mean(1))


class Output(dict[str, Any]):
    """As the outputs of language models: a dictionary whose entries are attributes too."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        setattr(self, key, value)


@dataclass(frozen=True)
class Record:
    hidden: Tensor
    note: str


class Makes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 16)

    def forward(self, x: Tensor, *, scale: float) -> Output:
        made = Output()
        made["hidden"] = self.fc(x) * scale
        made["pair"] = (made["hidden"] * 2, [made["hidden"]])
        return made


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, made: Output, record: Record) -> Record:
        assert type(made) is Output
        assert record.note == "kept"
        double, (hidden,) = made["pair"]
        return Record(self.fc(made.hidden + double) + hidden + record.hidden, record.note)


class Gives(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 10)

    def forward(self, record: Record) -> Tensor:
        return self.fc(record.hidden)


class Structures(nn.Module):
    """Its layers hand each other dictionaries and dataclasses."""

    def __init__(self) -> None:
        super().__init__()
        self.makes, self.takes, self.gives = Makes(), Takes(), Gives()

    def forward(self, x: Tensor) -> Tensor:
        made = self.makes(x.flatten(1), scale=0.5)
        return self.gives(self.takes(made, Record(made["hidden"], "kept")))


class Types(nn.Module):
    """Complex, bfloat16, float64 and integer numbers beside those of the run's type."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(32, 10)
        self.mix = Fourier()
        self.small, self.large = nn.Linear(784, 32, dtype=torch.bfloat16), nn.Linear(32, 32, dtype=torch.float64)
        self.whole = WholeNumbers()

    def forward(self, x: Tensor) -> Tensor:
        x = self.small(self.mix(x.flatten(1)).bfloat16())
        x = self.whole(self.large(x.double()).to(self.out.weight.dtype))
        return self.out(x)


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(393, dtype=torch.cfloat) * 0.1 + 1)
        self.register_buffer("turn", torch.full((393,), 0.6 + 0.8j))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, norm="ortho") * self.weight * self.turn, n=784, norm="ortho")


class WholeNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(-16, 16, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        assert self.table.dtype == torch.int8
        return x + self.table.to(x.dtype) / 16


class ItsOwn(nn.Module):
    """Parameters and buffers that belong to the net itself, as a class token and positions do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 28))
        self.register_buffer("positions", torch.arange(29))
        self.embed, self.encoder = nn.Embedding(29, 28), nn.TransformerEncoderLayer(28, 4, 32, 0.0, batch_first=True)
        self.out = nn.Linear(28, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([self.token.expand(len(x), 1, 28), x[:, 0]], 1)
        return self.out(self.encoder(rows + self.embed(self.positions))[:, 0])


class NoLayers(nn.Module):
    """Softmax regression from scratch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(784, 10) * 0.01), nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight + self.bias


class UNet(nn.Module):
    """Skip connections from the way down to the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.bottom, self.up2 = nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, 2)
        self.merge2, self.up1 = nn.Conv2d(16, 8, 3, padding=1), nn.ConvTranspose2d(8, 4, 2, 2)
        self.merge1, self.out = nn.Conv2d(8, 4, 3, padding=1), nn.Linear(4 * 784, 10)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        x = F.relu(self.bottom(F.max_pool2d(two, 2)))
        x = F.relu(self.merge2(torch.cat([self.up2(x), two], 1)))
        x = F.relu(self.merge1(torch.cat([self.up1(x), one], 1)))
        return self.out(x.flatten(1))


PLACED: tuple[type[nn.Module], ...] = (
    OldWeightNorm, NewWeightNorm, Orthogonal, OldSpectralNorm, NewSpectralNorm, Lazy, Compiled, HoldsALock,
    Tied, SharedModule, UsesWeights, Checkpointed, ReentrantCheckpoint, Names, Wrapper, SequentialOfContainers,
    OnAValue, Autocast, Constants, Packed, Structures, Types, UNet,
)  # fmt: skip
"""What can be placed on several devices."""
WHOLE: tuple[type[nn.Module], ...] = (ItsOwn, NoLayers)
"""What stays together, since it has parameters outside of layers."""
