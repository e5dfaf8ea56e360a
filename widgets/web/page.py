"""The Gradio page: controls on the left, instruments on the right.

The instruments are one `gr.HTML` with a template that never changes; a generator sends it frames (`frame.py`) and the
browser applies them in place with `Plotly.react`. `gr.Plot` would build every chart anew at each update.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab.experiment import Experiment
from widgets.web import offers, presets, static, text
from widgets.web.blocks import LeanBlocks
from widgets.web.controls import Controls, words
from widgets.web.handlers import BUTTONS, Handlers
from widgets.web.sessions import Sessions

QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
    "preprocess": False,
}
"""For every event: no spinner over the page, no entry in an API, no tab waits for another, and values come as the
browser sent them, for the form to check: Gradio would answer some that the page cannot send with a traceback."""


def build(default: Experiment, sessions: Sessions) -> gr.Blocks:
    """The page that opens on `default`; the tabs' runs live in `sessions`."""
    do = Handlers(default, sessions)
    chosen = presets.allowed(sessions.limits, sessions.leases.budget)
    most_ranks = min(offers.MAX_RANKS, sessions.limits.ranks, sessions.leases.budget.ranks)
    with LeanBlocks(title=text.TITLE, analytics_enabled=False, fill_width=True) as page:
        theme, query, language = (gr.Textbox(visible=False) for _ in range(3))
        with gr.Row(elem_id="lab-head"):
            head = gr.HTML(static.read("head.html"), elem_id="lab-brand", js_on_load=static.read("head.js"))
            strategy = gr.Radio(
                value=default.strategy,
                container=False,
                elem_id="lab-strategy",
                elem_classes="lab-segments",
                **words()["strategy"],
            )
        with gr.Row(elem_id="lab-main", equal_height=False):
            with gr.Column(elem_id="lab-controls", min_width=320):
                controls = Controls(default, chosen, most_ranks, sessions.limits.faults)
            with gr.Column(elem_id="lab-instruments", min_width=320):
                bench = gr.HTML(
                    html_template=static.bench(),
                    js_on_load=static.bench_script(),
                    head=f'<script src="{static.PLOTLY_PATH}"></script>',
                    apply_default_css=False,
                    elem_id="lab-bench",
                )
        values = [strategy, *controls.inputs]
        shown = [bench, *(getattr(controls, name) for name in BUTTONS)]
        worded = [strategy if name == "strategy" else getattr(controls, name) for name in words()]
        opened = "() => [window.parallelLabTheme(), window.location.search, window.parallelLab.language()]"
        page.load(do.open, [theme, query, language], [*shown, *values], js=opened, trigger_mode="multiple", **QUIET)
        spoken = "(...values) => [window.parallelLab.language(), ...values.slice(1)]"
        page.load(do.greet, [language], worded, js=spoken, trigger_mode="multiple", **QUIET)
        said = [bench, controls.start, controls.pause, controls.panel, *worded]
        head.input(do.speak, [language, *values], said, js=spoken, trigger_mode="multiple", **QUIET)
        controls.start.click(do.start, values, shown, trigger_mode="multiple", **QUIET)
        controls.panel.submit(do.start, values, shown, trigger_mode="multiple", **QUIET)
        controls.panel.edit(do.resize, values, [controls.virtual, controls.per_rank], **QUIET)
        controls.preset.select(do.preset, None, [*shown, *values], trigger_mode="multiple", **QUIET)
        controls.reset.click(do.reset, None, [*shown, *values], trigger_mode="multiple", **QUIET)
        controls.speed.input(do.speed, [controls.speed], None, **QUIET)
        controls.inject.click(do.inject, values, [bench], **QUIET)
        controls.stop.click(do.stop, None, [bench, controls.stop], **QUIET)
        controls.pause.click(do.pause, None, [bench], **QUIET)
        controls.step.click(do.step, None, [bench], trigger_mode="multiple", **QUIET)
        bench.select(do.choose, None, [bench], trigger_mode="multiple", **QUIET)
        gr.on(
            [strategy.change, *(control.change for control in controls.arranging)],
            do.arrange,
            values,
            controls.arranged,
            trigger_mode="always_last",
            **QUIET,
        )
        controls.predict.select(do.predict, values, [controls.predict], trigger_mode="multiple", **QUIET)
        gr.on(
            [strategy.change, *(control.change for control in controls.arranging)],
            do.ask,
            values,
            [controls.predict],
            trigger_mode="always_last",
            **QUIET,
        )
        page.unload(do.leave)
    return page
