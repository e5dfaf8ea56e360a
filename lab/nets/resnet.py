"""ResNet-18: torchvision's own, for images of 28 × 28 and larger.

Its residual connections cross every cut between layers, and its batch norm sees each microbatch alone: splitting the
batch changes what it computes, which is why the registry marks it.
"""

from __future__ import annotations

from torch import nn

from lab._torch_compat import import_torchvision
from lab.data import DataSpec


def build(data: DataSpec) -> nn.Module:
    """ResNet-18 without pretrained weights: images (B, C, H, W) to logits (B, classes).

    Its first convolution takes the data's channels and its last layer gives the data's classes.
    """
    net: nn.Module = import_torchvision().models.resnet18(weights=None, num_classes=data.classes)
    channels = data.shape[0]
    if channels != 3:
        conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        net.conv1 = conv1
    return net
