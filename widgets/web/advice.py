"""What a run's numbers mean, in two or three sentences, and what to try next."""

from __future__ import annotations

from collections import Counter

from lab import breakdown
from lab.state import RunState
from widgets.web import text

UNEVEN = 2.5
"""A device that works this many times as long as another has work to give away."""

LATE = 0.05
"""Waiting for one rank: a part of the others' time that is worth a word."""
MUCH_EXPOSED = 0.15
"""Of the ranks' time, spent on communication that nothing hides."""

MUCH_MOVING = 0.2
"""Where each device holds a copy of the net: time for exchanging them, as a part of the time for work."""


def says(state: RunState) -> str:
    """On the whole run, unlike the timeline, which shows one step; empty before the first step has ended."""
    shares = {device: state.shares(device) for device in state.device_names if state.shares(device)}
    if not shares:
        return ""
    if state.group:
        return _of_ranks(state)
    if len(state.device_names) == 1:
        return text.ONE_DEVICE
    waiting = {device: share.get("wait", 0.0) for device, share in shares.items()}
    device = max(waiting, key=waiting.__getitem__)
    transfers = sum(share.get("transfer", 0.0) for share in shares.values()) / len(shares)
    took = f"{transfers:.0%}" if transfers >= 0.01 else text.LITTLE
    found = text.WAITED_MOST.format(device=device, share=waiting[device], took=took)
    return f"{found} {_advice(state)}".rstrip()


def _of_ranks(state: RunState) -> str:
    spent = [each for rank in range(state.world_size) if (each := breakdown.of_rank(state, rank)) is not None]
    if not spent:
        return ""
    exposed = sum(each.exposed for each in spent) / len(spent)
    said = [text.RANKS_TOOK.format(busy=sum(each.busy for each in spent) / len(spent), exposed=exposed)]
    late = breakdown.latest(state)
    if late is not None and late.alone and late.share > LATE:
        said.append(text.LATE_RANK.format(rank=late.rank, share=late.share))
    elif exposed > MUCH_EXPOSED:
        said.append(text.SMALLER_BUCKETS if len(state.buckets) == 1 else text.MORE_COMPUTE)
    return " ".join(said)


def _advice(state: RunState) -> str:
    shares = {device: state.shares(device) for device in state.device_names}
    work = {
        device: share.get("forward", 0.0) + share.get("backward", 0.0) + share.get("optimizer", 0.0)
        for device, share in shares.items()
    }
    # A copy occupies both its ends.
    moving = sum(share.get("transfer", 0.0) / 2 + share.get("collective", 0.0) for share in shares.values())
    if sum(work.values()) + moving < 0.5:
        return text.LARGER_BATCH
    if state.placed and state.placed.copies:
        return text.LARGER_SHARES if moving > MUCH_MOVING * sum(work.values()) else ""
    most, least = max(work, key=work.__getitem__), min(work, key=work.__getitem__)
    if work[most] > UNEVEN * work[least]:
        layers = Counter(state.placed.layers.values() if state.placed else ())
        return text.MOVE_A_LAYER.format(most=most, least=least) if layers[most] > 1 else ""
    asked = state.started.experiment if state.started else {}
    if asked.get("microbatches") == 1 and asked.get("batch_size", 1) % 2 == 0:
        return text.TRY_MICROBATCHES
    return ""
