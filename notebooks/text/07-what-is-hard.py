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
# # 07 · What is hard: links, load, and ranks that fail
#
# **What you will see.** What a copy costs besides its bytes, why all ranks are as slow as the slowest,
# and what it looks like when a rank dies, hangs, or computes nonsense. You break things on purpose, and read who is to blame.
#
# **Time:** 40 minutes. **You need:** notebooks 03 and 04.

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
from lab import course
from lab.breakdown import busy, of_rank
from lab.exercises import check
from widgets.notebook import Curves, LabPanel, Predict

# %load_ext widgets.notebook

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 60  # whole epochs when the environment has PARALLEL_LAB_LONG=1

# %%
devices = course.devices(3, HARDWARE, timing="modelled")
length = course.length(steps=STEPS, epochs=1)
devices

# %% [markdown]
# ## 1. A link: latency and bandwidth
#
# A copy from one device to another takes
#
# $$t = \text{latency} + \frac{\text{bytes}}{\text{bandwidth}}$$
#
# The latency is the time until the first byte arrives. It is paid for each copy, however small.

# %% [markdown]
# ## Predict

# %%
times = Predict("A copy of 100 kB takes how many times as long as one of 1 kB?", unit="times")
times


# %%
def copy_ms(size):
    """Milliseconds for a copy of `size` bytes between the first two devices."""
    tensor = torch.zeros(size // 4, device=devices[0])
    return course.milliseconds(lambda: tensor.to(devices[1]), devices, times=4)


sizes = [10**3, 10**4, 10**5, 10**6, 10**7]
took = [copy_ms(size) for size in sizes]
times.reveal(took[2] / took[0])

# %%
for size, ms in zip(sizes, took):
    print(f"{size:>10,} bytes: {ms:7.3f} ms, that is {size / ms / 1e6:.3f} GB/s")
print(f"100 times the bytes take {took[2] / took[0]:.1f} times as long")

# %%
Curves("A copy between two devices", sizes, {"measured": took}, "bytes", "ms", log_x=True, log_y=True)

# %% [markdown]
# On the left the line is flat: there you pay for latency. On the right it rises: there you pay for bytes. The two largest
# copies give the bandwidth, the smallest one the latency (and what the host needs to issue it). Where both cost the same,
# the line bends.

# %%
bandwidth = (sizes[-1] - sizes[-2]) / (took[-1] - took[-2])  # bytes per ms
latency = took[0] - sizes[0] / bandwidth
print(f"bandwidth {bandwidth / 1e6:.2f} GB/s, latency {latency * 1e3:.0f} µs")
print(f"below {latency * bandwidth:,.0f} bytes, most of the time is latency")

# %% [markdown]
# So one copy of many bytes is better than many copies of few. That is why DDP puts gradients into **buckets**.

# %% [markdown]
# ## 2. Uneven load
#
# In a pipeline, the slowest stage sets the pace. Two placements of the same net, with 4 microbatches. The second gives each
# device two layers, and comes nearest to the same number of parameters on both:

# %%
placements = {
    "conv1 | the rest": {"conv1": devices[0], "*": devices[1]},
    "conv1, conv2 | fc1, fc2": {"conv*": devices[0], "fc*": devices[1]},
}
for name, placement in placements.items():
    run = lab.start(
        lab.Experiment(
            strategy="model_parallel",
            devices=devices[:2],
            placement=placement,
            microbatches=4,
            batch_size=256,
            timing="modelled",
            steps=4,
        )
    )
    run.result()
    work = [busy(run.state, device) for device in devices[:2]]
    held = [0, 0]
    for node in run.state.graph.nodes:
        if node.device in devices[:2]:
            held[devices.index(node.device)] += node.parameters
    print(f"{name}: {held[0]:,} and {held[1]:,} parameters")
    print(
        f"    {run.state.step_seconds * 1e3:.1f} ms a step, the devices compute {work[0]:.0%} and {work[1]:.0%} of it"
    )

# %% [markdown]
# Counting layers or parameters does not balance a pipeline. Time does: `placement="auto"` goes by it, and chooses the first.

# %% [markdown]
# ## 3. A straggler
#
# Now three ranks share each batch. After 20 steps, rank 1 becomes three times as slow, as a device does that gets too hot,
# or has to share with another program.

# %%
slower = Predict(
    "Rank 1 takes three times as long to compute. What happens to rank 0?",
    kind="choice",
    options=["it goes on as fast", "its steps take longer", "it takes over some of the work"],
)
slower

# %% [markdown]
# ## The experiment
#
# Press **Run**. Watch the timeline and the breakdown: who computes, and who waits? The log at the end has a line for each
# rank.

# %%
healthy = lab.Experiment(
    strategy="ddp",
    devices=devices,
    world_size=3,
    batch_size=192,
    timing="modelled",
    **length,
)
late = healthy.replace(faults=["straggle:1:20:3"])
panel = LabPanel(late, show=("timeline", "breakdown", "loss", "log"))
panel

# %% [markdown]
# While a run goes on, you can do the same by hand: `panel.run.inject("straggle:2:0:5")`.

# %% [markdown]
# ## What happened, in numbers

# %%
panel.finished()

short = healthy.replace(epochs=1, steps=20)
before, after = lab.start(short), lab.start(short.replace(faults=["straggle:1:0:3"]))
before.result()
after.result()
ratio = after.state.step_seconds / before.state.step_seconds
slower.reveal("its steps take longer" if ratio > 1.2 else "it goes on as fast")

# %%
for name, run in {"all are well": before, "rank 1 straggles": after}.items():
    print(f"{name}: {run.state.step_seconds * 1e3:.2f} ms a step")
    for rank in range(3):
        spent = of_rank(run.state, rank)
        print(
            f"    rank {rank}: computes {spent.busy:.0%}, communicates {spent.communicating:.0%}, waits {spent.waiting:.0%}"
        )
print()
print(after.state.straggler)

# %% [markdown]
# Nobody did anything wrong, and yet all are slow: an all-reduce ends when the last rank has brought its gradients. Look for
# the rank that waits **least**. It is the one that the others wait for.

# %% [markdown]
# ## 4. A rank that fails
#
# Four ways to fail, one after another, each in rank 1 before its step 5.
#
# | fault | what happens |
# |---|---|
# | `kill` | the process is gone, as when the system runs out of memory |
# | `hang` | it stops computing, but stays alive |
# | `nan` | its gradients become NaN |
# | `skip` | it forgets one all-reduce, and goes on |

# %%
loudest = Predict(
    "Rank 1 is killed. Who reports an error by itself?",
    kind="choice",
    options=["rank 1", "ranks 0 and 2", "all of them"],
)
loudest

# %%
failures = {}
for fault in ("kill", "hang", "nan", "skip"):
    experiment = lab.Experiment(
        strategy="ddp", world_size=3, batch_size=48, steps=40, timeout_s=3, faults=[f"{fault}:1:5"]
    )
    run = lab.start(experiment)
    run.wait()
    failures[fault] = run.state.failures

reported = [failure.rank for failure in failures["kill"] if "lost the others" in failure.cause]
loudest.reveal("ranks 0 and 2" if reported == [0, 2] else "all of them")

# %%
for fault, found in failures.items():
    print(f"{fault}:")
    for failure in found:
        print("   ", "ROOT CAUSE" if failure.primary else "follows   ", failure.cause)

# %% [markdown]
# A process that is killed says nothing. The *others* raise errors, about connections, and those errors are what you find at
# the end of a long log. So never trust the loudest rank:
#
# - **killed**: somebody's process is missing. Look at exit codes, and at the memory.
# - **hangs**: somebody did not come to where the others wait. Look at its stack.
# - **NaN**: after one all-reduce, all ranks have it. Look at the gradients *before* the average.
# - **skipped**: PyTorch raises no error, as long as the all-reduces have the same size: each rank's next one meets another
#   of the others'. The copies are not equal any more, and training goes on, wrong. Compare checksums of the parameters, as
#   the lab does.

# %% [markdown]
# ## In plain PyTorch
#
# The same with a live group of processes. Rank 1 raises an error of its own; the others wait in an all-reduce for it. (The
# error below is meant to be.)

# %%
# %ranks start 3

# %% tags=["raises-exception"]
# %%ranks --timeout 20
import torch
import torch.distributed as dist

x = torch.tensor([float(rank)])
if rank == 1:
    raise ValueError("my disk is full")
dist.all_reduce(x)

# %% [markdown]
# The first line names rank 1 and its own error; what the others saw follows from it. They keep their variables:

# %%
# %%ranks
dist.all_reduce(x)
print(x)

# %%
# %ranks stop

# %% [markdown]
# ## Exercise
#
# With thousands of devices, something fails every day: 419 times in 54 days on the 16,384 GPUs of Llama 3 (Dubey et al.
# 2024, below). So long runs write **checkpoints**, and go on from the last one.
#
# Write `save` and `load`. `save` writes a file. `load` puts everything back into a *new* net and a *new* optimizer, and
# returns the step to go on with. A run with a break must give the same parameters as one without.


# %% tags=["exercise"] name="07-resume"
def save(path, net, optimizer, step):
    """Writes all that is needed to go on with `step`."""
    return ...  # in place of this line


def load(path, net, optimizer):
    """Puts it back, and returns the step."""
    return ...  # in place of this line


# %%
check("07-resume", save, load)

# %% [markdown]
# ## Where to read on
#
# - **08** is about the other limit: memory.
# - `lab.faults` lists all faults; `parallel-lab run --strategy ddp --faults hang:1:5` does it in a terminal.
# - PyTorch's `torchrun` starts ranks again after a failure:
#   <https://docs.pytorch.org/docs/stable/elastic/run.html>
# - Dubey et al. (2024), *The Llama 3 Herd of Models*, section 3.3.4, on what failed and how often:
#   <https://arxiv.org/abs/2407.21783>
# - Dean and Barroso, *The Tail at Scale* (2013), on why the slowest of many is so slow:
#   <https://research.google/pubs/the-tail-at-scale/>
