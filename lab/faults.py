"""Faults: trouble on purpose, for lessons on what a failure looks like and how it is found.

    Experiment(strategy="ddp", world_size=4, faults=["kill:2:5"])       # rank 2 is killed before its step 5
    run.inject("straggle:1:0:3")                                        # rank 1 becomes three times as slow, now

A fault is written `kind:rank:step:amount`; the amount, and then the step, may be left out. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lab.errors import did_you_mean, shown

FaultKind: TypeAlias = Literal[
    "kill",
    "raise",
    "hang",
    "exit",
    "leave",
    "interrupt",
    "wrong_shape",
    "never_join",
    "straggle",
    "delay",
    "throttle",
    "nan",
    "skip",
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True)
class FaultEntry:
    """What a kind of fault does, for the screens."""

    title: str
    ends_run: bool
    """False for trouble that a run survives, slower."""
    live: bool = True
    """False for what can only happen before the ranks have met."""
    amount: str = ""
    """What the fault's amount means, with its unit; empty when it has none."""
    default_amount: float = 0.0


REGISTRY: dict[FaultKind, FaultEntry] = {
    "kill": FaultEntry("Kill the rank's process (SIGKILL), as the system does when memory is short", True),
    "raise": FaultEntry("Raise an error in the rank", True),
    "hang": FaultEntry("Hang the rank: it computes no more, and stays alive", True),
    "exit": FaultEntry("Leave the process with exit code 0, without a word", True),
    "leave": FaultEntry("Leave the group of ranks, and raise an error a second later", True),
    "interrupt": FaultEntry("KeyboardInterrupt in the rank", True),
    "wrong_shape": FaultEntry("Bring a tensor of another size to an all-reduce", True),
    "never_join": FaultEntry("Never join the group of ranks", True, live=False),
    "straggle": FaultEntry(
        "Make the rank slower, as a busy or hot device is", False, amount="times as slow", default_amount=2.0
    ),
    "delay": FaultEntry(
        "Delay every collective of the rank (emulated by waiting)", False, amount="milliseconds", default_amount=5.0
    ),
    "throttle": FaultEntry(
        "Narrow the rank's link (emulated by waiting)", False, amount="megabytes per second", default_amount=10.0
    ),
    "nan": FaultEntry("Put NaN into the rank's gradients once", True),
    "skip": FaultEntry("Leave the rank out of one all-reduce: it keeps its own gradients", True),
}


class Fault(BaseModel):
    """One fault in one rank, from one step on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: FaultKind
    rank: int = Field(default=0, ge=0, le=1_000_000)
    step: int = Field(default=0, ge=0, le=10**12)
    """Before which step it happens; slow-downs last from then on."""
    amount: float = Field(default=0.0, ge=0)
    """How much, in the unit of its kind (`REGISTRY[kind].amount`); 0 takes the default."""

    @property
    def strength(self) -> float:
        """The amount, or its kind's default."""
        return self.amount or REGISTRY[self.kind].default_amount

    def __str__(self) -> str:
        """`kill:2:5`: as `read` reads it."""
        amount = f":{self.amount:g}" if self.amount else ""
        return f"{self.kind}:{self.rank}:{self.step}{amount}"

    @classmethod
    def read(cls, text: str) -> Fault:
        """Reads `kind:rank:step:amount`.

        Raises:
            ValueError: with what is wrong, and how a fault is written.
        """
        kind, *numbers = text.split(":")
        if kind not in KINDS:
            raise ValueError(
                f"{shown(kind)} is no kind of fault{did_you_mean(kind, KINDS)}; there are {', '.join(KINDS)}"
            )
        try:
            names = ("kind", "rank", "step", "amount")[: 1 + len(numbers)]
            return cls(**dict(zip(names, (kind, *numbers), strict=True)))
        except ValueError:  # pydantic's own is one
            raise ValueError(
                f"{shown(text)} cannot be read; write kind:rank:step, such as kill:1:5, with an amount for some kinds, "
                "such as straggle:1:5:2 for twice as slow"
            ) from None


def _read(value: Any) -> Any:
    return Fault.read(value) if isinstance(value, str) else value


FaultField = Annotated[Fault, BeforeValidator(_read)]
