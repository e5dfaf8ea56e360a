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
# # 04 · Model parallelism: one net, cut in two
#
# **What you will see.** Each device holds a part of the layers. You will place them, see what crosses, find out whether it
# is faster, and meet two mistakes and two errors of belief that are common.
#
# **Time:** 40 minutes. **Before:** notebook 01; 02 helps.

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
import torch.nn.functional as F
from torch import nn

import lab
from lab import breakdown, course, data
from lab.exercises import check
from widgets.notebook import FormulaCheck, LabPanel, Predict

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 60  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE)
length = course.length(steps=STEPS, epochs=1)
devices, length

# %% [markdown]
# ## The formula
#
# Data parallelism copies the net and cuts the batch. Model parallelism cuts the net and leaves the batch whole. Device $k$
# holds the parameters $\theta_k$. There is **one** loss, which depends on the parameters of all $n$ devices, and each device
# updates its own parameters with the gradient by them:
#
# $$\theta_k \leftarrow \theta_k - \eta \, \nabla_{\theta_k} L(\theta_1, \ldots, \theta_n)$$
#
# There is nothing to average. (With momentum, as in the runs below, each device also remembers a $v_k$ for its
# parameters: $v_k \leftarrow \mu v_k + \nabla_{\theta_k} L$ and $\theta_k \leftarrow \theta_k - \eta v_k$.) What
# crosses is something else: **activations** forward, and **their gradients** back.
#
# One device first, so that there is something to compare with.

# %%
single = lab.Experiment(strategy="single", devices=devices[:1], timing="modelled", **length)
one = lab.start(single)
one.result()
print(f"one device: {1e3 * one.state.step_seconds:.2f} ms for a step")

# %% [markdown]
# ## Predict
#
# Now `conv1` goes to one device, everything else to the other. Two devices work on the same batch.

# %%
predict = Predict("How long does a step take on the two devices?", unit="ms")
predict

# %% [markdown]
# ## The experiment
#
# Press **Run**. On the timeline, follow one step: forward on the first device, a transfer, forward and backward on the
# second, a transfer back, backward on the first. Who works while the other works?
#
# Then drag other layers on the board and run again.

# %%
experiment = lab.Experiment(
    strategy="model_parallel",
    devices=devices,
    placement={"conv1": devices[0], "*": devices[1]},
    timing="modelled",
    **length,
)
panel = LabPanel(experiment, show=("timeline", "graph", "loss", "memory"))
panel

# %% [markdown]
# ## What happened, in numbers

# %%
run = panel.finished()
state = run.state
predict.reveal(1e3 * state.step_seconds)

# %%
print(f"a step takes {1e3 * state.step_seconds:.2f} ms on two devices, {1e3 * one.state.step_seconds:.2f} ms on one")
for name in state.device_names:
    spent = breakdown.of_device(state, name)
    print(f"{name}: computes {spent.busy:.0%} of the time, waits {spent.waiting:.0%}")

# %% [markdown]
# Two devices are **not faster** than one: while one computes, the other waits for its result, and the transfers come on
# top. What model parallelism gives is room: each device holds only its own layers, with their gradients, what the optimizer
# remembers of them, and their activations. `Net` is too lopsided to show it: nearly all of its memory stays with
# `conv1`. A small GPT, whose layers are alike, cut in the middle:


# %%
def peaks(run):
    """The most bytes that each of its devices has in use, in MB."""
    run.result()
    return [run.state.memory[device].peak / 1e6 for device in run.experiment.devices]


gpt = single.replace(net="gpt", optimizer="adam", lr=0.001, steps=3)
halves = gpt.replace(strategy="model_parallel", devices=devices, placement="even")
for name, whole, parts in (("Net", one, run), ("GPT", lab.start(gpt), lab.start(halves))):
    (alone,), on_two = peaks(whole), peaks(parts)
    print(f"{name}: {alone:.1f} MB on one device, {' and '.join(f'{peak:.1f}' for peak in on_two)} MB on two", end="")
    print(f", so the fullest has {1 - max(on_two) / alone:.0%} less;", end=" ")
    print(f"a step takes {1e3 * whole.state.step_seconds:.2f} ms and {1e3 * parts.state.step_seconds:.2f} ms")

# %% [markdown]
# The GPT's step takes nearly as long as before: in forward and backward the devices take turns; only the update goes on in
# both at the same time.
#
# What crosses? In `Net`, the output of `conv1` after pooling, and the gradient that comes back has the same shape.

# %%
batch, channels, height, width = 64, 10, 12, 12
activation = batch * channels * height * width * 4
print(f"{batch} × {channels} × {height} × {width} numbers of 4 bytes: {activation:,} bytes forward, as many back")
print(f"{state.crossing_bytes:,} bytes were counted in the run")

# %% [markdown]
# The formula, for each device on its own. Choose parameters of both devices, and other steps:

# %%
formula = FormulaCheck(run)
formula

# %%
for step in (0, 1, 9):
    tried = FormulaCheck(run, step=step)
    print(f"step {tried.step.value}: largest difference between both sides: {tried.difference:.1e}")
gap = max(abs(a - b) for a, b in zip(one.state.mean_loss.y, state.mean_loss.y, strict=True))
print(f"largest difference between the losses of one device and of two: {gap:.1e}")

# %% [markdown]
# Where should one cut? Try the three places.

# %%
layers = ["conv1", "conv2", "fc1", "fc2"]
print(f"{'cut after':10} {'crossing':>14} {'step':>10}   waits")
for cut in (1, 2, 3):
    placement = {layer: devices[0] if index < cut else devices[1] for index, layer in enumerate(layers)}
    tried = lab.start(experiment.replace(placement=placement, steps=10))
    tried.result()
    waits = " and ".join(f"{breakdown.of_device(tried.state, name).waiting:.0%}" for name in devices)
    step = 1e3 * tried.state.step_seconds
    print(f"{layers[cut - 1]:10} {tried.state.crossing_bytes:>8,} bytes {step:>7.2f} ms   {waits}")

# %% [markdown]
# A late cut sends little and leaves the second device without work. An early cut shares the work and sends a lot. No cut
# lets both devices work at the same time: for that the batch has to be split as well, which is notebook 05.

# %% [markdown]
# ## In plain PyTorch
#
# Two lines make it model parallel: a device for each layer, and a `.to()` where the data crosses. Backward finds its way
# back by itself.


# %%
class TwoDevices(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second
        self.conv1 = nn.Conv2d(1, 10, 5).to(first)
        self.conv2 = nn.Conv2d(10, 20, 5).to(second)
        self.fc1 = nn.Linear(320, 50).to(second)
        self.fc2 = nn.Linear(50, 10).to(second)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x.to(self.first)), 2))
        x = x.to(self.second)  # the cut
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


torch.manual_seed(0)
net = TwoDevices(*devices)
mnist = data.load("mnist")
x, y = mnist.train_inputs[:64], mnist.train_targets[:64]
output = net(x)
print("the output is on", output.device)

# %% [markdown]
# **The mistake that everybody makes once.** The batch was sent to the first device, and the targets with it. But the output
# is on the second.

# %%
try:
    F.cross_entropy(output, y.to(devices[0]))
except RuntimeError as error:
    print(error)

# %% [markdown]
# The targets go where the output is:

# %%
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for step in range(5):
    output = net(x)
    loss = F.cross_entropy(output, y.to(output.device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()  # one optimizer may hold parameters of several devices
    print(f"step {step}: loss {loss.item():.4f}")

# %% [markdown]
# **Devices written into the net.** Code that you find often says `.cuda(0)` and `.cuda(1)` inside the class. Such a net
# is dead on any machine with fewer GPUs:

# %%
try:
    for index in range(2):
        nn.Linear(320, 50).cuda(index)
    print("this machine has both")
except (RuntimeError, AssertionError) as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# **Two sentences that you will read, and should not believe.**
#
# - *"Model parallelism is faster."* You have measured it: the devices take turns, and what crosses takes time
#   on top.
# - *"Data parallelism is for several machines, model parallelism for one."* Both do both. Data parallelism worked on one
#   machine in notebook 02, and large nets are cut across machines every day.
#
# ## Exercise
#
# **1.** This training step has the mistake from above. Mend it so that it works wherever the net puts its output: the check
# also tries a net whose devices are the other way round.


# %% tags=["exercise"] name="04-step"
def train_step(net, optimizer, x, y):
    output = net(x)
    loss = F.cross_entropy(output, y.to(devices[0]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# %%
check("04-step", train_step, devices)

# %% [markdown]
# **2.** This net has its devices written into it. Let it take them as `Anywhere(first, second)`, and keep `conv1` and `conv2`
# on the first, `fc1` and `fc2` on the second.


# %% tags=["exercise"] name="04-anywhere"
class Anywhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5).cuda(0)
        self.conv2 = nn.Conv2d(10, 20, 5).cuda(0)
        self.fc1 = nn.Linear(320, 50).cuda(1)
        self.fc2 = nn.Linear(50, 10).cuda(1)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x.cuda(0)), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1).cuda(1)))
        return self.fc2(x)


# %%
check("04-anywhere", Anywhere, devices)

# %% [markdown]
# ## Where to read on
#
# - **05**: microbatches, so that both devices work at the same time. **06**: copies of a net that is cut.
# - Krizhevsky, Sutskever, Hinton: *ImageNet Classification with Deep Convolutional Neural Networks* (2012): a net cut over
#   two GPUs because it did not fit on one.
# - Huang et al., *GPipe* (2019), and Narayanan et al., *PipeDream* (2019): what became of the idea.
