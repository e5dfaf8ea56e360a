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
# # 01 · One device: Net on MNIST
#
# **What you will see.** `Net` learns to read handwritten digits on one device. You will see what one step of training
# does, which layer takes the time and which one holds the parameters. Everything after this notebook is measured against
# it.
#
# **Time:** 25 minutes. **You need:** PyTorch's `nn.Module`, optimizers and `backward()`.

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
from PIL import Image
from torch import nn

import lab
from lab import breakdown, course, data
from lab.exercises import check
from lab.nets.net import Net
from widgets.notebook import LabPanel, Predict

# %% tags=["parameters"]
HARDWARE = "auto"  # GPUs where there are enough, else virtual ones
STEPS = 80  # the course's first run, 10 epochs, when the environment has PARALLEL_LAB_LONG=1

# %%
(device,) = course.devices(1, HARDWARE)
length = course.length(steps=STEPS, epochs=10)
device, length

# %% [markdown]
# ## The data
#
# MNIST: grey images of 28 × 28 pixels, each with the digit that it shows. They come with the lab, normalised with the
# mean and deviation of all training pixels (0.1307 and 0.3081).

# %%
mnist = data.load("mnist")
images, labels = mnist.train_inputs, mnist.train_targets
print(f"{len(images):,} training images of shape {tuple(images[0].shape)}, {len(mnist.test_inputs):,} to test with")
print(f"mean {images.mean():.4f}, deviation {images.std():.4f}")
print("labels of the first eight:", labels[:8].tolist())

strip = torch.cat([image[0] for image in images[:8]], dim=1)
grey = (255 * (strip - strip.min()) / (strip.max() - strip.min())).byte()
Image.fromarray(grey.numpy()).resize((8 * 84, 84))

# %% [markdown]
# ## The net
#
# Follow one image through it: the pictures get smaller, and there are more of them, until ten numbers are left.

# %%
net = Net()
x = images[:64]
with torch.no_grad():
    for name, layer in net.named_children():
        if name == "fc1":
            x = x.flatten(1)
        x = layer(x)
        print(f"{name:6} {layer.weight.numel() + layer.bias.numel():>6,} parameters, gives {tuple(x.shape)}")
        if name.startswith("conv"):
            x = torch.relu(nn.functional.max_pool2d(x, 2))
            print(f"{'':6} {'':>17} after pooling {tuple(x.shape)}")

# %% [markdown]
# ## Predict
#
# Two questions. Lock an answer to each before you run anything.

# %%
predict_accuracy = Predict("After the run, how many of 100 test images will the net read correctly?", unit="of 100")
predict_accuracy

# %%
predict_layer = Predict("Which layer takes most of the time?", kind="choice", options=list(dict(net.named_children())))
predict_layer

# %% [markdown]
# ## The experiment
#
# Batches of 64 images, SGD with learning rate 0.01 and momentum 0.9, cross-entropy. Press **Run**.
#
# Look at the timeline of one step: forward goes through the layers, backward comes back through them, and a short update
# ends the step. There is one lane, and it is nearly always busy.

# %%
experiment = lab.Experiment(strategy="single", devices=[device], timing="modelled", **length)
panel = LabPanel(experiment, show=("loss", "timeline", "busy", "memory"))
panel

# %% [markdown]
# ## What happened, in numbers

# %%
run = panel.finished()
state = run.state
predict_accuracy.reveal(100 * state.evaluations[-1].accuracy)

# %%
print(f"{state.step} steps, {state.samples:,} images; a step takes {1e3 * state.step_seconds:.2f} ms")
print(f"loss {state.mean_loss.y[0]:.3f} at first, {state.last_loss:.3f} at last")
print(f"a net that guesses has a loss of ln 10 = {torch.log(torch.tensor(10.0)):.3f}")
print(f"{state.evaluations[-1].accuracy:.0%} of the test images are right")
print(f"{device} computes {breakdown.busy(state, device):.0%} of the time")

# %% [markdown]
# Now layer by layer: which one takes most of the time?

# %%
nodes = {node.name: node for node in state.graph.nodes if node.kind == "layer"}
parameters = sum(node.parameters for node in nodes.values())
time_ns = {name: state.layers[name]["forward"] + state.layers[name]["backward"] for name in nodes}
predict_layer.reveal(max(time_ns, key=time_ns.get))

# %% [markdown]
# Where the parameters are, and where the time goes:

# %%
for name, node in nodes.items():
    share, time = node.parameters / parameters, time_ns[name] / sum(time_ns.values())
    flops = (node.forward_flops + node.backward_flops) / 1e6
    print(
        f"{name:6} {share:>4.0%} of the parameters, {flops:>6.1f} million operations a step, {time:>4.0%} of the time, "
        f"backward {state.layers[name]['backward'] / state.layers[name]['forward']:.2f} times as long as forward"
    )

# %% [markdown]
# The layer with most of the parameters is not the one that takes most of the time. A convolution uses each of its few
# parameters at every place of an image; a linear layer uses each parameter once for an image. Keep this in mind for
# notebook 04: cutting a net into parts with equal parameters does not give parts with equal work.
#
# Backward has two things to compute in each layer: the gradient of its parameters and that of its input, each about as
# much work as forward. Only the first layer's input, the image, needs no gradient.

# %% [markdown]
# ## In plain PyTorch
#
# This is the whole method. The lab's run did the same, with the same images in the same order.

# %%
torch.manual_seed(0)
net = Net().to(device)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loss_function = nn.CrossEntropyLoss()

order = torch.utils.data.DistributedSampler(range(len(images)), num_replicas=1, rank=0, seed=0)
batches = torch.tensor(list(order)).split(64)

losses = []
for indices in batches[:20]:
    x, y = images[indices].to(device), labels[indices].to(device)  # the batch goes to the device of the net
    optimizer.zero_grad()
    loss = loss_function(net(x), y)  # forward
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} after {len(losses)} steps")
if state.loss[0].stride == 1:  # a long run keeps averages of several steps
    theirs = state.loss[0].y[: len(losses)]
    print(f"largest difference from the lab's run: {max(abs(a - b) for a, b in zip(losses, theirs, strict=True)):.1e}")

# %% [markdown]
# ## One log-softmax too many
#
# `Net` ends with `log_softmax`, and `CrossEntropyLoss` begins with one. You will meet this pair in other people's
# code. Does it matter? Compare the loss with and without the net's own.

# %%
scores = torch.randn(64, 10)
once = nn.functional.cross_entropy(scores, labels[:64])
twice = nn.functional.cross_entropy(scores.log_softmax(1), labels[:64])
print(f"once {once:.6f}, twice {twice:.6f}, difference {abs(once - twice):.1e}")

# %% [markdown]
# It changes nothing: what `log_softmax` returns is normalised already, and normalising it again subtracts ln 1 = 0. It is
# still wrong. It costs an operation in every step, and a reader cannot tell what the net's output means. Choose one pair:
# raw scores with `CrossEntropyLoss`, or `log_softmax` with `NLLLoss`.
#
# ## Exercise
#
# This net has two mistakes: one stops it, the other is the one above. Mend it so that it goes with `CrossEntropyLoss`. Run
# the two cells, read what the check says, and go on until it agrees.


# %% tags=["exercise"] name="01-mend"
class Mended(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


# %%
check("01-mend", Mended)

# %% [markdown]
# A second one. Write the share of images that the net reads correctly. `scores` has a row of ten numbers for each image,
# `labels` the right digits.


# %% tags=["exercise"] name="01-accuracy"
def accuracy(scores, labels):
    return ...


# %%
check("01-accuracy", accuracy)

# %% [markdown]
# ## Where to read on
#
# - **02**: the same batch on several devices at once.
# - PyTorch's [Optimizing Model Parameters](https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html)
#   explains the loop step by step.
# - LeCun, Bottou, Bengio, Haffner: *Gradient-based learning applied to document recognition* (1998), where MNIST and
#   nets of this shape come from.
