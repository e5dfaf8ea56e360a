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
# # 03 · Inside DistributedDataParallel
#
# **What you will see.** A process for each device, called a **rank**. You will write the training code of real ranks, see
# how they share the data, how gradients travel in buckets while backward is still at work, what exactly is averaged, and
# what happens to the learning rate.
#
# **Time:** 40 minutes. **Before:** notebook 02.

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
from torch.utils.data import DistributedSampler

import lab
from lab import breakdown, course
from lab.exercises import check
from lab.vgpu import rings
from widgets.notebook import LabPanel, Predict

# %load_ext widgets.notebook

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 60  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE)
kind = devices[0].split(":")[0]  # what each rank gets one of: "vgpu" or "cuda"
length = course.length(steps=STEPS, epochs=1)
devices, length

# %% [markdown]
# ## Predict

# %%
predict_averaged = Predict(
    "What do the ranks average in every step?",
    kind="choice",
    options=["the losses", "the gradients", "the parameters"],
)
predict_averaged

# %% [markdown]
# One device trains with batches of 64 images. Now two ranks train with 64 images **each**, and nothing else is changed.

# %%
predict_loss = Predict(
    "After the same number of images, the loss of the two ranks is",
    kind="choice",
    options=["the same", "higher", "lower"],
)
predict_loss

# %% [markdown]
# ## The experiment
#
# Two ranks, each with half of every batch. Press **Run** and look at the buckets: the gradients do not wait for the end of
# backward. As soon as those of the last layers are there, they travel, while backward computes the first layers.

# %%
experiment = lab.Experiment(
    strategy="ddp",
    devices=devices,
    world_size=2,
    batch_size=64,  # of both ranks together
    bucket_cap_mb=0.03,  # PyTorch's default is 25 MB; Net is so small that all of it would fit into one bucket
    timing="modelled",
    **length,
)
panel = LabPanel(experiment, show=("loss", "timeline", "buckets", "breakdown"))
panel

# %% [markdown]
# ## What happened, in numbers

# %%
run = panel.finished()
state = run.state
for rank, losses in sorted(state.loss.items()):
    print(f"rank {rank}: loss {losses.y[0]:.4f} in the first step")
for bucket in state.buckets:
    print(f"bucket {bucket.index}: {bucket.bytes:,} bytes, {', '.join(bucket.parameters)}")

# %% [markdown]
# The losses differ: each rank sees other images. The buckets are in the order in which backward finishes: `fc2` first,
# `conv1` last.
#
# How many bytes travel? Gradients only, never parameters. In a **ring** of $N$ ranks each gradient passes in $N$ pieces: once
# around to be added up, and once around to be told to all. From each rank that makes $2 (N - 1) / N$ times the bytes of the
# gradients (Patarasuk and Yuan, 2009), which for two ranks is once. Beside it `nn.DataParallel`, as in notebook 02:

# %%
parallel = lab.start(experiment.replace(strategy="data_parallel", world_size=None, steps=5))
parallel.result()
for name, each in {"DDP": state, "DataParallel": parallel.state}.items():
    sent = " and ".join(f"{each.sent_bytes[device]:,}" for device in each.device_names)
    waits = " and ".join(f"{breakdown.of_device(each, device).waiting:.0%}" for device in each.device_names)
    print(f"{name:13} sends {sent} bytes, {each.sent_total:,} in all; waits {waits}; {1e3 * each.step_seconds:.2f} ms")
gradients = sum(bucket.bytes for bucket in state.buckets)
for ranks in (2, 4, 8):
    ring = rings.sent_bytes("all_reduce", gradients, ranks)
    print(f"a ring of {ranks}: {max(ring):,} bytes from each rank, {sum(ring):,} in all")

# %% [markdown]
# In all that is hardly less than with `nn.DataParallel`. What DDP gains is something else. **Balance**: no rank sends or
# does more than the others, however many there are; there everything begins and ends on the first device. And **overlap**:

# %%
for name in state.device_names:
    went = state.communication[name]
    together = went.hidden_ns + went.exposed_ns + went.awaited_ns
    print(
        f"{name}: {went.hidden_ns / together:.0%} of the communication is hidden behind backward, "
        f"{went.exposed_ns / together:.0%} is not, {went.awaited_ns / together:.0%} is waiting for the other rank"
    )

# %% [markdown]
# The last bucket cannot hide: when `conv1` has its gradient, backward is over. Bigger buckets mean fewer messages, smaller
# ones can start earlier. Under **More** in the panel, change the size of the buckets, or switch the overlap off, and compare
# with these:

# %%
for megabytes in (0.01, 0.03, 25):
    tried = lab.start(experiment.replace(bucket_cap_mb=megabytes, steps=10))
    tried.result()
    went = tried.state.communication[tried.state.device_names[0]]
    hidden = went.hidden_ns / (went.hidden_ns + went.exposed_ns + went.awaited_ns)
    count = len(tried.state.buckets)
    print(
        f"buckets of {megabytes} MB: {count}, {hidden:.0%} of the communication is hidden, "
        f"{1e3 * tried.state.step_seconds:.2f} ms"
    )

# %% [markdown]
# Does it learn what one device learns? The same batches on one device:

# %%
one = lab.start(lab.Experiment(strategy="single", devices=devices[:1], batch_size=64, **length))
one.result()
gap = max(abs(a - b) for a, b in zip(one.state.mean_loss.y, state.mean_loss.y, strict=True))
print(f"largest difference between the losses of one device and of two ranks, over all steps: {gap:.1e}")

# %% [markdown]
# Only rounding: the same numbers are added in another order. Over many hundreds of steps such differences grow.
#
# ## Who gets which images
#
# `DistributedSampler` shuffles all samples, in the same order on every rank, and deals them out like cards. Ten samples,
# two ranks:

# %%
samplers = [DistributedSampler(range(10), num_replicas=2, rank=rank, seed=0) for rank in range(2)]
for epoch in range(2):
    for rank, sampler in enumerate(samplers):
        sampler.set_epoch(epoch)  # without it every epoch has the same order
        print(f"epoch {epoch}, rank {rank}: {list(sampler)}")

# %% [markdown]
# ## In plain PyTorch
#
# Now you write what each rank runs. `%ranks start` starts two processes; a cell with `%%ranks` runs on both. Each finds
# its own `rank`, `world_size` and `device`, and has called `init_process_group` already.

# %%
# %ranks start 2 {kind}

# %%
# %%ranks
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lab import data
from lab.nets.net import Net

torch.manual_seed(rank)  # so every rank begins with other parameters
net = Net().to(device)
print("on its own:  ", net.fc2.bias.detach().cpu()[:3].tolist())
ddp = DistributedDataParallel(net)  # here rank 0 sends its parameters to all
print("inside DDP:  ", net.fc2.bias.detach().cpu()[:3].tolist())

# %% [markdown]
# The copies are equal now, and this was the only time that parameters travelled. (Buffers, such as the running means of
# batch norm, come from rank 0 before every forward; `Net` has none.) The loop is the one of notebook 01, with
# two more lines: the sampler, and `set_epoch`.

# %%
# %%ranks
mnist = data.load("mnist")
dataset = TensorDataset(mnist.train_inputs[:2560], mnist.train_targets[:2560])
sampler = DistributedSampler(dataset, seed=0)
loader = DataLoader(dataset, batch_size=64 // world_size, sampler=sampler)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01, momentum=0.9)

sampler.set_epoch(0)
for x, y in loader:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(ddp(x.to(device)), y.to(device))
    loss.backward()  # buckets are averaged in here
    optimizer.step()
print(f"last loss {loss.item():.4f}, sum of all parameters {sum(p.sum() for p in net.parameters()).item():.6f}")

# %% [markdown]
# Different losses, the same parameters. What is averaged, then? `no_sync()` switches DDP's part off, so that you can see a
# rank's own gradient, and compare.


# %%
# %%ranks
def gradient():
    ddp.zero_grad()
    nn.functional.cross_entropy(ddp(x.to(device)), y.to(device)).backward()
    return net.fc2.bias.grad.clone()


with ddp.no_sync():
    own = gradient()
averaged = gradient()
mean = own.clone()
dist.all_reduce(mean)  # now the sum of all ranks' own gradients, on every rank
mean /= world_size
print("its own gradient:", [round(value, 4) for value in own.cpu().tolist()[:3]])
print("what DDP leaves: ", [round(value, 4) for value in averaged.cpu().tolist()[:3]])
apart = float((averaged - mean).abs().max())
print(f"differs from the mean of all ranks' by {apart:.1e}")

# %%
# apart = %ranks pull apart
predict_averaged.reveal("the gradients" if max(apart.values()) < 1e-6 else "the parameters")

# %%
# %ranks stop

# %% [markdown]
# ## What happens to the learning rate
#
# With $N$ ranks the **global** batch is $N$ times the local one. Two ranks with 64 images each make steps of 128 images:
# half as many steps for the same images, and, because gradients are averaged and not added up, each step is about as long
# as before.


# %%
def trained(run):
    """The mean loss of its last five steps."""
    run.result()
    return sum(run.state.mean_loss.y[-5:]) / 5


twice = experiment.replace(batch_size=128, steps=state.step // 2)
runs = [run, lab.start(twice), lab.start(twice.replace(lr=0.02))]  # the first is the panel's
small, large, scaled = map(trained, runs)
predict_loss.reveal("the same" if abs(large - small) < 0.02 else "higher" if large > small else "lower")

# %%
for each in runs:
    print(
        f"global batch {each.experiment.batch_size}, learning rate {each.experiment.lr}: {each.state.step} steps, "
        f"{each.state.samples:,} images, loss {trained(each):.2f}, "
        f"{each.state.evaluations[-1].accuracy:.1%} of the test images right"
    )

# %% [markdown]
# Twice the batch with twice the learning rate comes closer: this is the **linear scaling rule** (Goyal et al., 2017). It
# is a rule of thumb. In that paper it held for ResNet-50 up to batches of 8,192 images, and needed a gentle beginning, in
# which the learning rate grows for five epochs (warm-up).
#
# Two ways to say the same thing, then. Keep the global batch: each rank gets `batch / N`, and nothing else changes. Or keep
# the local batch: the global one grows, and the learning rate has to be looked at again.

# %% [markdown]
# ## Exercise
#
# **1.** Deal out the samples `0, 1, …, samples - 1`: return the list of indices that `rank` gets, one of `world_size` ranks.
# Every sample must be used, and every rank must get **equally many**; if they do not come out even, use some twice.


# %% tags=["exercise"] name="03-share"
def share(samples, rank, world_size):
    return ...


# %%
check("03-share", share)

# %% [markdown]
# **2.** Training on one device works well with some batch size and learning rate. Return what each of `ranks` ranks needs to
# make the **same updates**: the batch size of its own `DataLoader`, and the learning rate.


# %% tags=["exercise"] name="03-same"
def settings(batch_size, lr, ranks):
    return ..., ...


# %%
check("03-same", settings)

# %% [markdown]
# ## Where to read on
#
# - **06** has ranks that hold several devices each; **07** has ranks that are late, or die.
# - Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020): why buckets, in the words
#   of those who built them.
# - Patarasuk and Yuan, *Bandwidth optimal all-reduce algorithms for clusters of workstations* (2009): why no way of adding
#   up sends less than a ring.
# - Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017).
# - PyTorch's notes on
#   [DistributedDataParallel](https://docs.pytorch.org/docs/stable/notes/ddp.html).
