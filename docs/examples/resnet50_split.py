"""ResNet-50 on two GPUs: cut in two, first naively, then with its inputs in a pipeline.

Everything from `SplitResNet50` to `step_ms` is plain PyTorch for two GPUs. `DEVICE = "cuda"` runs it on real ones;
with "vgpu" the only other line is `vgpu.enable(...)` in `main`.

    python docs/examples/resnet50_split.py --split-sizes 1 8 20 60

Virtual GPUs compute on the CPU, for which this batch would be hours of work.
With `backing="meta"` they compute nothing;
shapes, bytes and modelled times are all that is asked for here. To train, leave it out: `--batch 24 --image 64`.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn, optim

from lab._torch_compat import import_torchvision

resnet = import_torchvision().models.resnet  # as `import torchvision`, which fails beside some CPU builds of torch
DEVICE = "vgpu"
FIRST, SECOND = f"{DEVICE}:0", f"{DEVICE}:1"


class SplitResNet50(resnet.ResNet):
    """The stem, layer1 and layer2 on the first GPU, the rest on the second. One GPU works while the other waits."""

    def __init__(self, classes: int) -> None:
        super().__init__(resnet.Bottleneck, [3, 4, 6, 3], num_classes=classes)
        self.front = nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool, self.layer1, self.layer2).to(FIRST)
        self.back = nn.Sequential(self.layer3, self.layer4, self.avgpool, nn.Flatten(1), self.fc).to(SECOND)

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # (B, 3, H, W) on FIRST -> (B, classes) on SECOND
        return self.back(self.front(images).to(SECOND))


class PipelinedResNet50(SplitResNet50):
    """Cuts a batch into parts of `split_size`. While the second GPU works on one part, the first does the next."""

    def __init__(self, classes: int, split_size: int) -> None:
        super().__init__(classes)
        self.split_size = split_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = iter(images.split(self.split_size))
        on_the_way = self.front(next(parts)).to(SECOND)
        outputs = []
        for part in parts:
            outputs.append(self.back(on_the_way))  # issued for the second GPU, which the host does not wait for ...
            on_the_way = self.front(part).to(SECOND)  # ... so the first goes on at once
        outputs.append(self.back(on_the_way))
        return torch.cat(outputs)


def step_ms(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int = 1) -> float:
    """Milliseconds for a training step, by the GPUs' own clock. The first step is not counted."""
    gpu = torch.get_device_module(DEVICE)
    optimizer = optim.SGD(model.parameters(), lr=0.001)

    def train() -> None:
        optimizer.zero_grad()
        outputs = model(images.to(FIRST))
        loss = nn.functional.mse_loss(outputs, labels.to(outputs.device))
        loss.backward()
        optimizer.step()

    def moment() -> torch.Event:
        """Now, when both GPUs are done."""
        for index in range(gpu.device_count()):
            gpu.synchronize(index)
        event = gpu.Event(enable_timing=True)
        event.record()
        event.synchronize()
        return event

    train()
    begun = moment()
    for _ in range(steps):
        train()
    return begun.elapsed_time(moment()) / steps


def curve(batch: int, image: int, classes: int, split_sizes: list[int]) -> dict[str, float]:
    """Milliseconds per step: of one GPU, of two without a pipeline, and by split size with one."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, image, image)
    labels = nn.functional.one_hot(torch.randint(classes, (batch,)), classes).float()
    whole = resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], num_classes=classes).to(FIRST)
    times = {"one GPU": step_ms(whole, images, labels)}
    del whole
    times["two GPUs"] = step_ms(SplitResNet50(classes), images, labels)
    for split_size in split_sizes:
        times[f"split {split_size}"] = step_ms(PipelinedResNet50(classes, split_size), images, labels)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Time ResNet-50 on two virtual GPUs, by the size of the splits.")
    parser.add_argument("--split-sizes", type=int, nargs="+", default=list(range(1, 61)))
    parser.add_argument("--batch", type=int, default=120)
    parser.add_argument("--image", type=int, default=128, help="height and width of the images, in pixels")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--hardware", default="t4", help="what the virtual GPUs pretend to be")
    options = parser.parse_args()

    if DEVICE == "vgpu":
        from lab import vgpu

        vgpu.enable(devices=2, hardware=options.hardware, backing="meta")

    for name, ms in curve(options.batch, options.image, options.classes, options.split_sizes).items():
        print(f"{name:>10}  {ms:8.1f} ms")


if __name__ == "__main__":
    main()
