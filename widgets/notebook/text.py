"""Every word that the notebook's widgets show, in one place. Error sentences come from `lab`."""

from __future__ import annotations

from widgets.pace import WATCHED_SECONDS
from widgets.web.text import en as page

VIEW = {
    "table": "Table",
    "earlier": "Earlier step",
    "later": "Later step",
    "no_plotly": "The figure could not be loaded. Reload the page.",
}
LEFT_OUT = "{count:,} more rows are left out."
LIVE = "A live figure: open the notebook in Jupyter and run this cell to see it."
NO_RUN = "No run yet."
NOT_STARTED = "no run has started: the panel says why, or lacks a click on Run"
NOTHING_RUNS = "no run goes on that something could go wrong in: click on Run, and then on this while it runs"
NO_STEP = "No rank has finished a step yet."
TRACEBACK = "Traceback of the rank that failed"

# -- the panel's controls
NET = "Net"
STRATEGY = "Strategy"
DEVICES = "Devices"
COUNT = "How many"
RANKS = "Ranks"
BATCH = "Batch size"
MICROBATCHES = "Microbatches"
LEARNING_RATE = "Learning rate"
LENGTH = "Train for"
EPOCHS = "epochs"
STEPS = "steps"
HARDWARE = "Hardware"
LINK = "Link"
OWN_LINK = "the hardware's own"
GIVEN_LINK = "as given"
SEED = "Seed"
OPTIMIZER = "Optimizer"
MOMENTUM = "Momentum"
OVERLAP = "Overlap with backward"
OVERLAP_HINT = "Average gradients while backward goes on; else all ride in one bucket, which is full when it ends"
MEMORY_HINT = "0: the hardware's own"
NO_TROUBLE = "nothing"
TROUBLE_STEP = "At step"
INJECT_HINT = "In the run that goes on, before its next step"
PLACEMENT = "Placement"
VIRTUAL = "Virtual GPUs"
CPU = "CPU"
GPUS = "GPUs"
AS_GIVEN = "As given: {devices}"
OWN_NET = "{name} (your own)"

# -- its buttons
RUN = "Run"
AGAIN = "Run again"
PAUSE = "Pause"
RESUME = "Resume"
STEP = "Step"
STOP = "Stop"
HINTS = {
    "run": "Start a run with these settings; one that goes on is stopped first",
    "pause": "Have all devices wait before the next phase of a step",
    "step": "Pause, or go on by one step",
    "stop": "End the run",
}
CODE = "This run as Python"
SPEEDS = {"watch": f"to watch: {WATCHED_SECONDS:g} s a run", **page.SPEEDS}
"""Name of a speed -> what the panel calls it."""
SPEED = page.SPEED
SPEED_HINT = "How long all devices stand still between two steps; no time or number of the run counts it"

# -- its status
READY = "Ready."
STARTING = "Starting the worker processes."
PREPARING = "Loading data and tracing the net."
RUNNING = "Step {step:,} of {total:,}."
PAUSED = "Paused before {phase} of step {step:,}."
TESTING = "All {total:,} steps are done; testing."
STOPPING = "Stopping."
FINISHED = "Finished: {step:,} steps in {seconds} of wall time."
STOPPED = "Stopped after {step:,} of {total:,} steps."
FAILED = "Failed after {step:,} of {total:,} steps."
SLOWED = "{finished} Slowed down to be watched."
NUMBERS = "Loss {loss} · a step takes {step_time} ({clock})"
SENT_ALIKE = "each {who} sends {each} a step, {total} in all"
SENT_EACH = "sent in a step: {each}; {total} in all"
SENT_RANGE = "each {who} sends {least} to {most} a step, {total} in all"
NOTHING_SENT = "nothing is sent between devices"
RANK = "rank"
DEVICE = "device"

# -- a panel whose kernel is gone
GONE = {
    "gone": "This panel's kernel was restarted, so its buttons do nothing. Run the cells up to here again.",
    "run": "Run the cells up to here",
    "by_hand": "That did not work from here: click into the cell, choose Run All Above Selected Cell in the menu Run, "
    "and press Shift+Enter.",
}
SAVED = (
    "This is the panel as it was when the notebook was saved; it has no kernel now. To use it, click into its cell, "
    "choose Run All Above Selected Cell in the menu Run, and press Shift+Enter."
)
DATA = "{title}: {train:,} training and {test:,} test samples, {origin}"

# -- what went wrong
PROBLEMS_TITLE = "This run cannot start"
FAILED_TITLE = "The run failed"
NOT_NOW = "That did not work"
BUG = "This is a fault of the lab, not yours; the details below say where."
DETAILS = "Details"
FIELDS = {
    "strategy": STRATEGY,
    "net": NET,
    "data": page.DATA_SET,
    "devices": DEVICES,
    "world_size": RANKS,
    "placement": PLACEMENT,
    "batch_size": BATCH,
    "microbatches": MICROBATCHES,
    "steps": LENGTH,
    "epochs": LENGTH,
    "lr": LEARNING_RATE,
    "hardware": HARDWARE,
    "link": LINK,
    "seed": SEED,
    "dtype": page.DTYPE,
    "optimizer": OPTIMIZER,
    "momentum": MOMENTUM,
    "bucket_cap_mb": page.BUCKET,
    "topology": page.TOPOLOGY,
    "memory_mb": page.MEMORY,
    "faults": page.TROUBLE,
}
"""A field of an Experiment -> what the panel calls it."""

# -- the six steps, and the formula
FORMULA = "θ ← θ − η · (1/N) · Σ ∇Lᵢ(θ)"
FORMULA_ONE = "θ ← θ − η · ∇L(θ)"
FORMULA_MOMENTUM = "with momentum μ = {momentum:g}: v ← μ · v + {mean}, θ ← θ − η · v; in step 0, v = {mean}"
SIX_STEPS = {
    "split": ("Split the data", "Each rank gets its own share of the batch: other samples, as many of them."),
    "copy": ("Copy the model", "Every rank begins with the same parameters θ. Here is {name} on each."),
    "gradients": (
        "Compute gradients locally",
        "Each rank computes the loss of its own share, and its gradient. The shares differ, so the gradients do.",
    ),
    "synchronise": ("Synchronise", "Every rank gets the mean of all gradients: (1/N) · Σ ∇Lᵢ(θ)."),
    "update": ("Update", "Each rank does the same to its own copy, so the copies stay equal."),
    "repeat": ("Repeat", "The next batch, and the same steps again."),
}
"""Name -> title, and what happens in every round and whatever the strategy."""
COPIED_ONCE = "For that, rank 0's {held} go to each other rank, once in the whole training."
COPIED_ALREADY = "Nothing is copied this time: all copies have been updated alike, so they are equal already."
COPIED_EVERY_STEP = "For that, the first device's {held} go to each other device, in every step of training anew."
GRADIENTS_TRAVEL = "Each rank brings {gradients:,} bytes of gradients, and sends {sent:,} bytes in a ring all-reduce."
NOTHING_ELSE = "Nothing else travels between ranks in a step of training"
BUFFERS_TOO = (
    "Before forward, rank 0's buffers go to all ranks, too: {buffers:,} bytes, such as the means of batch norm"
)
FIRST_COPY_TOO = "; the parameters did, before the first one."
ADDED_UP = (
    "Here, nn.DataParallel adds up what the devices bring, on the first one alone. Parameters, images and outputs "
    "travel in every step too."
)
STAYS_EQUAL = "Step 2 has nothing to do from now on: the copies are equal, and the same update keeps them so."
COPIED_ANEW = "Step 2 will copy the parameters again: nn.DataParallel keeps its copies for one step only."
ONE_COPY = "There is one copy only, so nothing travels."
PARAMETERS = "parameters, {parameters:,} bytes,"
PARAMETERS_AND_BUFFERS = "parameters and buffers, {parameters:,} and {buffers:,} bytes,"
WORKING = "{title} …"
NEXT = "Next: {title}"
ANEW = "Start over"
NOT_BEGUN = "Six steps make one step of training. Click to do the first."
SHARE = "{count} samples: {first}, …"
EQUAL_COPIES = "Largest difference between any two copies: {difference}"
ONE_DEVICE = "One device with the whole batch finds the same mean, within {difference}."
SHOWN_VALUES = "The first {shown} of {count:,} values"
PARAMETER = "Parameter"
BOTH_SIDES = "Largest difference over all {count:,} values of all parameters: {difference}"
PER_DEVICE = "{device} holds {count:,} values; the largest difference there is {difference}"
FORMULA_STEP = "Step"
COMPARED_LOSS = "Loss of rank {rank} in step {step}: {theirs:.6f} in the run, {ours:.6f} here"

# -- predictions
TYPE = "your answer"
LOCK = "Lock my answer"
OTHER_QUESTION = "Your earlier answer, {answer}, was to another unit or other options: it does not count here."
WHEN = ", on %d %B %Y at %H:%M"
"""Behind an answer that was locked before the cell was run; in `time.strftime`'s terms."""
LOCKED = "Locked: {answer}"
MEASURED = "Measured: {measured}"
RESIDUAL = "Off by {residual} ({share})"
EXACT = "Exactly."
RIGHT = "As you said."
WRONG = "You said {answer}."
NOT_LOCKED = "No prediction is locked. Lock one above, then run this cell again to see it beside the measurement."
