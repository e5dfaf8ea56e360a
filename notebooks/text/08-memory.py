# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Memory: where it goes, and what does not fit
#
# **What you will see.** What a training step keeps in a device's memory, an error when it is too much, and three ways out,
# with their price.
#
# **Time:** 30 minutes. **You need:** notebooks 01 and 05.

# %% tags=["setup"]
# On Colab this installs the lab and lets its widgets work. Everywhere else it does nothing.
try:
    from google.colab import output
except ImportError:
    pass
else:
    # %pip install -q parallel-lab
    output.enable_custom_widget_manager()

# %%
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import lab
from lab import course, vgpu
from lab.data import REGISTRY, load
from lab.exercises import check
from lab.nets.gpt import GPT
from widgets.notebook import LabPanel, Predict, ProfileMemory

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 8  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE, timing="modelled")
length = course.length(steps=STEPS, epochs=1)
devices

# %% [markdown]
# ## Four kinds of memory
#
# A training step keeps
#
# - **parameters**: the net,
# - **gradients**: a number for each parameter,
# - **optimizer state**: for Adam two numbers for each parameter,
# - **activations**: what forward computes and backward needs again. They grow with the batch.
#
# The first three you can count without running anything. A float32 number has 4 bytes.

# %%
data = load("sums")
tokens, targets = data.train_inputs[:64], data.train_targets[:64]  # 64 sequences
classes = REGISTRY["sums"].spec.classes


def fresh(device):
    """The small GPT and its Adam, always with the same numbers."""
    torch.manual_seed(0)
    net = GPT(vocabulary=classes, length=tokens.shape[1]).to(device)
    return net, torch.optim.Adam(net.parameters())


net, _ = fresh("cpu")
numbers = sum(parameter.numel() for parameter in net.parameters())
print(f"{numbers:,} parameters: {4 * numbers / 1e6:.2f} MB, as much for gradients, twice as much for Adam")
print(f"together {16 * numbers / 1e6:.2f} MB")

# %% [markdown]
# ## Predict

# %%
activations = Predict("And the activations of 64 sequences: how many MB?", unit="MB")
activations

# %% [markdown]
# ## The experiment
#
# Press **Run**: the memory figure shows how a step uses the device. Run again with half the **Batch size**: what shrinks,
# and what does not?

# %%
experiment = lab.Experiment(
    net="gpt",
    strategy="single",
    devices=devices[:1],
    batch_size=64,
    optimizer="adam",
    lr=0.001,
    timing="modelled",
    **length,
)
panel = LabPanel(experiment, show=("memory", "loss"))
panel

# %% [markdown]
# ## What happened, in numbers
#
# Now the same step in plain PyTorch, on a **virtual GPU**, because its memory can be made as small as we like, and because
# it knows what each byte is for. Its memory is counted exactly; only its time is simulated.

# %%
panel.finished()


def train(net, optimizer, x, y, parts=1):
    """One step; in several parts, backward of each comes before forward of the next."""
    optimizer.zero_grad()
    for some, target in zip(x.chunk(parts), y.chunk(parts)):
        some, target = some.to("vgpu:0"), target.to("vgpu:0")
        loss = nn.functional.cross_entropy(net(some).flatten(0, 1), target.flatten())
        (loss / parts).backward()
    optimizer.step()


def profiled(step, memory="1GB"):
    """A step's profile, after one that warms up: Adam makes its state in the first step."""
    vgpu.enable(devices=1, memory=memory, timing="modelled")
    net, optimizer = fresh("vgpu:0")
    for _ in range(2):
        with vgpu.profile() as profile:
            step(net, optimizer)
            torch.vgpu.synchronize()
    return profile


def at_peak(profile):
    """Bytes by purpose, when the device held most."""
    return max(profile.memory["vgpu:0"], key=lambda point: point.total).by_purpose


whole = profiled(lambda net, optimizer: train(net, optimizer, tokens, targets))
peak = at_peak(whole)
activations.reveal(peak["activations"] / 1e6)

# %%
ProfileMemory(whole)

# %%
total = sum(peak.values())
for purpose, size in peak.items():
    print(f"{purpose:15} {size / 1e6:6.2f} MB  {size / total:4.0%}")
print(f"{'at the peak':15} {total / 1e6:6.2f} MB")

# %% [markdown]
# The net is small beside what it makes. The peak is where forward ends: all activations are there, and backward has only
# begun to give them back. (The figure shows when the *device* comes to it. The host has issued the whole step long before,
# and took the memory then, as PyTorch does on a GPU.)

# %% [markdown]
# ## What does not fit
#
# The same step on a device with less memory than that:

# %%
little = f"{0.6 * total / 1e6:.0f}MB"
try:
    profiled(lambda net, optimizer: train(net, optimizer, tokens, targets), memory=little)
except torch.OutOfMemoryError as error:
    print(error)

# %% [markdown]
# Read it as you would on a real GPU: how much was **asked for**, how much there **is**, how much is **free**, and what holds
# the rest.
#
# ## Way out 1: smaller parts
#
# Forward and backward for a part of the batch, then for the next; gradients add up. The optimizer steps once.

# %%
for parts in (1, 2, 4, 8):
    profile = profiled(lambda net, optimizer, parts=parts: train(net, optimizer, tokens, targets, parts))
    held = {purpose: size / 1e6 for purpose, size in at_peak(profile).items()}
    print(
        f"parts: {parts}, {sum(held.values()):5.1f} MB at the peak, {held['activations']:5.2f} MB of them activations, "
        f"{profile.length_ns / 1e6:5.1f} ms a step"
    )

# %% [markdown]
# Half the activations with each line, for a little time: every part launches all operations again. What is left in the end
# is what parts cannot shrink: parameters, gradients, optimizer state.
#
# ## Way out 2: compute it again
#
# **Activation checkpointing** keeps only what goes *into* a block, and forgets what is inside. When backward comes to the
# block, its forward runs a second time.

# %%
again = Predict("With checkpoints, how many times as long does a step take?", unit="times")
again


# %%
def with_checkpoints(net, optimizer):
    for block in net.blocks:
        plain = type(block).forward.__get__(block)
        block.forward = lambda x, plain=plain: checkpoint(plain, x, use_reentrant=False)
    train(net, optimizer, tokens, targets)


recomputed = profiled(with_checkpoints)
times = [profile.length_ns / 1e6 for profile in (whole, recomputed)]
again.reveal(times[1] / times[0])

# %%
ProfileMemory(recomputed)

# %%
kept, kept_all = sum(at_peak(recomputed).values()), sum(at_peak(whole).values())
print(f"{kept_all / 1e6:.1f} MB at the peak without, {kept / 1e6:.1f} MB with checkpoints")
print(f"{times[0]:.1f} ms a step without, {times[1]:.1f} ms with checkpoints: {times[1] / times[0]:.2f} times as long")


def forward_ms(profile):
    """How long the device computes forward, what checkpoints compute again included."""
    return sum(span.end_ns - span.start_ns for span in profile.spans if span.kind == "forward") / 1e6


once, more = forward_ms(whole), forward_ms(recomputed) - forward_ms(whole)
print(f"forward takes {once:.1f} ms, {once / times[0]:.0%} of a step; of that, {more / once:.0%} is computed again")

# %% [markdown]
# Forward is about a third of a step's work, backward two thirds. Forward once more would make four thirds. It is less:
# PyTorch stops computing a block again as soon as it has all that backward needs (`early_stop`), and the result of a block's
# last layer is not needed.
#
# ## Way out 3: more devices
#
# Two devices, two strategies. Which kind of memory does each cut in half?

# %%
memory = {}
for name, changes in {
    "one device": {},
    "data parallel": {"strategy": "ddp", "devices": devices, "world_size": 2},
    "model parallel": {"strategy": "model_parallel", "devices": devices, "placement": "even"},
}.items():
    run = lab.start(experiment.replace(epochs=1, steps=2, **changes))
    run.result()
    state = run.state
    memory[name] = max(used.peak for used in state.memory.values()) / 1e6
    held = {}
    for node in state.graph.nodes:
        held[node.device] = held.get(node.device, 0) + 16 * node.parameters / 1e6
    print(f"{name:14}: {memory[name]:4.1f} MB at the peak; for the parameters {max(held.values()):.2f} MB")

# %% [markdown]
# Data parallelism halves the activations, because each device has half of the batch. Every device still has all
# parameters, gradients and optimizer state (the second number). Model parallelism halves both. So a net that is too large
# **itself** needs model parallelism (or a way to share out parameters, gradients and state among ranks, which is called
# ZeRO or FSDP).

# %% [markdown]
# ## In plain PyTorch
#
# The steps above were plain PyTorch: on a real GPU you write `cuda` for `vgpu`. The questions that you ask a GPU are the
# same, too:

# %%
vgpu.enable(devices=1, memory="64MB", timing="modelled")
gpu = torch.get_device_module("vgpu")  # as torch.cuda
net, optimizer = fresh("vgpu:0")
gpu.reset_peak_memory_stats()
train(net, optimizer, tokens, targets)
print(f"now      {gpu.memory_allocated() / 1e6:6.2f} MB")
print(f"at most  {gpu.max_memory_allocated() / 1e6:6.2f} MB")
free, capacity = gpu.mem_get_info()
print(f"free     {free / 1e6:6.2f} MB of {capacity / 1e6:.0f} MB")

# %% [markdown]
# This was the first step, so the peak is lower than before by Adam's state: it comes to be when the optimizer steps, after
# the peak.

# %% [markdown]
# ## Exercise
#
# `net` is on `vgpu:0`, `x` and `y` are on the CPU. The loss is `nn.functional.mse_loss(output, target)`, the mean over the
# whole batch. Done at once, the step does not fit.
#
# Write `step` so that it fits, and leaves the **same gradients** in `.grad`. There is no optimizer here.


# %% name="08-fits" tags=["exercise"]
def step(net, x, y):
    """Leaves the gradient of mse_loss(net(x), y) in .grad of net's parameters, in little memory."""
    return ...  # in place of this line


# %%
check("08-fits", step)

# %% [markdown]
# ## Where to read on
#
# - **09** puts everything together: which way, for which net, on which machine?
# - Chen et al. (2016) on checkpoints: <https://arxiv.org/abs/1604.06174>
# - Rajbhandari et al. (2020), *ZeRO*: parameters, gradients and state, shared out: <https://arxiv.org/abs/1910.02054>
# - PyTorch on its own memory figures: <https://docs.pytorch.org/docs/stable/torch_cuda_memory.html>
