"""The sentences of "What just happened", in English."""

TITLE = "What just happened"
MORE = "More about this run"
NOTHING_YET = "When a run has taken a few steps, its own numbers explain it here."
NO_STEP = "This run ended before its first step was over, so there are no numbers to explain."

BASIS = {"measured": "measured", "simulated": "simulated", "model": "estimated", "theory": "theory"}
BASIS_MEANS = {
    "measured": "By a real clock, or counted.",
    "simulated": "By the virtual clock of virtual GPUs.",
    "model": "A simple model with this run's own numbers put in: not measured.",
    "theory": "Follows from how the strategy works: not measured.",
}

# -- numbers
UNDER_ONE_PERCENT = "under 1%"
AND = "and"
BETWEEN = " "
"""Between two sentences."""
PER_SECOND = "{rate}/s"

# -- how fast
TOO_SHORT = "{count} steps are too few to judge times: the first ones warm up. Train for a few more."
TOO_SHORT_ONE = "One step is too few to judge times: the first ones warm up. Train for a few more."
OVERVIEW_ONE = (
    "One device does everything. A step takes {step}, which makes {pace} samples per second, and the device computes "
    "{share} of the time."
)
OVERVIEW = (
    "A step takes {step}, which makes {pace} samples per second; on average the {count} devices compute {share} of the "
    "time."
)
OVERVIEW_RANKS = (
    "A step takes {step}, which makes {pace} samples per second; on average the {count} ranks compute {share} of the "
    "time."
)
OVERVIEW_ONE_RANK = (
    "A step takes {step}, which makes {pace} samples per second; the only rank computes {share} of the time."
)

# -- waiting
IDLE_DEVICE = "{device} does nothing {share} of the time: mostly it waits for {blocker}, which works on {layer}."
IDLE_LINK = "{device} does nothing {share} of the time: mostly while something travels between other devices."
IDLE_HOST = "{device} does nothing {share} of the time: mostly the host has not yet told it what to do next."
TASKS = {"optimizer": "the update of its layers", "batch": "the batch", "loss": "the loss"}
"""What a device works on that is no layer."""
BUBBLE_ONE = (
    "The whole batch passes the {stages} stages in one piece, so they take turns. In theory, each of {stages} equal "
    "stages waits {theory} of the time; here the devices wait {measured} for each other."
)
BUBBLE = (
    "With {parts} microbatches the {stages} stages overlap, but the pipeline has to fill and to empty. In theory, "
    "equal stages wait {theory} of the time, (n - 1) / (m + n - 1); here the devices wait {measured} for each other."
)
BUBBLE_MORE = "With {parts} microbatches, it would be {theory} in theory."
BUBBLE_REST = "Unequal stages and the time on the links add the rest."
IMBALANCE = (
    "{busiest} has {ratio} times the work of the average device and sets the pace; {least} has least, and waits."
)
MOVE = "Moving {layer} from {source} to {target} should make a step {gain} shorter (estimated by a pipeline model)."
MOVE_ALL = (
    "Moving {layer} to {target} too, so that {source} has nothing to do, should make a step {gain} shorter (estimated "
    "by a pipeline model): what is lost on the way is more than what two devices gain."
)

# -- moving
LINK = (
    "The link between {first} and {second} carries {bytes} per step, and for {weight} of their time the devices can "
    "only wait for what travels."
)
LINK_RATE = "While it is busy it carries {rate} of the {bandwidth} that it could."
LINK_LATENCY = "{latency} of that time is latency, the delay before the first byte arrives."
LINK_UNKNOWN = "While it is busy it carries {rate}."
COPYING = (
    "Each step sends the net to {copies} and brings the gradients back: {bytes}, and {weight} of the devices' time. "
    "{purpose} takes longest."
)
COPIES_ONE = "one other device"
COPIES = "{count} other devices"
PURPOSES = {
    "scatter": "Dealing out the batch",
    "replicate": "Sending out the parameters",
    "gather": "Collecting the outputs",
    "reduce": "Adding up the gradients",
}
BATCH_COPY = "The batch comes from the host: {bytes} per step, and {weight} of the devices' time."
HOST = (
    "For {weight} of the time no device works and nothing travels: the host still prepares what comes next. "
    "A batch above {batch} would give each operation more to do."
)
ARITHMETIC = (
    "At its peak of {peak} floating-point operations per second the hardware could do the {flops} of a step in "
    "{at_peak}; it is busy for {took}. The other {rest} is starting operations, and reading and writing memory."
)
ARITHMETIC_BATCH = "A batch above {batch} gives every operation that is started more to do."

# -- ranks
EXCHANGE = (
    "The ranks average {bytes} of gradients per step. {hidden} of their time this goes on beside computing and costs "
    "nothing; {exposed} of their time they can only wait for it."
)
ONE_BUCKET = (
    "All gradients travel in one bucket, which leaves when backward is over: the first of several smaller ones would "
    "leave earlier."
)
LAST_BUCKET = (
    "Most of that is the last bucket, with the gradients of {layers}: it leaves when backward is over, and nothing is "
    "left to hide it behind."
)
LATE = "Rank {rank} is late: the other ranks wait {share} of their time for it."
LATE_ONE = "Rank {rank} is late: the other rank waits {share} of its time for it."
LATE_SLOW = "It computes {ratio} times as long as the others."
LATE_LINK = "It computes no longer than the others: look at its link."
LATE_PLANNED = "The experiment asked for that."
SHARED = (
    "The {ranks} ranks compute on one processor, each with {threads}: they share its cores, as ranks on devices of "
    "their own would not."
)
THREAD = "one thread"
THREADS = "{count} threads"

# -- layers and memory
HEAVIEST = "{layer} takes most of the forward and backward time: {share}, which is {time} per step."
LARGEST = (
    "{layer} needs most memory of all layers: {bytes} for its parameters, their gradients, the optimizer's state and "
    "its output, {share} of all."
)
MEMORY = "{device} needs at most {peak} of its {capacity} of memory ({share})."
MEMORY_FULL = "{device} has needed {peak} of its {capacity} of memory ({share}): a larger batch may not fit."
MEMORY_FOR = "At its fullest, {part} of that is for {purpose}."
MEMORY_PURPOSES = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer state": "the optimizer's state",
    "activations": "activations, which backward needs again",
    "other": "the batch and what is only needed for a moment",
}

# -- what is learned
NORMALISED = (
    "This net has batch norm, which takes means over the samples that it sees: here {parts} parts of {samples}. So the "
    "losses rightly differ from those of the whole batch."
)
SAME_LAYERS = "The loss is that of one device: every layer does the same arithmetic, wherever it lives."
SAME_BATCH = (
    "The loss is that of one device but for rounding: the mean of the gradients of equal parts is the gradient of the "
    "whole batch."
)
LOSS_EQUAL = "Over {steps} steps the loss is the same as in the run before ({strategy}), to the last digit."
LOSS_NEAR = (
    "Over {steps} steps the loss differs from that of the run before ({strategy}) by at most {difference}: rounding."
)
LOSS_APART = "Over {steps} steps the loss differs from that of the run before ({strategy}) by up to {difference}."
STRATEGIES = {
    "single": "one device",
    "model_parallel": "model parallel",
    "data_parallel": "data parallel",
    "ddp": "distributed data parallel",
}

# -- compared
FASTER = (
    "{changes}: {times} times as many samples per second as the run before. A step takes {now} instead of {before}."
)
SLOWER = "{changes}: {times} times the samples per second of the run before. A step takes {now} instead of {before}."
EQUAL = "{changes}: as fast as the run before. A step takes {now} instead of {before}."
CHANGE = "{field} {now} instead of {before}"
CHANGE_NEW = "{field} changed"
FIXED = (
    "On a straight line through both runs, {fixed} of each step does not depend on the batch: {share} of a step at "
    "batch {batch}. A small batch pays that for few samples."
)
FIELDS = {
    "batch_size": "Batch size",
    "strategy": "Strategy",
    "net": "Net",
    "data": "Data",
    "devices": "Devices",
    "placement": "Placement",
    "microbatches": "Microbatches",
    "link": "Link",
    "hardware": "Hardware",
    "timing": "Timing",
    "topology": "Topology",
    "world_size": "Ranks",
    "bucket_cap_mb": "Bucket size (MB)",
    "faults": "Trouble",
    "lr": "Learning rate",
    "momentum": "Momentum",
    "optimizer": "Optimizer",
    "seed": "Seed",
    "dtype": "Number format",
    "memory_mb": "Memory (MB)",
    "compression": "Compression",
}
AGAINST_ONE_FASTER = "Together the {count} are {times} times as fast as one device ({device})."
AGAINST_ONE_SLOWER = "Together the {count} are slower than one device ({device}): {times} times its pace."
AGAINST_ONE_EQUAL = "Together the {count} are as fast as one device ({device})."
DEVICES = "{count} devices"
RANKS = "{count} ranks"

# -- predicted
PREDICTION = "Your prediction"
QUESTIONS = {
    "busiest": "Which device will be busiest?",
    "busiest_rank": "Which rank will be busiest?",
    "heaviest": "Which layer will take most time?",
    "speedup": "How many times as fast as one device?",
}
SAME = "about the same"
READ_AS = "read as {amount}"
OTHERWISE = "; if you mean {amount}, write {amount}"
UNREADABLE = "{error}"
COLUMNS = ("Question", "You said", "The run says", "")
RIGHT = "right"
WRONG = "not quite"
OFF = "off by {residual} ({share} of what was measured)"
LOCKED = "locked until the run has ended"
TOO_FEW = "too few steps to tell"
MEASURING_ONE = "one device is measured now"
NO_ONE = "not known: one device could not be measured"
ONE_NOW = "The one device was measured right after this run, for {steps} steps: {step} per step."
ONE_NOISE = "Both were timed by this computer, one after the other: whatever else it did shows in the ratio."
ONE_EARLIER = "The one device is that of your earlier run: {step} per step."
