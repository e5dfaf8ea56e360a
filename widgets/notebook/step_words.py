"""What happens in each of the six steps, in words that hold for this strategy, this net and this round."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from lab import strategies
from lab.six_steps import SixSteps
from lab.vgpu import rings
from widgets.notebook import text


def said(steps: SixSteps, name: str, parameter: str) -> str:
    """The step in sentences, after it has been done.

    Args:
        name: of `lab.six_steps.NAMES`.
        parameter: whose numbers are shown below.
    """
    sentences = [text.SIX_STEPS[name][1].format(name=parameter)]
    if steps.ranks == 1:
        sentences += [text.ONE_COPY] if name in ("copy", "synchronise") else []
    elif not strategies.REGISTRY[steps.experiment.strategy].several_ranks:
        sentences += _in_one_process(steps, name)
    elif name == "copy" and steps.round:
        sentences = [text.COPIED_ALREADY]
    else:
        sentences += _among_ranks(steps, name)
    return " ".join(sentences)


def _among_ranks(steps: SixSteps, name: str) -> list[str]:
    """Copies are made once, and kept."""
    match name:
        case "copy":
            return [text.COPIED_ONCE.format(held=_held(steps))]
        case "synchronise":
            gradients = _bytes(steps.mean.values())
            buffers = _bytes(steps.net.buffers())
            besides = text.BUFFERS_TOO.format(buffers=buffers) if buffers else text.NOTHING_ELSE
            before = "." if steps.round else text.FIRST_COPY_TOO
            sent, *_ = rings.sent_bytes("all_reduce", gradients, steps.ranks)
            return [text.GRADIENTS_TRAVEL.format(gradients=gradients, sent=sent), besides + before]
        case "repeat":
            return [text.STAYS_EQUAL]
        case _:
            return []


def _in_one_process(steps: SixSteps, name: str) -> list[str]:
    """`nn.DataParallel` copies from the first device in every step."""
    match name:
        case "copy":
            return [text.COPIED_EVERY_STEP.format(held=_held(steps))]
        case "synchronise":
            return [text.ADDED_UP]
        case "repeat":
            return [text.COPIED_ANEW]
        case _:
            return []


def _held(steps: SixSteps) -> str:
    parameters, buffers = _bytes(steps.net.parameters()), _bytes(steps.net.buffers())
    words = text.PARAMETERS_AND_BUFFERS if buffers else text.PARAMETERS
    return words.format(parameters=parameters, buffers=buffers)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)
