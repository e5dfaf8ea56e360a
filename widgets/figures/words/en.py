"""The figures' words in English. `zh.py` has the same names, with the same fields."""

from __future__ import annotations

# -- every figure
TITLES = {
    "timeline": "Device timeline",
    "busy": "Busy and waiting",
    "breakdown": "Where the time goes",
    "buckets": "Gradient buckets",
    "placement_graph": "Placement graph",
    "memory": "Memory",
    "loss": "Loss",
    "traffic": "Traffic matrix",
    "compare": "Compare two runs",
}
CLOCKS = {"virtual": "simulated clock", "cuda": "CUDA events", "wall": "wall clock"}
KINDS = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "transfer": "transfer",
    "collective": "collective",
    "optimizer": "optimizer",
    "other": "other",
    "wait": "waiting",
}
"""What a device does in a span of time."""
NO_RUN = "No run yet"
FIRST_STEP = "Waiting for the first step"
SHARE_HOVER = "%{{customdata}}<br>{kind} %{{x:.1%}} of its time"
OF_STEP = "step {step:,}"

# -- the loss
STEP_AXIS = "step"
SMOOTHED = "smoothed"
MEAN_OF_RANKS = "mean of the ranks"
EACH_BATCH = "each batch"
MEAN_OF_BATCHES = "mean of {count} batches"
TEST_SET = "test set"
TESTED = "test accuracy {accuracy:.1%} at step {step:,}"
SMOOTHED_HOVER = "step %{{x:,}}<br>{of}, smoothed loss %{{y:.4f}}"
TEST_HOVER = "step %{{x:,}}<br>test loss %{{y:.4f}}<br>test accuracy %{{customdata}}"

# -- the timeline
FIRST_COMPLETE_STEP = "Waiting for the first complete step"
FIRST_COMMON_STEP = "Waiting for a step that all ranks have finished"
SINCE_STEP = "time since the step began, {symbol}"
SIMULATED = " (simulated)"
SPAN_HOVER = "<b>%{{customdata[0]}}</b>, {kind}<br>starts at %{{customdata[1]}}, takes %{{customdata[2]}}"
MICROBATCH = "microbatch {number}"
WAITS = "waiting"
NEXT_STEP = "the next step"
WAITS_FOR = "waits for rank {rank}"
OWN_COLLECTIVES = "its collectives"
COMMUNICATION = "communication"
TRANSFERS = "transfers"
ARRIVES = "arrives"

# -- where the time goes
PARTS = {
    "data": ("data", "loads its share of the batch"),
    "computing": ("computes", "computes, with no communication beside it"),
    "hidden": ("hidden communication", "computes while a bucket is under way: costs no time"),
    "exposed": ("exposed communication", "has nothing to do but wait for bytes on their way"),
    "transfer": ("transfer", "copies from or to other devices"),
    "awaited": ("waits for a rank", "is in an all-reduce that the last rank has not come to"),
    "idle": ("waits otherwise", "waits for the host, or for the next step"),
}
"""A field of `lab.breakdown.Breakdown` -> its name, and what the device does in it."""

PART_HOVER = "<b>%{{customdata}}</b> {about}<br>%{{x:.1%}} of its time"

# -- buckets
BUCKET = "bucket {index}"
ALL_REDUCE = "{count} all-reduce per step"
ALL_REDUCES = "{count} all-reduces per step"
TIMES_OF_STEP = "times of step {step:,}"
BUCKET_TOOK = "{size} in {time}"
AFTER_WAITING = "after {time} of waiting"
EVERY_STEP = "In every step"
BEFORE_GRADIENTS = "Step 0: laid out before any gradient came"
AS_GRADIENTS_COME = "From step {step} on: in the order of gradients"

# -- the placement graph
TRACING = "Tracing the first step"
A_COPY = "a copy of every layer"
ONE_HOLDS = "the only rank holds every layer"
EACH_HOLDS = "each of {count} ranks holds a copy of every layer"
OTHER_RANKS = "and in other ranks {devices}"
ON_DEVICE = "<b>{layer}</b> on {device}"
LAYERS = "{count} layers"
PARAMETERS = "{count:,} parameters"
FORWARD_FLOPS = "{flops}FLOP forward"
OUTPUT = "output {shape}, {size}"
PER_STEP = "{size} per step, a forecast"
FORECAST = "forecast"
FORECAST_AND_MEASURED = "forecast, {forecast} per step; measured, {measured}"
CROSSES = "crosses between devices"
STAYS = "stays on its device"

# -- memory
FIRST_SAMPLE = "Waiting for the first sample"
WHOLE_PROCESS = "cpu (resident memory of the whole process)"
TRAINING_TIME = "training time, {symbol}"
PEAK = "peak"
CAPACITY = "capacity"
PEAK_OF = "peak {peak}"
PEAK_AND_CAPACITY = "peak {peak} of {capacity}"
MEMORY_HOVER = "{device}<br>%{{y:.2f}} {unit} at %{{x:.3g}} {time_unit}"
PURPOSES = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer state": "optimizer state",
    "activations": "activations",
    "other": "other",
}
BY_PURPOSE = "by purpose, step {step:,}"
FULLEST = "the {count} fullest devices"
OPERATIONS = "operations, in the order in which the host issued them"

# -- traffic
NO_TRAFFIC = "Nothing leaves its device"
AS_RING = "all-reduce, as a ring carries it"
FROM = "from"
TO = "to"
IN_COPIES = "{size}, copies: {count}"
IN_RINGS = "{size} as a ring, all-reduces: {count}"
BROUGHT = "{device} brought {size}"

# -- two runs
NO_TWO_RUNS = "No two runs yet"
SMOOTHED_LOSS = "loss, smoothed"
SHARE_OF_TIME = "share of each device's time"
COMPARED = {"busy": "busy", "communicating": "communicates", "waiting": "waits"}
LOSS_HOVER = "step %{{x:,}}, loss %{{y:.4f}}"

# -- tables
COLUMNS = {
    "loss": ("step", "of", "loss", "accuracy"),
    "timeline": ("device", "kind", "what", "start", "takes", "bytes"),
    "memory": ("device", "in use", "peak", "capacity"),
    "memory_of_step": ("step", "peak of the step"),
    "placement_graph": ("layer", "device", "parameters", "forward", "output", "crosses to (forecast)"),
    "buckets": ("from step", "bucket", "bytes", "moved in", "waited before", "gradients of"),
    "traffic": ("from", "to", "what", "in the step", "times", "in the whole run", "times in all"),
}
DEVICE = "device"
RANK_AND_DEVICE = "rank and device"
TEST = "test"
TRAINING = "training"
EARLIER = "earlier"
"""When the host prepared a batch before the devices began with it, while they worked on the step before."""
BOTH_WAYS = "{to}: {forward:,} B forward, {back:,} B back"
COPIES = "copies"
ALL_RANKS = "all ranks"
BROUGHT_THERE = "brought to all-reduces"
AS_RINGS = "all-reduces, as a ring carries them"
