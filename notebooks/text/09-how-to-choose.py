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
# # 09 · How to choose, and many models at once
#
# **What you will see.** No way to train is the best one. You measure three of them in four situations, find out what decides,
# and then use devices in the simplest way of all: for several models at the same time.
#
# **Time:** 35 minutes. **You need:** the notebooks before.

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

import lab
from lab import course
from lab.exercises import check
from widgets.notebook import Curves, LabPanel, Predict

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 60  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE, timing="modelled")
length = course.length(steps=STEPS, epochs=1)
devices

# %% [markdown]
# ## Four situations
#
# The first three ask: what is the **fastest**? The last one: what **fits**?
#
# | | net | machine |
# |---|---|---|
# | A | Net of MNIST, very small | a fast GPU (T4), where starting an operation takes longer than computing it |
# | B | a small GPT: much computing for few parameters | the classroom's GPU and link |
# | C | a wide net: many parameters | a slow link between the devices (1 Gbit Ethernet) |
# | D | the wide net with Adam | devices with little memory |
#
# To choose hardware, link and memory freely, these runs are on **virtual GPUs**, whatever machine you have.


# %%
class Wide(nn.Module):
    """Images (B, 1, 28, 28) to logits (B, 10), through two wide layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(784, 1024), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))

    def forward(self, x):
        return self.second(self.first(x))


situations = {
    "A": ({"net": "net", "hardware": "t4"}, None),
    "B": ({"net": "gpt", "hardware": "classroom", "steps": 8}, None),  # few: they take this computer longest
    "C": ({"hardware": "classroom", "link": "ethernet_1g", "batch_size": 256}, Wide),
    "D": ({"hardware": "classroom", "memory_mb": 28, "optimizer": "adam", "lr": 0.001}, Wide),
}
two = ("vgpu:0", "vgpu:1")
ways = {
    "one device": {"strategy": "single", "devices": two[:1]},
    "data parallel": {"strategy": "ddp", "devices": two, "world_size": 2},
    "model parallel": {"strategy": "model_parallel", "devices": two, "placement": "auto", "microbatches": 4},
}

# %% [markdown]
# ## Predict
#
# One answer for each situation.

# %%
guesses = {
    name: Predict(f"Which is best in situation {name}?", kind="choice", options=list(ways)) for name in situations
}
guesses["A"]

# %%
guesses["B"]

# %%
guesses["C"]

# %%
guesses["D"]

# %% [markdown]
# ## The experiment
#
# Here is situation C as a panel. Change **Strategy**, **Link** and **Batch size**, run again, and look for what makes the
# timeline full of waiting.

# %%
panel = LabPanel(
    lab.Experiment(**situations["C"][0], **ways["model parallel"], timing="modelled", steps=10),
    net=Wide,
    show=("timeline", "graph", "memory", "loss"),
)
panel

# %% [markdown]
# ## What happened, in numbers
#
# All twelve: the three ways of a situation at the same time, which simulated times do not mind. The first steps are not
# like the others (the host gets ahead, and DDP makes its buckets anew), so each run has 20, or 8, and their median counts.

# %%
panel.finished()


def started(situation, way, **changes):
    fields, net = situations[situation]
    return lab.start(lab.Experiment(**{"timing": "modelled", "steps": 20, **fields, **ways[way], **changes}), net=net)


def median_ms(run):
    """Milliseconds of a step, or infinity where the run did not fit."""
    run.wait()
    return run.state.step_seconds * 1e3 if run.state.failure is None else float("inf")


step_ms, states = {}, {}


def measure(situation):
    three = {way: started(situation, way) for way in ways}
    for way, run in three.items():
        step_ms[situation, way] = median_ms(run)
        states[situation, way] = run.state


measure("A")

# %%
measure("B")

# %%
measure("C")

# %%
measure("D")

# %%
best = {name: min(ways, key=lambda way, name=name: step_ms[name, way]) for name in situations}

# %%
for name, guess in guesses.items():
    print(f"{name}: {guess.reveal(best[name])}")

# %%
print(f"{'':3}" + "".join(f"{way:>18}" for way in ways) + "   best")
for name in situations:
    cells = [f"{step_ms[name, way]:.2f} ms" if step_ms[name, way] < 1e9 else "does not fit" for way in ways]
    print(f"{name:3}" + "".join(f"{cell:>18}" for cell in cells) + f"   {best[name]}")

# %% [markdown]
# ## What decides
#
# Two numbers explain most of it: how long one device **computes**, and how many bytes have to **travel** in a step.
#
# - Data parallelism sends the gradients. In the ring of an all-reduce, each of $N$ devices sends
#   $4 \cdot \text{parameters} \cdot 2 (N - 1) / N$ bytes, all at the same time: with two devices, the bytes of the parameters
#   once. The batch does not matter.
# - Model parallelism sends the activations at the cut, and their gradients back, one after the other: they grow with the
#   batch. The number of layers on either side does not matter.

# %%
from lab.vgpu import links, profiles

for name, (fields, _) in situations.items():
    alone = step_ms[name, "one device"]
    print(
        f"{name}: one device computes for {alone:.2f} ms"
        if alone < 1e9
        else f"{name}: one device has too little memory"
    )
    gb_per_s = profiles.get(fields["hardware"]).link_gb_per_s
    if "link" in fields:
        gb_per_s = links.get(fields["link"]).gb_per_s
    for way in ("data parallel", "model parallel"):
        sent = states[name, way].sent_bytes.values()
        if not sent:
            continue
        in_turn = max(sent) if way == "data parallel" else sum(sent)
        print(
            f"   {way:14}: each device sends {max(sent) / 1e6:5.2f} MB, all together {sum(sent) / 1e6:5.2f} MB; "
            f"on this link at least {in_turn / gb_per_s / 1e6:5.2f} ms"
        )
parameters = sum(node.parameters for node in states["C", "data parallel"].graph.nodes)
formula = 4 * parameters * 2 * (len(two) - 1) / len(two)
print(f"By the formula, each device of the wide net sends {formula:,.0f} bytes in data parallelism.")

# %% [markdown]
# In C the two are close, and the batch decides. The gradients are as many for any batch, so more samples share what they
# cost; activations are more with each sample. Half of the batch, and half as much again:

# %%
for batch in (128, 384):
    pair = {way: started("C", way, batch_size=batch) for way in ("data parallel", "model parallel")}
    print(f"C with {batch} samples: " + ", ".join(f"{way} {median_ms(run):.1f} ms" for way, run in pair.items()))

# %% [markdown]
# As questions, in this order:
#
# 1. **Does it fit on one device?** If only the activations are too many: smaller parts, or checkpoints (08). If the
#    parameters are too many: model parallelism, or sharding.
# 2. **Is a step long compared with starting its operations?** If not, one device is best. Make the batch larger first.
# 3. **Is the time for the gradients short compared with the step?** Then data parallelism: it has no bubble, and needs no
#    placing.
# 4. **Else**: fewer bytes (cut the net where activations are few), a better link, or both ways together (06).

# %% [markdown]
# ## Many models at once
#
# Which learning rate is best? Nobody knows before trying. Four runs are four models; they share nothing, so nothing has to
# travel, and there is no bubble. This is the most efficient use of many devices.
#
# `lab.start` returns at once. So here is a small scheduler: two slots, and whenever a run ends, the next one starts.

# %%
import time

rates = [0.001, 0.01, 0.03, 0.1]
waiting, going, runs = list(rates), {}, {}
began = time.monotonic()
while waiting or going:
    for device in devices:
        if waiting and device not in going:
            rate = waiting.pop(0)
            going[device] = runs[rate] = lab.start(
                lab.Experiment(lr=rate, devices=[device], timing="modelled", **length)
            )
    going = {device: run for device, run in going.items() if not run.done}
    time.sleep(0.05)
print(f"{len(runs)} models on {len(devices)} devices, {time.monotonic() - began:.1f} s on this computer's clock")

# %%
shortest = min(len(run.state.mean_loss) for run in runs.values())
lines = {f"lr {rate:g}": run.state.mean_loss.y[:shortest] for rate, run in runs.items()}
steps = runs[rates[0]].state.mean_loss.x[:shortest]
Curves("One model for each learning rate", steps, lines, "step", "loss")

# %%
for rate, run in runs.items():
    if run.state.failure is not None:
        print(f"lr {rate:<5g}  failed: {run.state.failure.cause}")
    else:
        print(f"lr {rate:<5g}  test accuracy {run.state.evaluations[-1].accuracy:.1%}")

# %% [markdown]
# ## In plain PyTorch
#
# Even one process can train a model on each device: the host issues a step for the first, and while that device computes, a
# step for the second. It must not wait for a result in between: no `.item()`, no `print(loss)`.


# %%
def make(device, rate):
    net = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)).to(device)
    x, y = torch.randn(256, 512, device=device), torch.randint(10, (256,), device=device)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


first, second = make(devices[0], 0.01), make(devices[1], 0.1)
alone = course.milliseconds(first, devices)
together = course.milliseconds(lambda: (first(), second()), devices)
print(f"a step of one model {alone:.1f} ms, of two models on two devices {together:.1f} ms")
print(f"speed-up {2 * alone / together:.2f} of 2")

# %% [markdown]
# ## Exercise
#
# You know how many minutes each run will take. `assign` gives each run to a device, so that the last device is done
# **early**. It returns a list for each device, with the places of its runs in `minutes`.
#
# `assign([3, 1, 2], 2)` might be `[[0], [2, 1]]`: both devices are done after 3 minutes.


# %% name="09-assign" tags=["exercise"]
def assign(minutes, devices):
    """A list for each of the devices, with the indices of its runs."""
    return ...  # in place of this line


# %%
check("09-assign", assign)

# %% [markdown]
# ## Where to read on
#
# - Do it on your own net: `lab.start(experiment, net=YourNet)`, or `LabPanel(net=YourNet)`.
# - [`docs/virtual-gpus.md`](../docs/virtual-gpus.md) says what the simulated clock counts and what it leaves out.
# - Li et al. (2018), *ASHA*: stop bad runs early, and use their devices for new ones: <https://arxiv.org/abs/1810.05934>
# - PyTorch's overview of all its ways: <https://docs.pytorch.org/tutorials/beginner/dist_overview.html>
