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
# # 05 · Microbatches and the bubble
#
# **What you will see.** Two devices that hold one half of a net each wait for each other half of the time. Cut the batch
# into parts, and they work side by side. How many parts are best, and why not more?
#
# **Time:** 25 minutes. **You need:** notebook 04.

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
from lab.breakdown import busy
from lab.exercises import check
from widgets.notebook import Curves, LabPanel, Predict

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 8  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(2, HARDWARE, timing="modelled")
length = course.length(steps=STEPS, epochs=1)
devices

# %% [markdown]
# ## The idea
#
# In notebook 04 one device worked while the other waited: the second half of the net needs what the first half makes.
# Now cut the batch into **microbatches**. F is forward, B is backward (twice the work), a dot is waiting; a number is the
# part that is worked on, first forward, then backward:
#
# ```
# one part     device 0   F F F F . . . . . . . . . . . . B B B B B B B B
#              device 1   . . . . F F F F B B B B B B B B . . . . . . . .
#
# two parts    device 0   1 1 2 2 . . . . . . 1 1 1 1 2 2 2 2
#              device 1   . . 1 1 2 2 1 1 1 1 2 2 2 2 . . . .
# ```
#
# While device 1 works on part 1, device 0 is already at part 2. The waiting that is left, at the beginning and at the
# end, is called the **bubble**.

# %% [markdown]
# ## Predict
#
# The net is a small GPT with the same number of blocks on each device. With the batch in one piece, each device works for
# half of the time.

# %%
predict = Predict("In 4 microbatches: for what share of the time does a device work?", unit="%")
predict

# %% [markdown]
# And what if we go on: 8, 16, 32 microbatches of the same batch of 64 samples?

# %%
shape = Predict(
    "With more and more microbatches, the time of a step ...",
    kind="choice",
    options=["falls, ever more slowly", "falls, then rises", "stays the same"],
)
shape

# %% [markdown]
# ## The experiment
#
# Press **Run**, and look at the timeline: when one lane is busy, the other is not. Then write 4 in **Microbatches** and run
# again. With 16, you can still see where the bubble is.

# %%
experiment = lab.Experiment(
    net="gpt",
    strategy="model_parallel",
    devices=devices,
    placement="even",
    batch_size=64,
    timing="modelled",  # of virtual GPUs: the same times on every computer
    **length,
)
panel = LabPanel(experiment, show=("timeline", "busy", "loss"))
panel

# %% [markdown]
# ## What happened, in numbers
#
# This cell waits for the panel's run, and starts one if you have not.


# %%
def working(state):
    """The share of its time in which a device computes, mean of all devices."""
    return sum(busy(state, device) for device in state.device_names) / len(state.device_names)


run = panel.finished()
print(f"microbatches: {run.experiment.microbatches}, a device works {working(run.state):.0%} of the time")

# %% [markdown]
# Now the same step with 1 to 32 microbatches. First your predictions, then the table.


# %%
def measured(microbatches):
    run = lab.start(experiment.replace(microbatches=microbatches, epochs=1, steps=1))
    run.result()
    return run.state


parts = [1, 2, 4, 8, 16, 32]
states = [measured(count) for count in parts]
step_ms = [state.step_seconds * 1e3 for state in states]
predict.reveal(100 * working(states[parts.index(4)]))

# %%
fastest = parts[step_ms.index(min(step_ms))]
shape.reveal("falls, then rises" if fastest < parts[-1] else "falls, ever more slowly")

# %%
for count, state, ms in zip(parts, states, step_ms):
    print(f"microbatches: {count:2}, {ms:6.1f} ms a step, a device works {working(state):.0%} of the time")

# %% [markdown]
# ## The formula
#
# Let there be $n$ devices and $m$ microbatches. The last device starts $n - 1$ turns late, and then works for $m$ turns.
# So a step takes $m + n - 1$ turns, and of these a device waits for $n - 1$:
#
# $$\text{bubble} = \frac{n - 1}{m + n - 1}$$

# %%
n = len(devices)
bubble = [100 * (n - 1) / (m + n - 1) for m in parts]
waiting = [100 * (1 - working(state)) for state in states]
lines = {"measured": waiting, "(n − 1) / (m + n − 1)": bubble}
Curves("The bubble", parts, lines, "microbatches", "% waiting", log_x=True)

# %% [markdown]
# The formula counts turns, as if a device worked in all that are not bubble, and all were equally long. With few
# microbatches that is nearly so. Now the time of a step. If parts cost nothing, it would be $\frac{m + n - 1}{m\,n}$ of the
# time with one part.

# %%
ideal_ms = [step_ms[0] * (m + n - 1) / (m * n) for m in parts]
lines = {"measured": step_ms, "if parts cost nothing": ideal_ms}
Curves("A training step", parts, lines, "microbatches", "ms", log_x=True)

# %% [markdown]
# ## Why it turns up again
#
# A device does not get its work for nothing. Each operation has to be started (a kernel **launch**), and that takes as
# long for 1 sample as for 64. More parts are more launches.
#
# So what parts cost is the distance between the two curves above. From 16 to 32 microbatches it grows by

# %%
above = [ms - ideal for ms, ideal in zip(step_ms, ideal_ms)]
cost_ms = (above[-1] - above[-2]) / (parts[-1] - parts[-2])
print(f"{above[-1] - above[-2]:.1f} ms: each further microbatch costs {cost_ms:.2f} ms, however small it is")

best = (step_ms[0] * (n - 1) / (n * cost_ms)) ** 0.5
print(f"gain and cost are in balance at about {best:.0f} microbatches; {fastest} were fastest here")
speedup = step_ms[0] / min(step_ms)
print(f"that step is {speedup:.2f} times as fast as the one in one piece; {n} times would be perfect")

# %% [markdown]
# The balance: the bubble costs $\frac{t_1 (n-1)}{n\,m}$, where $t_1$ is the time with one part, and the parts cost
# $c\,m$. The sum is least where both are equal, at $m = \sqrt{t_1 (n-1) / (n\,c)}$.

# %% [markdown]
# ## In plain PyTorch
#
# There is no trick: a loop over the parts. It works because the host only *issues* work. It does not wait for a device, so
# it issues part 2 for device 0 while device 1 is still at part 1.


# %%
class Pipeline(nn.Module):
    def __init__(self, parts):
        super().__init__()
        torch.manual_seed(0)
        self.parts = parts
        self.first = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()).to(devices[0])
        self.second = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256)).to(devices[1])

    def forward(self, x):  # (B, 256) -> (B, 256)
        outputs = []
        for part in x.chunk(self.parts):
            hidden = self.first(part.to(devices[0]))
            outputs.append(self.second(hidden.to(devices[1])))  # issued, not waited for
        return torch.cat(outputs)


torch.manual_seed(1)
x, y = torch.randn(512, 256), torch.randn(512, 256).to(devices[1])


def train(net):
    net.zero_grad()
    nn.functional.mse_loss(net(x.to(devices[0])), y).backward()


nets = {count: Pipeline(count) for count in (1, 8)}
for count, net in nets.items():
    ms = course.milliseconds(lambda net=net: train(net), devices)
    print(f"parts: {count}, forward and backward: {ms:.1f} ms")

# %% [markdown]
# It computes the same. Gradients differ in the last digits only, because sums are taken in another order. (Backward begins
# with the last part here: autograd goes back from what was computed last. The bubble is the same.)

# %%
pairs = [(a.grad, b.grad) for a, b in zip(nets[1].parameters(), nets[8].parameters())]
difference = max((a - b).abs().max().item() for a, b in pairs)
largest = max(a.abs().max().item() for a, _ in pairs)
print(f"largest difference between the gradients: {difference:.1e}, where the largest gradient is {largest:.1e}")

# %% [markdown]
# One line can spoil it: whatever makes the host **wait** for a device. Put `print(hidden.sum().item())` into the loop, and
# measure again.

# %% [markdown]
# ## Exercise
#
# Microbatches have a second use: on *one* device they save memory, because each part's backward comes before the next
# part's forward. The gradients of the parts add up in `.grad`.
#
# Write `accumulate`. Afterwards, every parameter's gradient must be that of `loss_function(net(x), y)` on the whole batch.
# `loss_function` gives the **mean** over its samples. Take care: 10 samples do not make 4 parts of the same size.


# %% name="05-accumulate" tags=["exercise"]
def accumulate(net, loss_function, x, y, parts):
    """Leaves in .grad of net's parameters the gradient of the mean loss over all of x, one part at a time."""
    return ...  # in place of this line


# %%
check("05-accumulate", accumulate)

# %% [markdown]
# ## Where to read on
#
# - **06** gives each of two such pipelines a half of the batch.
# - Huang et al., *GPipe* (2019), where this schedule comes from: <https://arxiv.org/abs/1811.06965>
# - `torch.distributed.pipelining` has this schedule and others, which keep fewer activations or shrink the bubble further:
#   <https://docs.pytorch.org/docs/stable/distributed.pipelining.html>
# - [`docs/examples/resnet50_split.py`](../docs/examples/resnet50_split.py) finds the same U for ResNet-50 on two GPUs;
#   [`docs/virtual-gpus.md`](../docs/virtual-gpus.md) has the picture.
