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
# # 02 · Data parallelism: one batch, several devices
#
# **What you will see.** Several devices train one net together, each with its own share of the batch. You will go through
# the six steps with real tensors, check the formula on real gradients, and use `nn.DataParallel`.
#
# **Time:** 35 minutes. **Before:** notebook 01.

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
import copy

import torch
from torch import nn

import lab
from lab import breakdown, course, data, vgpu
from lab.exercises import check
from lab.nets.net import Net
from widgets.notebook import FormulaCheck, LabPanel, Predict, StepThrough

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
# Every device holds a full copy of the net, with the same parameters $\theta$, and gets a share of the batch. From its
# share, device $i$ computes a loss $L_i$ and a gradient. All devices then use the **mean** of the $N$ gradients:
#
# $$\theta \leftarrow \theta - \eta \cdot \frac{1}{N} \sum_i \nabla L_i(\theta)$$
#
# $\eta$ is the learning rate. This is plain SGD. SGD with **momentum** $\mu$ remembers the steps before in a $v$ for each
# parameter, and does the same with it on every device: $v \leftarrow \mu v + \frac{1}{N} \sum_i \nabla L_i(\theta)$ and
# $\theta \leftarrow \theta - \eta v$. In the first step $v$ is the mean itself, so that both are one formula there.
#
# ## Predict
#
# Three ranks have 16 images each. One device alone has all 48. Compare the mean of the three gradients with the gradient
# of the one device.

# %%
predict_mean = Predict(
    "How far apart are they?",
    kind="choice",
    options=["equal, up to rounding", "the mean is a third of it", "different: each rank saw other images"],
)
predict_mean

# %% [markdown]
# ## Six steps, one click each
#
# Split the data, copy the model, compute gradients locally, synchronise, update, repeat. Click through them. At
# "Compute gradients locally" the three rows differ; at "Synchronise" they become one.

# %%
three = lab.Experiment(strategy="ddp", world_size=3, batch_size=48, lr=0.1, momentum=0)  # plain SGD
step_through = StepThrough(three)
step_through

# %% [markdown]
# The same steps by this cell, on all parameters at once:

# %%
from lab.six_steps import SixSteps

steps = SixSteps(three)
steps.finish()
whole = steps.whole_batch_gradient()
apart = max(float((whole[name] - steps.mean[name]).abs().max()) for name in steps.names)
largest = max(float(gradient.abs().max()) for gradient in whole.values())
predict_mean.reveal("equal, up to rounding" if apart < 1e-5 * largest else "different: each rank saw other images")

# %%
print("losses of the three ranks:", [round(loss, 4) for loss in steps.losses])
print(f"largest value in the gradient: {largest:.4f}; mean and whole batch differ by at most {apart:.1e}")
print(f"largest difference between the three copies after the update: {steps.copies_differ_by}")

# %% [markdown]
# Why is it equal? The loss of a batch is the mean over its images. Three shares of 16 images have three means, and the mean
# of those is the mean of all 48, because the shares have equal sizes. A gradient of a mean is the mean of the gradients.
#
# So data parallelism changes **where** the work is done, not what is learned, as long as each image passes the net on its
# own and nothing is drawn by lot. Two layers break that. **Batch norm** normalises with the mean and the deviation of the
# images that it sees, and here it sees a share only (`nn.SyncBatchNorm` asks all ranks for theirs). **Dropout** draws other
# numbers on each device. With either of them, the gradients are no longer those of one device:

# %%
mnist = data.load("mnist")


def gradient(net, x, y):
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])


x, y = mnist.train_inputs[:48], mnist.train_targets[:48]
for layer in (nn.Identity(), nn.BatchNorm1d(50), nn.Dropout()):
    torch.manual_seed(0)
    tried = nn.Sequential(nn.Flatten(), nn.Linear(784, 50), layer, nn.ReLU(), nn.Linear(50, 10))
    of_one = gradient(tried, x, y)
    mean = torch.stack([gradient(tried, *share) for share in zip(x.chunk(3), y.chunk(3), strict=True)]).mean(0)
    far = float((mean - of_one).abs().max() / of_one.abs().max())
    print(f"{type(layer).__name__:12} three shares and one device differ by {far:.1e} of the largest value")

# %% [markdown]
# ## The experiment
#
# `nn.DataParallel` does the six steps in one process. In every step the **first** device sends its parameters to the
# others, collects their outputs and their gradients, and updates. How much is that? Leave out the images: in this run each
# device gets its half of them from the host.

# %%
parameters = sum(parameter.numel() for parameter in Net().parameters())
print(f"Net has {parameters:,} parameters of 4 bytes: {4 * parameters:,} bytes")
predict_bytes = Predict("How many bytes cross between the two devices in a step?", unit="bytes")
predict_bytes

# %% [markdown]
# Press **Run**. On the timeline, both devices compute at the same time. Look for what only the first one does.

# %%
experiment = lab.Experiment(strategy="data_parallel", devices=devices, timing="modelled", **length)
panel = LabPanel(experiment, show=("loss", "timeline", "busy", "memory"))
panel

# %% [markdown]
# ## What happened, in numbers

# %%
run = panel.finished()
state = run.state
predict_bytes.reveal(state.crossing_bytes)

# %%
for name in state.device_names:
    spent, peak = breakdown.of_device(state, name), state.memory[name].peak
    print(f"{name}: computes {spent.busy:.0%} of the time, waits {spent.waiting:.0%}, holds up to {peak:,} bytes")
    print(f"{'':{len(name)}}  sends {state.sent_bytes[name]:,} bytes in a step")
print(f"{state.crossing_bytes:,} bytes cross in a step; the host sends {state.host_bytes:,} bytes of images and labels")

# %% [markdown]
# Where do they come from? Count the parameters on their way out, their gradients on the way back, and the outputs of the
# second device's half of the batch (ten numbers for each image), also with their gradients.

# %%
outputs = experiment.batch_size // 2 * 10 * 4
print(f"parameters and gradients {2 * 4 * parameters:,}, outputs and their gradients {2 * outputs:,}")
print(f"together {2 * 4 * parameters + 2 * outputs:,} bytes")

# %% [markdown]
# Buffers would travel too, such as the running means of batch norm; `Net` has none. And why does the first device hold
# more? It alone updates, so it alone holds what the optimizer remembers: with momentum a $v$ for each parameter. The same
# run without momentum:

# %%
first, second = (state.memory[name].peak for name in devices)
plain = lab.start(experiment.replace(momentum=0, steps=10))
plain.result()
without = plain.state.memory[devices[0]].peak - plain.state.memory[devices[1]].peak
print(f"the first device holds {first - second:,} bytes more, and {without:,} more without momentum")
print(f"a v for each parameter: {4 * parameters:,} bytes")

# %% [markdown]
# Is it faster, and does it learn the same? One device with the same batches:

# %%
alone = lab.start(experiment.replace(strategy="single", devices=devices[:1]))
alone.result()
speedup = alone.state.step_seconds / state.step_seconds
gap = max(abs(a - b) for a, b in zip(alone.state.mean_loss.y, state.mean_loss.y, strict=True))
print(f"a step takes {1e3 * alone.state.step_seconds:.2f} ms on one device, {1e3 * state.step_seconds:.2f} ms on two")
print(f"speed-up {speedup:.2f} of 2; the losses of all steps differ by at most {gap:.1e}")

# %% [markdown]
# It is less than 2: the copying takes time, and so does what only the first device does.
#
# Now the formula on this run's own gradients. Choose a parameter and a step; the two bold rows are the two sides of the
# formula. The run has momentum: in step 0 $v$ is the mean, from step 1 on there is more in it.

# %%
formula = FormulaCheck(run)
formula

# %%
for step in (0, 1, 9):
    tried = FormulaCheck(run, step=step)
    print(f"step {tried.step.value}: largest difference between both sides, all parameters: {tried.difference:.1e}")

# %% [markdown]
# ## In plain PyTorch
#
# First by hand, so that nothing is hidden: the six steps for two devices.

# %%
images, labels = mnist.train_inputs[:64], mnist.train_targets[:64]
torch.manual_seed(0)
net = Net()

shares = zip(images.chunk(2), labels.chunk(2), strict=True)  # 1. split the data
copies = [copy.deepcopy(net).to(device) for device in devices]  # 2. copy the model
for replica, device, (x, y) in zip(copies, devices, shares, strict=True):
    nn.functional.cross_entropy(replica(x.to(device)), y.to(device)).backward()  # 3. gradients, locally
for together in zip(*(replica.parameters() for replica in copies), strict=True):
    mean = torch.stack([parameter.grad.cpu() for parameter in together]).mean(dim=0)  # 4. synchronise
    for parameter in together:
        parameter.grad = mean.to(parameter.device)
for replica in copies:
    torch.optim.SGD(replica.parameters(), lr=0.01).step()  # 5. update; 6. repeat with the next batch

apart = max(
    float((a.detach().cpu() - b.detach().cpu()).abs().max())
    for a, b in zip(copies[0].parameters(), copies[1].parameters(), strict=True)
)
print("the copies differ by", apart)

# %% [markdown]
# And with `nn.DataParallel`: one line. The whole batch goes to the first device, which sends the others their parts of it,
# and so does everything that comes back.

# %%
torch.manual_seed(0)
parallel = nn.DataParallel(Net().to(devices[0]), device_ids=list(devices))
optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)

scores = parallel(images.to(devices[0]))  # scatter, replicate, compute, gather
loss = nn.functional.cross_entropy(scores, labels.to(devices[0]))
loss.backward()  # the gradients of the replicas are added up on the first device
optimizer.step()
print(f"output on {scores.device}, loss {loss.item():.4f}")

theirs = [parameter.detach().cpu() for parameter in parallel.parameters()]
ours = [parameter.detach().cpu() for parameter in copies[0].parameters()]
print("differs from the step by hand by", max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True)))

# %% [markdown]
# So here the second device's images cross between the devices as well, which the lab's run spared:

# %%
passed_on = images.chunk(2)[1].numel() * 4
print(f"{passed_on:,} bytes of images; with those counted above, {state.crossing_bytes + passed_on:,} bytes in a step")
if devices[0].startswith("vgpu"):  # a profile of the same step
    with vgpu.profile() as profile:
        nn.functional.cross_entropy(parallel(images.to(devices[0])), labels.to(devices[0])).backward()
    crossed = sum(link.bytes for link in profile.links() if "cpu" not in (link.source, link.target))
    print(f"{crossed:,} bytes between the devices were measured")

# %% [markdown]
# `nn.DataParallel` is good for understanding. For work, PyTorch recommends `DistributedDataParallel` also on one machine:
# a process for each device, no first device that does more than the others, and parameters that are sent once, at the
# beginning (buffers, where a net has some, before each forward). That is notebook 03.
#
# ## Exercise
#
# **1.** Write the formula. `theta` is one parameter, `gradients` a list with each rank's gradient of it, `eta` the learning
# rate. Return the new parameter, and leave `theta` and `gradients` as they are.


# %% tags=["exercise"] name="02-update"
def update(theta, gradients, eta):
    return ...


# %%
check("02-update", update)

# %% [markdown]
# **2.** One device is faster than the other, so you give it 40 images and the other 24. Each computes the mean loss of its
# own share. The plain mean of the two gradients is now **not** the gradient of the whole batch. Write what is, from the
# gradients and the sizes of the shares.


# %% tags=["exercise"] name="02-unequal"
def combine(gradients, sizes):
    return ...


# %%
check("02-unequal", combine)

# %% [markdown]
# ## Where to read on
#
# - **03**: `DistributedDataParallel`, which hides most of the communication behind the computation.
# - PyTorch on [`nn.DataParallel`](https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html), with its
#   warning that points to `DistributedDataParallel`.
# - PyTorch on [`SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html): the formula with momentum.
# - Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017): what large shared batches need.
