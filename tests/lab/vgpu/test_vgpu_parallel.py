"""The copies of `nn.DataParallel`, where PyTorch asks for those of nothing."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import comm, replicate

from lab import vgpu


def test_nothing_is_copied_to_every_device():
    vgpu.enable(devices=2)
    assert torch._C._broadcast_coalesced([], [0, 1], 1024) == [[], []]
    assert [list(copies) for copies in comm.broadcast_coalesced([], [0, 1])] == [[], []]


def test_a_net_without_buffers_or_parameters_is_replicated():
    vgpu.enable(devices=2)
    x = torch.ones(2, 3).to("vgpu:1")
    for net in (nn.Linear(3, 2).to("vgpu:0"), nn.ReLU()):
        copies = replicate(net, [0, 1])
        assert copies[1](x).device == torch.device("vgpu:1")
