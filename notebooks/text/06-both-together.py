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
# # 06 · Both together: copies of a placed net
#
# **What you will see.** Four devices: two copies of a net, and each copy placed on two devices. Activations travel inside a
# copy, gradients between the copies. You will compare this with the two ways that you know.
#
# **Time:** 25 minutes. **You need:** notebooks 03 and 05.

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
import lab
from lab import course
from lab.exercises import check
from widgets.notebook import LabPanel, Predict

# %load_ext widgets.notebook

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 5  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(4, HARDWARE, timing="modelled")
length = course.length(steps=STEPS, epochs=1)
devices

# %% [markdown]
# ## The idea
#
# ```
#                 stage 0            stage 1
# rank 0        devices[0]  ──────▶ devices[1]      one copy of the net, and one half of the batch
#                   ▲      activations   ▲
#                   │ gradients          │ gradients
#                   ▼                    ▼
# rank 1        devices[2]  ──────▶ devices[3]      another copy, and the other half of the batch
# ```
#
# - **Across** (inside a rank): model parallelism. Activations go forward, their gradients go back, for each microbatch.
# - **Down** (between ranks): data parallelism. The gradients of the *same* layers are averaged, once in a step.

# %% [markdown]
# ## Predict
#
# Four devices, one batch of 64 samples, the small GPT of notebook 05. Three ways to use them:
#
# | | ranks | devices of a rank | microbatches |
# |---|---|---|---|
# | only data parallel | 4 | 1 | 1 |
# | only model parallel | 1 | 4 | 8 |
# | both | 2 | 2 | 8 |

# %%
fastest = Predict("Which has the shortest step?", kind="choice", options=["data", "model", "both"])
fastest

# %%
smallest = Predict("Which needs the least memory on a device?", kind="choice", options=["data", "model", "both"])
smallest

# %% [markdown]
# ## The experiment
#
# Press **Run**. The timeline has four lanes. Find three things: the pipeline in each pair of lanes, where both pairs meet
# (the all-reduce), and the bubble.

# %%
both = lab.Experiment(
    net="gpt",
    strategy="ddp",
    devices=devices,
    world_size=2,  # two ranks, so each has two devices
    placement="even",  # of the layers on a rank's devices
    microbatches=8,
    batch_size=64,
    timing="modelled",  # of virtual GPUs: the same times on every computer
    **length,
)
panel = LabPanel(both, show=("timeline", "breakdown", "graph", "loss"))
panel

# %% [markdown]
# ## What happened, in numbers

# %%
panel.finished()

short = {"epochs": 1, "steps": 3}  # DDP makes its buckets anew after the first step
ways = {
    "data": both.replace(world_size=4, placement=None, microbatches=1, **short),
    "model": both.replace(strategy="model_parallel", world_size=None, **short),
    "both": both.replace(**short),
}
states = {}
for name, experiment in ways.items():
    run = lab.start(experiment)
    run.result()
    states[name] = run.state

step_ms = {name: state.step_seconds * 1e3 for name, state in states.items()}
peak_mb = {name: max(memory.peak for memory in state.memory.values()) / 1e6 for name, state in states.items()}

# %%
fastest.reveal(min(step_ms, key=step_ms.get))

# %%
smallest.reveal(min(peak_mb, key=peak_mb.get))

# %%
for name, state in states.items():
    print(
        f"{name:5}  {step_ms[name]:5.1f} ms a step, at most {peak_mb[name]:4.1f} MB on a device, loss {state.last_loss:.4f}"
    )

# %% [markdown]
# The losses are the same: all three compute the same mean over the same 64 samples. Only the way there differs.
#
# Where does the time go? `data` has no bubble. `model` has the longest pipeline, so the largest bubble. `both` has a
# shorter pipeline than `model`, but each of its ranks has only half of the batch to cut: as many parts of half the size,
# each with as many launches.
#
# So why would anybody do both? Because the fastest way may not **fit**. With two copies on two devices each, a device holds
# half of the layers; with four copies on one device each, it holds all of them.

# %%
for name in ways:
    placed = states[name].placed.layers
    held = {}
    for node in states[name].graph.nodes:
        if node.name in placed:
            held[placed[node.name]] = held.get(placed[node.name], 0) + node.parameter_bytes
    print(f"{name:5}  {max(held.values()):>7,} bytes of parameters on a device, and as many of gradients")

# %% [markdown]
# ## What travels
#
# How much travels along each direction of the picture above?
#
# - Activations at a cut grow with the **batch**, and with the width of the net there. More layers leave them as they are.
# - Gradients grow with the **parameters**, and not with the batch. In an all-reduce among $N$ ranks, each sends
#   $2 (N - 1) / N$ times its gradients: with two ranks, once.

# %%
graph, ranks = states["both"].graph, states["both"].world_size
activations = graph.crossing_bytes
gradients = states["both"].crossing_bytes * 2 * (ranks - 1) / ranks
print(
    f"activations, forward and back: each rank sends {activations:,} bytes in a step, for its {graph.batch_size} samples"
)
print(f"gradients: each rank sends {gradients:,.0f} bytes in a step")
print(f"with {gradients / activations * graph.batch_size:.0f} samples in a rank, both would be the same")
print(f"counted: all devices together send {states['both'].sent_total:,} bytes")

# %% [markdown]
# Which direction should get the faster link? Let the devices stand in two machines, two in each, with a slow network
# between them, and try both ways. (To choose the links freely, on virtual GPUs, whatever machine you have.)

# %%
a, b, c, d = (f"vgpu:{index}" for index in range(4))
network = "nodes:2:ethernet_1g"  # a and b in one machine, c and d in the other, 1 Gbit Ethernet between them
through = {
    "gradients": (a, b, c, d),  # each rank's two devices in one machine
    "activations": (a, c, b, d),  # each rank's two devices in different machines
}
network_ms = {}
for name, order in through.items():
    run = lab.start(both.replace(devices=order, topology=network, **{**short, "steps": 4}))
    run.result()
    network_ms[name] = run.state.step_seconds * 1e3
    more = network_ms[name] - step_ms["both"]
    print(f"{name} go through the network: {network_ms[name]:.1f} ms a step, {more:.1f} ms more than without it")

# %% [markdown]
# The gradients are more bytes, and yet the network does less harm to them. It is not bytes alone that decide, but how
# **often** something travels, and whether anybody **waits** for it:
#
# - Gradients travel once in a step, while backward goes on where it can.
# - Activations travel with every microbatch, forward and back, and the next stage has nothing to do until they come.
#
# Large systems follow the same rule. Most often, and most waited for, are the all-reduces of **tensor parallelism**, which
# cuts *inside* layers: several in every layer and for every microbatch. So it stays inside a machine, on NVLink. A
# pipeline's stages, which send one tensor where they meet, may stand in different machines, and so may copies of the net
# (Narayanan et al. 2021, below: tensor parallelism up to the devices of one server, pipelines across servers).

# %% [markdown]
# ## In plain PyTorch
#
# Two real processes, and in each a net on two devices. `DistributedDataParallel` takes a net that is already placed: leave
# out `device_ids`. The cell below runs in both processes; each knows its own `rank`.

# %%
# %ranks start 2 {devices[0].partition(":")[0]}
# %ranks push HARDWARE

# %%
# %%ranks
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lab import course
from lab.nets.net import Net

devices = course.devices(4, HARDWARE)
first, second = devices[2 * rank], devices[2 * rank + 1]


class Placed(nn.Module):
    def __init__(self, net):
        super().__init__()
        pool = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())
        self.front = nn.Sequential(net.conv1, pool).to(first)
        self.back = nn.Sequential(net.conv2, pool, nn.Flatten(), net.fc1, nn.ReLU(), net.fc2).to(second)

    def forward(self, x):
        return self.back(self.front(x.to(first)).to(second))


torch.manual_seed(rank)  # other numbers on each rank, until DDP makes the copies equal
net = DistributedDataParallel(Placed(Net()))  # no device_ids: the net is where it is
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

torch.manual_seed(0)
x, y = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))
mine = slice(32 * rank, 32 * rank + 32)

for _ in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x[mine]), y[mine].to(second))
    loss.backward()  # the all-reduces happen in here
    optimizer.step()

print(f"front on {first}, back on {second}, loss of its half {loss.item():.4f}")

# %% [markdown]
# The halves of the batch differ, so the losses do. The copies must not: `all_gather_object` brings a number from every rank.

# %%
# %%ranks
total = sum(p.detach().double().abs().sum().item() for p in net.parameters())
every = [None] * world_size
dist.all_gather_object(every, total)
if rank == 0:
    print("sum of all parameters, by rank:", every, "- equal" if len(set(every)) == 1 else "- NOT equal")

# %%
# %ranks stop

# %% [markdown]
# ## Exercise
#
# With `replicas` copies and `stages` devices for each, the devices are numbered as in the picture: the first copy has 0,
# 1, ..., `stages - 1`, the next copy goes on. Which devices average gradients **with each other**?
#
# Write `groups`. It returns a list with one list of devices for each all-reduce group.


# %% tags=["exercise"] name="06-groups"
def groups(replicas, stages):
    """Lists of devices: those in one list hold the same layers, so they average their gradients."""
    return ...  # in place of this line


# %%
check("06-groups", groups)

# %% [markdown]
# ## Where to read on
#
# - **07** shows what can go wrong between devices: slow links, slow ranks, and ranks that die.
# - PyTorch names these groups with a *device mesh*:
#   <https://docs.pytorch.org/tutorials/recipes/distributed_device_mesh.html>
# - Narayanan et al. (2021), *Efficient Large-Scale Language Model Training on GPU Clusters*, use data, pipeline and tensor
#   parallelism together, for GPT on 3072 GPUs: <https://arxiv.org/abs/2104.04473>
