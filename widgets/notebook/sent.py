"""What the devices of a run sent in its last step, in words."""

from __future__ import annotations

from lab.state import RunState
from widgets.figures import human_bytes
from widgets.notebook import text

NAMED = 4
"""With more devices, it is said how little and how much they send, not each one's."""


def sent(state: RunState) -> str:
    """One phrase; empty before the first step has ended, and where there is one device."""
    each, total = state.sent_bytes, state.sent_total
    if total is None or len(each) < 2:
        return ""
    if not total:
        return text.NOTHING_SENT
    who = text.RANK if len(each) == state.world_size else text.DEVICE
    least, most = min(each.values()), max(each.values())
    if least == most:
        return text.SENT_ALIKE.format(who=who, each=human_bytes(most), total=human_bytes(total))
    if len(each) > NAMED:
        numbers = {"least": human_bytes(least), "most": human_bytes(most), "total": human_bytes(total)}
        return text.SENT_RANGE.format(who=who, **numbers)
    named = ", ".join(f"{device} {human_bytes(size)}" for device, size in each.items())
    return text.SENT_EACH.format(each=named, total=human_bytes(total))
