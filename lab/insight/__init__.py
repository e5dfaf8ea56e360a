"""What just happened: findings computed from a run's own numbers, those first that explain most of the lost time.

    for finding in insight.look(run.state):
        print(finding)

A finding has numbers and no words; `widgets.findings` says it in a sentence. Nothing here starts or measures anything:
everything comes from the events of the run, and of earlier runs that it is compared with.
"""

from __future__ import annotations

from lab.insight import compare, memory, placed, ranks
from lab.insight.compare import Summary, is_reference, one_device, summary
from lab.insight.findings import PLACES, Basis, Finding, TooShort
from lab.insight.settings import Settings
from lab.insight.window import LEAST_STEPS, last_steps
from lab.state import RunState

__all__ = ["Basis", "Finding", "Summary", "is_reference", "look", "one_device", "summary"]


def look(state: RunState, before: Summary | None = None, one: Summary | None = None) -> tuple[Finding, ...]:
    """What there is to say of a run, the most important first. Hold the run's lock meanwhile.

    Args:
        before: the run before this one, to compare with.
        one: a run of the same training on one device, to compare with; often the same.

    Returns:
        Nothing before the first step has ended, but what asked for most memory where that ran out; `TooShort`, and
        nothing of times, where there are too few steps to trust a clock.
    """
    if state.started is None:
        return ()
    settings = Settings.of(state.started)
    if not state.step:
        return tuple(memory.largest_layer(state, settings)) if memory.ran_out(state) else ()
    found: list[Finding] = []
    window = last_steps(state)
    if state.step < LEAST_STEPS or (window is None and state.group is None):
        found.append(TooShort(basis=settings.basis, place="first", steps=state.step))
    else:
        if state.group is not None:
            found += ranks.find(state, settings, window)
        elif window is not None:
            found += placed.find(state, settings, window)
        if window is not None:
            found += memory.of_layers(state, settings, window)
        found += _beside(state, before, one)
    found += memory.of_devices(state) + memory.largest_layer(state, settings)
    found += compare.of_learning(state, settings)
    return tuple(sorted(found, key=lambda each: (PLACES.index(each.place), -each.weight)))


def _beside(state: RunState, before: Summary | None, one: Summary | None) -> list[Finding]:
    now = compare.summary(state)
    if now is None:
        return []
    found: list[Finding] = []
    if one is not None and one.run_id != now.run_id:
        found += compare.against_one(now, one)
    if before is not None and before.run_id != now.run_id:
        told = bool(found) and one is not None and one.run_id == before.run_id
        found += compare.losses(now, before) if told else compare.with_before(now, before)
    return found
