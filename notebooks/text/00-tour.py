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
# # 00 · A tour of the bench
#
# **What you will see.** A small net trains on two devices while you watch. You will place its layers, predict a number
# before you measure it, write PyTorch on devices that this computer may not have, and check an exercise.
#
# **Time:** 20 minutes. **You need:** a little PyTorch. No GPU.

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

import lab
from lab import breakdown, course
from lab.exercises import check
from widgets.notebook import LabPanel, Predict

# %% [markdown]
# ## The settings
#
# Every notebook has such a cell. `HARDWARE = "auto"` takes the GPUs of this machine where there are enough of them, and
# **virtual GPUs** otherwise. A virtual GPU is a PyTorch device whose results are real and whose time is simulated.
# `"virtual"` and `"gpu"` insist on one kind. `STEPS` is how long the experiments train.

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 60  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE)
length = course.length(steps=STEPS, epochs=1)
devices, length

# %% [markdown]
# ## The net
#
# `Net` reads an image of a handwritten digit and says which digit it is. It has four layers.

# %%
from lab.nets.net import Net

for name, layer in Net().named_children():
    count = sum(parameter.numel() for parameter in layer.parameters())
    print(f"{name}: {layer}, {count:,} parameters")

# %% [markdown]
# ## Predict
#
# We put `conv1` on the first device and all other layers on the second. The second device needs the output of the first,
# and in the backward pass the first needs the gradient from the second. While something is copied between them, neither
# computes.

# %%
predict = Predict("For what share of the time does the first device compute?", unit="%")
predict

# %% [markdown]
# ## The experiment
#
# An `Experiment` says everything about a run. The panel shows it. Press **Run**, and watch three things:
#
# 1. the loss goes down: this is real training;
# 2. the timeline has one lane for each device: are both busy at the same time?
# 3. the board shows what crosses between the devices. Drag a layer to the other device and run again.

# %%
experiment = lab.Experiment(
    strategy="model_parallel",
    devices=devices,
    placement={"conv1": devices[0], "*": devices[1]},  # the first match wins
    **length,
)
panel = LabPanel(experiment)
panel

# %% [markdown]
# ## What happened, in numbers
#
# This cell waits for the run's end, and starts a run if you have not.

# %%
run = panel.finished()
state = run.state
predict.reveal(100 * breakdown.busy(state, devices[0]))

# %% [markdown]
# The same number stands on the board, as "busy": the share of the time in which a device computes. The rest:

# %%
for name in state.device_names:
    spent = breakdown.of_device(state, name)
    print(f"{name}: computes {spent.busy:.0%}, sends or receives {spent.communicating:.0%}, waits {spent.waiting:.0%}")
print(f"{state.crossing_bytes:,} bytes cross between the devices in each step")
print(f"loss {state.mean_loss.y[0]:.2f} at first, {state.last_loss:.2f} at last")

# %% [markdown]
# Two devices, and each of them waits for a good part of the time. Placing layers makes room for a large net; it does not
# make a small one faster. Notebooks 04 and 05 are about that.

# %% [markdown]
# ## In plain PyTorch
#
# You can use the same devices in a cell. Nothing here is the lab's: it is PyTorch as you would write it for CUDA.

# %%
x = torch.ones(3, device=devices[0])
y = torch.ones(3, device=devices[1])
try:
    x + y
except RuntimeError as error:
    print(error)

# %% [markdown]
# Two tensors must be on one device before they can be added. `.to()` brings one to the other.

# %%
x.to(devices[1]) + y

# %% [markdown]
# ## Exercise
#
# How much crosses depends on where you cut the net. Find a placement that uses **both devices** and sends **less than
# 100,000 bytes** across in a step. Write it below in place of the `...`.

# %% name="00-cut" tags=["exercise"]
placement = ...

# %%
check("00-cut", placement)

# %% [markdown]
# Then try it: put your placement on the board above, run again, and compare the bytes.
#
# ## Where to read on
#
# - **01** trains `Net` on one device: the yardstick for everything after it.
# - `parallel-lab demo` opens the same bench as a page in the browser.
# - PyTorch's own overview of what comes: <https://docs.pytorch.org/tutorials/beginner/dist_overview.html>
