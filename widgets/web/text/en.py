"""The page's words in English. `zh.py` has the same names, with the same fields."""

from __future__ import annotations

from lab import data, nets, strategies

TITLE = "Parallel Lab"

# -- controls
STRATEGY = "Strategy"
STRATEGIES = {name: entry.title for name, entry in strategies.REGISTRY.items()} | {"ddp": "DDP"}
"""The registry's own titles, where they fit into the row of choices."""
LESSONS = {name: entry.lesson for name, entry in strategies.REGISTRY.items()}
ORIGINS = {name: entry.origin for name, entry in data.REGISTRY.items()}
"""Where each data set comes from."""
NETS = {name: entry.title for name, entry in nets.REGISTRY.items()}
PLACEMENT = "Placement"
NET = "Net"
VIRTUAL_GPUS = "Virtual GPUs"
REAL_DEVICES = "Real devices too"
DEVICE = "Device"
RUN = "Run"
START = "Start"
RESTART = "Restart"
STOP = "Stop"
PAUSE = "Pause"
RESUME = "Resume"
STEP = "Step"
RANKS = "Ranks"
EACH = "Each rank runs on"
EACH_KINDS = {
    "cpu": "the CPU, which all share",
    "cuda": "a GPU of its own",
    "vgpu": "a virtual GPU of its own",
    "split": "virtual GPUs, with the net placed on them",
}
"""What a rank can run on, by the name that `offers` has for it."""
BUCKET = "Bucket, MB"
TROUBLE_TITLE = "Break something"
TROUBLE = "What goes wrong"
TROUBLE_RANK = "In rank"
INJECT = "Do it now"
PLANNED = "In every run, at step {step}"
TROUBLES = {
    "straggle": "It is twice as slow",
    "delay": "It is 5 ms late to every all-reduce",
    "throttle": "Its link carries 10 MB a second",
    "kill": "Its process is killed",
    "raise": "An error is raised",
    "hang": "It hangs",
    "exit": "It leaves without a word",
    "leave": "It leaves the group, then fails",
    "interrupt": "Ctrl-C",
    "wrong_shape": "It brings a wrong shape",
    "never_join": "It never joins",
    "nan": "NaN in its gradients",
    "skip": "It skips an all-reduce",
}
"""A kind of `lab.faults` -> what the page calls it, those that a run survives first."""
BATCH = "Batch size"
MICROBATCHES = "Microbatches"
LENGTH = "Train for"
UNIT = "Unit"
EPOCHS = "epochs"
STEPS = "steps"
LEARNING_RATE = "Learning rate"
SEED = "Seed"
DATA_SET = "Data"
DTYPE = "Number format"
MORE = "More"
RESET = "Reset"
SPEED = "Speed"
SPEEDS = {"full": "Full", "slow": "5 steps/s", "slower": "1 step/s"}
HARDWARE_TITLE = "Devices and hardware"
HARDWARE = "Hardware of the virtual GPUs"
LINK = "Link between them"
OWN_LINK = "The hardware's own"
AS_OPENED = "As opened: {value}"
TOPOLOGY = "Which share links"
TOPOLOGIES = {
    "pairs": "None: one link for each pair",
    "ports": "One port for each device",
    "bus": "One bus for all, and the host",
    "nodes:2": "Machines of two, over InfiniBand",
}
MEMORY = "Memory of each, MB"
MEMORY_HINT = "the hardware's own"
MEASURED = "Simulated: every operation takes as long as on this machine's CPU; links are computed."
MODELLED = "Modelled: all times follow from the hardware's figures. Nothing runs on such a GPU."
BATCH_NORM = "This net has batch norm: each part of a batch is normalised alone, so losses differ, rightly."

# -- instruments
BENCH = {
    "predict": "Predict first",
    "preset": "Preset",
    "no_preset": "Your own",
    "watch": "Watch:",
    "try": "Try {title}",
    "title": TITLE,
    "timeline_chart": "Device timeline",
    "loss_chart": "Loss",
    "graph_chart": "Placement graph",
    "busy_chart": "Busy and waiting",
    "breakdown_chart": "Where the time goes",
    "buckets_chart": "Gradient buckets",
    "did_last": "What it did last",
    "others_saw": "What the other ranks saw",
    "secondary": "because of it",
    "memory_chart": "Memory",
    "traffic_chart": "Traffic matrix",
    "compare_chart": "Compare two runs",
    "compare_first": "First run",
    "compare_second": "Second run",
    "compare_what": "What",
    "compare_change": "Second : first",
    "maximise": "Maximise",
    "restore": "Back to its place (Esc)",
    "save": "Save the chart",
    "save_png": "Save as a picture (PNG)",
    "save_svg": "Save as a drawing (SVG)",
    "save_csv": "Save its table (CSV)",
    "replay": "Moment in the step",
    "play": "Play the step slowly",
    "pause_play": "Hold",
    "slowed": "{factor} times slower",
    "follow": "Follow the run",
    "step": "Step",
    "choose_step": "Step that the timeline shows",
    "nothing_now": "nothing",
    "loss": "Loss",
    "step_time": "Step time",
    "waiting": "Waiting",
    "crossing": "Crossing",
    "as_table": "Table",
    "as_code": "Take this run along",
    "copy": "Copy as Python",
    "copy_toml": "Copy as TOML",
    "copy_link": "Copy link",
    "download": "Download the run",
    "copied": "Copied",
    "earlier": "Earlier step",
    "later": "Later step",
    "traceback": "Where the rank was",
    "theme": "Light or dark",
    "language": "Language",
    "projector": "Larger, for a projector",
    "no_plotly": "The charts could not be loaded. Reload the page.",
    "server_gone": "The server does not answer. It may be starting again: wait a moment, then reload the page.",
    "server_new": "The server no longer knows this tab: it was started again, or the tab was silent for too long. "
    "Reload the page to go on.",
    "reload": "Reload",
}
FIELDS = {
    "strategy": STRATEGY,
    "net": NET,
    "data": "Data",
    "devices": "Devices",
    "hardware": HARDWARE,
    "topology": TOPOLOGY,
    "memory_mb": MEMORY,
    "dtype": DTYPE,
    "placement": PLACEMENT,
    "batch_size": BATCH,
    "microbatches": MICROBATCHES,
    "steps": LENGTH,
    "epochs": LENGTH,
    "lr": LEARNING_RATE,
    "seed": SEED,
    "run": RUN,
    "world_size": RANKS,
    "bucket_cap_mb": BUCKET,
    "faults": TROUBLE,
    "link": LINK,
}
"""A field of an Experiment -> what the page calls it."""
EMPTY = "is empty"
NO_LENGTH = "is empty; give a whole number of steps or epochs"
PROBLEMS_TITLE = "This run cannot start"
PROBLEMS_TITLE_MANY = "This run cannot start: {count} things to mend"
FAILED_TITLE = "The run failed"
DID_LAST = "step {step:,}: {kind} {name}, {took}"
RANK_FAILED_TITLE = "Rank {rank} failed first"
NO_VALUE = "–"
NOTHING_YET = "no run yet"
OF_STEP = "smoothed, step {step:,}"
OF_DEVICES = "of the time of {count} devices"
OF_ONE_DEVICE = "of the time of one device"
OF_ONE_RANK = "of the time of the only rank"
OF_RANKS = "of the time of {count} ranks"
PER_STEP = "per step, both ways"
FORECAST_PER_STEP = "per step, both ways, a forecast"
GRADIENTS = "of gradients per step and rank"
SAMPLES = "{clock} · {pace:,.0f} samples/s"
NOTHING_CROSSES = "nothing leaves its device"
RUN_NUMBER = "Run {number}"
OUTCOME = "Outcome"
STATES = {
    "starting": "starting",
    "running": "running",
    "paused": "paused",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
AFTER_ONE_STEP = "{state}, {steps} step"
AFTER_STEPS = "{state}, {steps:,} steps"
TEST_ACCURACY = "Test accuracy"
CLOCK = "Clock"
PACE = "Samples per second"
BUSY = "{device} busy"
BYTES_PER_STEP = "Crossing, per step"
PEAK_MEMORY = "Peak memory"
LEFT_OUT = "{count:,} more rows are left out."

# -- status
READY = "Ready"
STARTING = "Starting the worker process"
RUNNING = "Step {step:,} of {total:,}"
PREPARING = "Loading data and tracing the net"
TESTING = "All {total:,} steps done, testing"
STOPPING = "Stopping"
PAUSED = "Paused before {phase} of step {step:,} of {total:,}"
PHASES = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "synchronise": "synchronise",
    "update": "update",
}
STARTING_RANKS = "Starting {count} worker processes"
FINISHED = "Finished: {step:,} steps in {seconds} of wall time"
STOPPED = "Stopped after {step:,} of {total:,} steps"
FAILED = "Failed after {step:,} of {total:,} steps"
TIME_LEFT = "about {time} of wall time left"
DATA = "{title}: {train:,} training and {test:,} test samples, {origin}"

# -- trouble
CANNOT_BREAK = "This cannot be done now"
NO_RUN_TO_BREAK = "there is no run to break: start one with several ranks"

# -- what the page refuses
NO_PATHS = "files are not read by the page; name one of the profiles, or use the command line"
NO_DEVICES = "none; choose at least one virtual GPU or real device"
NOT_PER_RANK = "{count} virtual GPUs for each rank: give a number from 2 to {most}"
TOO_MANY_VIRTUAL = "{count!r} virtual GPUs: give a number from 0 to {most}"
TOO_MANY_RANKS = "{ranks} is not allowed here; give a whole number from 1 to {most}, or use the command line for more"
MALFORMED = "is not something the page sent: reload the page"

# -- many people at once
OVER_LIMIT = "{value} is more than this server allows; give at most {limit}"
CLAMPED = "{value} is more than this server allows; {limit} was taken instead"
NO_SUCH_VIRTUAL = "{device} is not on this server, which has {count} virtual GPUs, from vgpu:0 on"
NO_OWN_NETS = "code is not taken from the page; choose one of its nets, or run your own in a notebook"
NO_FAULTS = "this server does not break runs on purpose; use the command line or a notebook"
ALL_BUSY = "All places to run are taken: press {start} to wait in line"
IN_LINE = "You are {place} in line; about {time}"
NEXT_IN_LINE = "You are next in line; about {time}"
TOO_LARGE = (
    "needs about {need} of memory, and this server has {have} for runs: "
    "take a smaller batch, a smaller net or fewer ranks"
)
NO_ROOM_FOR_RANKS = "{ranks} worker processes are more than this server has room for, {most}"
TIME_IS_UP = "The run was stopped after {time}, the most that this server gives to one run"

# -- links
LINK_TITLE = "The page was opened with other values than its link has"
LINK_READY = "This link breaks its run on purpose"
LINK_WAITS = "look at it, and press {start} to run it"
LINK_TOO_LONG = "is longer than {most} characters: copy it again from the page"


def ordinal(place: int) -> str:
    """1st, 2nd, 3rd, 4th ..., 11th, 21st."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
