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
        """All computation."""
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
    spent, went = state.totals.get(device, {}), state.communication.get(device)
    if not state.elapsed_ns or not state.step:
        return None
    hidden, exposed, awaited = (went.hidden_ns, went.exposed_ns, went.awaited_ns) if went is not None else (0, 0, 0)
    data, transfer = spent.get("data", 0), spent.get("transfer", 0)
    working = sum(ns for kind, ns in spent.items() if kind not in ("data", "transfer", "collective", "wait"))
    hidden = min(hidden, working)
    known = data + working + exposed + transfer + awaited
    whole = max(known, state.elapsed_ns)
    parts = (data, working - hidden, hidden, exposed, transfer, awaited, whole - known)
    return Breakdown(*(part / whole for part in parts))


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
