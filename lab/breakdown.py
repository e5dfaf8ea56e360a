"""Where the time of a device or of a rank went: parts that add up to the whole run so far."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from lab.state import RunState


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Shares of the time that the run has taken so far; they add up to 1."""

    data: float
    computing: float
    """Forward, backward and optimizer, without communication beside them."""
    hidden: float
    """The same, with communication beside them: that cost no time of its own."""
    exposed: float
    """Collectives that moved bytes while the device did nothing else."""
    transfer: float
    """Copies from and to other devices."""
    awaited: float
    """In a collective, for the rank that came last."""
    idle: float
    """Any other waiting."""

    @property
    def busy(self) -> float:
        """All computation: what every face means by "busy" or "computes". `busy` gives it for a device."""
        return self.data + self.computing + self.hidden

    @property
    def communicating(self) -> float:
        """All communication that the device had nothing to do beside."""
        return self.exposed + self.transfer

    @property
    def waiting(self) -> float:
        return self.awaited + self.idle


@dataclass(frozen=True, slots=True)
class Latest:
    """The rank for which the others waited most."""

    rank: int
    share: float
    """Of the time of each of the others, on average."""
    alone: bool
    """Whether they waited for it longer than for all other ranks together."""


def of_device(state: RunState, device: str) -> Breakdown | None:
    """None before the first step that all ranks have finished."""
    spent = state.totals.get(device, {})
    if not state.elapsed_ns or not state.step:
        return None
    data, transfer = spent.get("data", 0), spent.get("transfer", 0)
    working = sum(ns for kind, ns in spent.items() if kind not in ("data", "transfer", "collective", "wait"))
    hidden, exposed, awaited = _communication(state, device)
    whole = state.elapsed_ns
    if state.finished and state.finished.dropped_spans and device in state.finished.totals:
        # Spans are missing here, but the worker counted them.
        counted = state.finished.totals[device]
        data = counted.busy_ns * data // max(1, data + working)
        working, transfer = counted.busy_ns - data, counted.transfer_ns
        moved = counted.collective_ns - counted.hidden_ns
        hidden, exposed, awaited = counted.hidden_ns, max(0, moved - awaited), min(moved, awaited)
        whole = counted.busy_ns + counted.transfer_ns + moved + counted.idle_ns
    hidden = min(hidden, working)
    known = data + working + exposed + transfer + awaited
    whole = max(known, whole)
    parts = (data, working - hidden, hidden, exposed, transfer, awaited, whole - known)
    return Breakdown(*(part / whole for part in parts))


def busy(state: RunState, device: str) -> float | None:
    """The share of the run so far in which a device computed: data, forward, backward, optimizer.

    Copies and collectives are not part of it, unless they go on beside computation. None before the first step that
    all ranks have finished.
    """
    spent = of_device(state, device)
    return None if spent is None else spent.busy


def _communication(state: RunState, device: str) -> tuple[int, int, int]:
    """Nanoseconds in collectives: beside computation, alone, and in wait for the last rank."""
    if state.group is None:  # nobody to wait for
        collective = state.totals.get(device, {}).get("collective", 0)
        hidden = min(collective, state.hidden.get(device, 0))
        return hidden, collective - hidden, 0
    went = state.communication.get(device)
    return (went.hidden_ns, went.exposed_ns, went.awaited_ns) if went is not None else (0, 0, 0)


def of_rank(state: RunState, rank: int) -> Breakdown | None:
    """The mean over the rank's devices."""
    devices = [device.name for device in state.started.devices if device.rank == rank] if state.started else []
    found = [each for each in (of_device(state, device) for device in devices) if each is not None]
    if not found:
        return None
    return Breakdown(*(sum(parts) / len(found) for parts in zip(*map(astuple, found), strict=True)))


def latest(state: RunState) -> Latest | None:
    """Whom the others waited for most; None while nobody waited for anybody."""
    if not state.waited_for or not state.elapsed_ns or state.world_size < 2:
        return None
    rank, ns = max(state.waited_for.items(), key=lambda item: item[1])
    alone = 2 * ns > sum(state.waited_for.values())
    return Latest(rank, ns / state.elapsed_ns / (state.world_size - 1), alone)
