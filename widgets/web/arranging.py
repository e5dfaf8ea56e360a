"""How the controls and the board follow each other: what is there to see, and what it shows."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import nets
from lab.experiment import Experiment
from lab.vgpu import profiles
from widgets.web import offers, text
from widgets.web.controls import ARRANGED, timing_words, words
from widgets.web.form import CONTROLS, Form
from widgets.web.form_values import values


def opened(experiment: Experiment) -> list[Any]:
    """What the controls show for an Experiment, in the order of `CONTROLS`; a link or topology that has no name here
    becomes a choice of its own."""
    shown = dict(zip(CONTROLS, values(experiment), strict=True))
    for name in ("link", "topology"):
        choices = words()[name]["choices"]
        if shown[name] == offers.AS_OPENED:
            choices = [*choices, (text.AS_OPENED.format(value=_written(getattr(experiment, name))), offers.AS_OPENED)]
        shown[name] = gr.Dropdown(value=shown[name], choices=choices)
    return [shown[name] for name in CONTROLS]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value.bandwidth_gb_per_s:g} GB/s, {value.latency_us:g} µs"


def arranged(form: Form, base: Experiment, faults: bool = True) -> tuple[Any, ...]:
    """After net, strategy, devices or hardware have changed: updates in the order of `ARRANGED`.

    Args:
        faults: whether runs may be broken on purpose.
    """
    several, ranks = offers.takes_several(form.strategy), offers.takes_ranks(form.strategy)
    entry = nets.REGISTRY.get(form.net) if isinstance(form.net, str) else None
    board = form.board(base)
    virtual = several or (form.each in ("vgpu", "split") if ranks else str(form.device).startswith("vgpu"))
    shown = {
        "panel": gr.HTML(board, visible=True) if board else gr.HTML(visible=False),
        "data": offers.suiting_data(form.net, form.data),
        "several": gr.Column(visible=several),
        "device": gr.Dropdown(visible=not several and not ranks),
        "microbatches": gr.Number(visible=offers.takes_microbatches(form.strategy)),
        "note": gr.Markdown(visible=(several or ranks) and entry is not None and entry.batch_norm),
        "of_ranks": gr.Row(visible=ranks),
        "trouble_card": gr.Accordion(visible=ranks and faults),
        "hardware_card": gr.Accordion(visible=virtual),
        "timing_note": _timing_note(form, base),
    }
    return tuple(shown[name] for name in ARRANGED)


def _timing_note(form: Form, base: Experiment) -> Any:
    if not isinstance(form.hardware, str) or form.hardware not in profiles.names():
        return gr.skip()
    return timing_words(base.replace(hardware=form.hardware))


def resized(form: Form, by: Any) -> tuple[Any, Any]:
    """Virtual GPUs, and those of each rank, when the board asks for one more or less."""
    nothing = (gr.skip(), gr.skip())
    if by not in (1, -1):
        return nothing
    ranks = offers.takes_ranks(form.strategy)
    counts = range(2, offers.MAX_PER_RANK + 1) if ranks else range(offers.MAX_VIRTUAL + 1)
    count = form.per_rank if ranks else form.virtual
    if count not in counts or count + by not in counts:
        return nothing
    return (gr.skip(), int(count) + by) if ranks else (int(count) + by, gr.skip())
