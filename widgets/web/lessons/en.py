"""The presets, and what there is to learn from a failure, in English."""

from __future__ import annotations

PRESET_GROUPS = {
    "model": "Layers on several devices",
    "data": "Several copies of the net",
    "trouble": "When things go wrong",
}
PRESETS = {
    "one_device": (
        "One device",
        "The whole net on one virtual GPU: the yardstick.",
        "The step time. All other presets are faster or slower than this one, for a reason.",
    ),
    "naive": (
        "Naive model parallelism",
        "Two devices, and one of them always waits.",
        "The grey in the timeline: each device waits while the other works. Then move a layer.",
    ),
    "microbatches": (
        "Microbatches",
        "The batch goes through in four parts, so that both devices work at once.",
        "Work now overlaps in the timeline, and the step is shorter than with the naive way.",
    ),
    "pipeline": (
        "A pipeline of four stages",
        "A small GPT on four devices, in eight microbatches.",
        "The stair at both ends of the step: it is the bubble, and more microbatches make it smaller.",
    ),
    "slow_link": (
        "Slow link",
        "The same two devices, joined by Gigabit Ethernet.",
        "The green transfers have grown, and the step with them. Which layer should move, so that less crosses?",
    ),
    "fast_gpu": (
        "Fast GPUs, small net",
        "The naive split again, on two modelled A100.",
        "Devices wait most of the time: the net is so small that launching its kernels costs more than computing them.",
    ),
    "six_steps": (
        "Data parallel in six steps",
        "Scatter the batch, copy the net, forward, gather, backward, add up: anew in every step.",
        "The first device does more than the others: it sends the copies, and adds up what comes back.",
    ),
    "ddp": (
        "DDP on 4 ranks",
        "Four processes, each with a copy of the net and a quarter of every batch.",
        "No rank waits for another, and the step is much shorter than on one device.",
    ),
    "overlap": (
        "Overlap on (small buckets)",
        "Gradients leave in small buckets while backward still computes.",
        "Communication goes on beside backward in the timeline, and costs almost nothing.",
    ),
    "one_bucket": (
        "Overlap off (one big bucket)",
        "All gradients travel in one bucket, which is full only when backward is over.",
        "Communication stands alone at the end of each step: the ranks wait for it. Compare the step time.",
    ),
    "out_of_memory": (
        "Out of memory",
        "A device of 35 MB, and all layers on it.",
        "The board warns before the run, which ends with an error. Press Even, or move layers to the other device.",
    ),
    "straggler": (
        "Straggler",
        "From step 20 on, rank 2 is half as fast.",
        "From then on, all ranks are as slow as the slowest: the three others wait for it in every all-reduce.",
    ),
    "killed": (
        "A rank dies",
        "At step 40, rank 1 is killed.",
        "The rank that failed first is named. What the other one reports came after, and because of it.",
    ),
}
"""Name in presets.toml -> title, what it is, and what to watch."""

FAILURES = {
    "memory": (
        "A device holds parameters, their gradients, the optimizer's state, and the activations of the whole batch "
        "until backward has used them. The fullest device decides."
    ),
    "killed": (
        "A process that is killed says nothing. The others find out when an all-reduce with it breaks, so their errors "
        "speak of a lost connection, not of the cause."
    ),
    "silent": (
        "A process may end with exit code 0 and yet have failed. So a rank counts as done only when it says so itself."
    ),
    "absent": (
        "A rank that hangs raises no error. The others wait for it in a collective, for ever without a time-out: "
        "look where the silent one stands, not where the others do."
    ),
    "calls": (
        "Collectives have no names: the first call of one rank meets the first call of the others, whatever it is. "
        "A different order or size ends in a hang, an error, or wrong numbers."
    ),
    "copies": (
        "Ranks never send each other their parameters again. They stay equal only because each applies the same "
        "average of gradients: one average missed, and they train different nets from then on."
    ),
    "numbers": (
        "One value that is no number is enough: averaged over the ranks, it is in everybody's gradients, and after the "
        "update in every parameter."
    ),
    "error": "The rank that fails first is the cause. What the others report comes later, and often sounds louder.",
}
"""What there is to learn from a kind of failure (`widgets.web.alert`)."""
