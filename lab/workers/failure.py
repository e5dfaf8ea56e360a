"""Turns an exception in a worker, or the worker's sudden end, into a RankFailed: what happened, and what to do."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence

from lab.errors import LabError
from lab.events import RankFailed, Span
from lab.workers.advice import advice as way_out


class NotFiniteLossError(LabError):
    """The loss became NaN or infinite."""


class NotFiniteGradientError(LabError):
    """A rank's gradients became NaN or infinite."""


class UnusedParametersError(LabError):
    """Parameters that are to be trained take no part in a rank's loss."""


_MIXED_DEVICES = "Expected all tensors to be on the same device"
_MIXED_ADVICE = {
    "manual": "With transfers='manual' nothing is moved for you: in the net's forward, move what a layer made to where "
    "the next one lives, for example x = x.to(self.conv2.weight.device). Or set transfers='auto'.",
    "auto": "The net mixes tensors of two devices in a way that the lab does not align: move one of them in its "
    "forward, for example x = x.to(y.device).",
}


def from_exception(
    error: BaseException, rank: int = 0, last_spans: Sequence[Span] = (), transfers: str = "auto"
) -> RankFailed:
    """What an exception means, with its traceback and what the rank did last; `transfers` is the Experiment's."""
    name = type(error).__name__
    text = str(error)
    cause = text if isinstance(error, LabError) else f"{name}: {text}" if text else name
    if isinstance(error, KeyboardInterrupt):
        cause = f"rank {rank} was interrupted ({name})"
    advice = way_out(text)
    if _MIXED_DEVICES in text:
        advice = _MIXED_ADVICE[transfers]
    if isinstance(error, NotFiniteLossError | NotFiniteGradientError):
        advice = "Lower the learning rate, or look for a division by zero or a logarithm of zero in the net."
    if isinstance(error, UnusedParametersError):
        advice = (
            "Set find_unused_parameters=True, and DDP looks for such parameters in every step; or static_graph=True, "
            "when they are the same ones in all steps and on all ranks; or freeze them (requires_grad=False)."
        )
    lines = "".join(traceback.format_exception(error))
    return RankFailed(rank, cause, True, traceback=lines, advice=advice, last_spans=tuple(last_spans))


def from_exit(exit_code: int | None, rank: int = 0) -> RankFailed:
    """What the end of a process means that did not say goodbye.

    Args:
        exit_code: as `Process.exitcode` has it: negative for a signal.
    """
    advice = ""
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        cause = f"rank {rank} was killed by {name}"
        if name == "SIGKILL":
            advice = "If nobody killed it, the machine was out of memory: use a smaller batch or a smaller net."
        elif name in ("SIGSEGV", "SIGABRT", "SIGBUS"):
            advice = "A native library crashed, and its last words are on the terminal."
    else:
        cause = f"rank {rank} ended with exit code {exit_code} without saying that it was done"
        advice = "Something in the net called exit, or your script failed while the worker imported it: see above."
    return RankFailed(rank, cause, True, advice=advice)
