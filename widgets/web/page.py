"""The Gradio page: controls on the left, instruments on the right.

The instruments are one `gr.HTML` with a template that never changes; a generator sends it frames (`frame.py`) and the
browser applies them in place with `Plotly.react`. `gr.Plot` would build every chart anew at each update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from lab import devices, nets, strategies
from lab.errors import ExperimentError, LabError, Problem
from lab.experiment import Experiment
from widgets.figures import clock_time
from widgets.web import form as forms
from widgets.web import static, takeaway, text
from widgets.web.frame import Painter
from widgets.web.leases import Lease
from widgets.web.sessions import Session, Sessions

FRAME_SECONDS = 0.2
FULL_PACE_RUNS = 4
"""With more runs than these, each is drawn less often, so that drawing costs the server no more."""
PATIENCE_SECONDS = 2.0
"""Longest wait for a tab to draw a frame before it gets the next."""
LINE_SECONDS = 1.0
"""How often a tab that waits in line is told its place."""
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
    "preprocess": False,
}
"""For every event: no spinner over the page, no entry in an API, no tab waits for another, and values come as the
browser sent them, for the form to check: Gradio would answer some that the page cannot send with a traceback."""


BUTTONS = ("start", "stop", "pause", "step")
UNCHANGED = (gr.skip(), gr.skip(), gr.skip(), gr.skip())
IDLE = (gr.Button(text.PAUSE, interactive=False), gr.Button(interactive=False))
"""Pause and Step while nothing can be paused."""
ENDED = (gr.Button(text.START), gr.Button(interactive=False), *IDLE)
CONTROLS_OF: dict[str, tuple[Any, ...]] = {
    "running": (gr.skip(), gr.skip(), gr.Button(text.PAUSE, interactive=True), gr.Button(interactive=True)),
    "paused": (gr.skip(), gr.skip(), gr.Button(text.RESUME, interactive=True), gr.Button(interactive=True)),
}
"""How the buttons look once a run has come to a status."""


class Handlers:
    """What the page does on each event. Every method gets the tab from the request."""

    def __init__(self, default: Experiment, sessions: Sessions, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.default = default
        self.sessions = sessions
        self.patience_seconds = patience_seconds

    def open(self, theme: Any, request: gr.Request, query: Any = "") -> Iterator[tuple[Any, ...]]:
        """A tab was opened: start in it what its address asks for, or the default experiment. Opening takes no place in
        line: those who wait have asked for a run."""
        session = self._session(request)
        session.theme = "dark" if theme == "dark" else "light"
        linked, problems = takeaway.from_link(query if isinstance(query, str) else "", self.sessions.limits)
        session.base = linked
        controls = forms.values(linked) if linked is not None else [gr.skip()] * len(forms.CONTROLS)
        for parts in self._watch(session, linked or self.default, in_line=False, link_problems=problems):
            yield (*parts, *controls)
            controls = [gr.skip()] * len(forms.CONTROLS)

    def start(
        self,
        strategy: Any,
        net: Any,
        virtual: Any,
        real: Any,
        device: Any,
        panel: Any,
        batch_size: Any,
        microbatches: Any,
        length: Any,
        unit: Any,
        lr: Any,
        seed: Any,
        ranks: Any,
        each: Any,
        bucket_mb: Any,
        trouble: Any,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Starts what the controls say, in place of the tab's earlier run; yields (frame, *BUTTONS)."""
        session = self._session(request)
        first = (strategy, net, virtual, real, device, panel, batch_size, microbatches, length, unit, lr, seed)
        form = forms.Form(*first, ranks, each, bucket_mb, trouble)
        try:
            experiment = form.experiment(session.base or self.default)
        except ExperimentError as error:
            session.problems, session.problems_title = error.problems, ""
            yield self._painter(session).paint(session), *UNCHANGED
            return
        yield from self._watch(session, experiment)

    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        session = self._session(request)
        self.sessions.stop(session.key)
        return self._painter(session).paint(session), gr.Button(interactive=False)

    def pause(self, request: gr.Request) -> str:
        """Pauses the tab's run, or lets it go on; the frames that follow show it."""
        session = self._session(request)
        self.sessions.pause(session.key)
        return self._painter(session).paint(session)

    def step(self, request: gr.Request) -> str:
        """One step of a paused run."""
        session = self._session(request)
        self.sessions.step(session.key)
        return self._painter(session).paint(session)

    def choose(self, event: gr.EventData, request: gr.Request) -> str:
        """The browser chose a theme, or the step that the timeline shows."""
        session = self._session(request)
        chosen = event._data if isinstance(event._data, dict) else {}
        if chosen.get("theme") in ("light", "dark"):
            session.theme = chosen["theme"]
        if "step" in chosen:
            session.step = chosen["step"] if isinstance(chosen["step"], int) else None
        return self._painter(session).paint(session)

    def arrange(self, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """Net, strategy, devices or batch changed: the board gets the layers and devices of now."""
        form = forms.Form(*values)
        several, ranks = forms.takes_several(form.strategy), forms.takes_ranks(form.strategy)
        board = form.board(self._session(request).base or self.default)
        entry = nets.REGISTRY.get(form.net) if isinstance(form.net, str) else None
        return (
            gr.HTML(board, visible=True) if board else gr.HTML(visible=False),
            gr.Column(visible=several),
            gr.Dropdown(visible=not several and not ranks),
            gr.Number(visible=forms.takes_microbatches(form.strategy)),
            gr.Markdown(visible=(several or ranks) and entry is not None and entry.batch_norm),
            gr.Column(visible=ranks),
            gr.Dropdown(visible=ranks),
        )

    def resize(self, virtual: Any, event: gr.EventData) -> Any:
        """The board asks for a virtual GPU more or less."""
        chosen = event._data if isinstance(event._data, dict) else {}
        if virtual not in range(forms.MAX_VIRTUAL + 1) or chosen.get("by") not in (1, -1):
            return gr.skip()
        return min(forms.MAX_VIRTUAL, max(0, int(virtual) + chosen["by"]))

    def leave(self, request: gr.Request) -> None:
        self.sessions.free(str(request.session_hash))

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(str(request.session_hash))

    def _painter(self, session: Session) -> Painter:
        if session.painter is None:
            session.painter = Painter("none", self.default)
        return session.painter

    def _watch(
        self,
        session: Session,
        experiment: Experiment,
        in_line: bool = True,
        link_problems: Sequence[Problem] = (),
    ) -> Iterator[tuple[Any, ...]]:
        """Frames of a new run until it ends, or until the tab starts another; before it, of the tab's place in line."""
        session.problems, session.problems_title = tuple(link_problems), text.LINK_TITLE if link_problems else ""
        before = self._painter(session)
        yield before.paint(session, status=text.STARTING), gr.Button(text.RESTART), gr.Button(interactive=True), *IDLE
        try:
            lease = self.sessions.ask(session.key, experiment, in_line)
            if lease is None:
                yield before.paint(session, status=text.ALL_BUSY.format(start=text.START)), *ENDED
                return
            yield from self._wait(session, lease, before)
            if session.lease is not lease:
                if session.lease is None and session.run is None:  # the reader left the line
                    yield before.paint(session, status=text.READY), *ENDED
                return
            run = self.sessions.start(session.key, experiment, lease)
        except (LabError, OSError) as error:
            found = error.problems if isinstance(error, ExperimentError) else (Problem("run", str(error)),)
            session.problems, session.problems_title = tuple(found), ""
            yield before.paint(session, status=text.READY), *ENDED
            return
        painter = session.painter = Painter(run.id, run.experiment, run.state, run.lock)
        shown = "starting"
        try:
            while session.run is run:
                done = run.done  # read first, so that the last frame holds everything
                frame = painter.paint(session, last=done)
                if done:
                    yield frame, *ENDED
                    return
                status = run.state.status
                yield frame, *(UNCHANGED if status == shown else CONTROLS_OF.get(status, UNCHANGED))
                shown = status
                run.wait(FRAME_SECONDS * max(1.0, len(self.sessions.live()) / FULL_PACE_RUNS))
                session.wait_drawn(self.patience_seconds)
        finally:
            # The browser is gone in the middle of a run: Gradio closes the generator.
            if not run.done:
                run.stop()

    def _wait(self, session: Session, lease: Lease, painter: Painter) -> Iterator[tuple[Any, ...]]:
        """Frames of the tab's place in line, until its turn comes or it wants something else."""
        try:
            while not lease.wait(LINE_SECONDS) and session.lease is lease:
                place = self.sessions.leases.place(lease)
                if place:
                    words = in_line(place, self.sessions.leases.expected_seconds(place))
                    yield painter.paint(session, status=words), *UNCHANGED
                    session.wait_drawn(self.patience_seconds)
        finally:
            # The browser is gone, or the reader left: nobody may wait behind a tab that is not there.
            if not lease.granted or session.lease is not lease:
                self.sessions.leases.release(lease)


def in_line(place: int, seconds: float) -> str:
    """`You are 3rd in line; about 0:02:00`."""
    time = clock_time(max(1.0, seconds))
    if place == 1:
        return text.NEXT_IN_LINE.format(time=time)
    return text.IN_LINE.format(place=text.ordinal(place), time=time)


def build(default: Experiment, sessions: Sessions) -> gr.Blocks:
    """The page that opens on `default`; the tabs' runs live in `sessions`."""
    do = Handlers(default, sessions)
    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True) as page:
        theme, query = gr.Textbox(visible=False), gr.Textbox(visible=False)
        with gr.Row(elem_id="lab-head"):
            gr.HTML(static.read("head.html"), elem_id="lab-brand", js_on_load=static.read("head.js"))
            strategy = gr.Radio(
                [(text.SHORT_STRATEGIES.get(name, entry.title), name) for name, entry in strategies.REGISTRY.items()],
                value=default.strategy,
                label=text.STRATEGY,
                container=False,
                elem_id="lab-strategy",
            )
        with gr.Row(elem_id="lab-main", equal_height=False):
            with gr.Column(elem_id="lab-controls", min_width=320):
                controls = Controls(default)
            with gr.Column(elem_id="lab-instruments", min_width=320):
                bench = gr.HTML(
                    html_template=static.bench(),
                    js_on_load=static.read("bench.js"),
                    head=f'<script src="{static.PLOTLY_PATH}"></script>',
                    apply_default_css=False,
                    elem_id="lab-bench",
                )
        values = [strategy, *controls.inputs]
        shown = [bench, *(getattr(controls, name) for name in BUTTONS)]
        opened = "() => [window.parallelLabTheme(), window.location.search]"
        page.load(do.open, [theme, query], [*shown, *values], js=opened, trigger_mode="multiple", **QUIET)
        controls.start.click(do.start, values, shown, trigger_mode="multiple", **QUIET)
        controls.panel.submit(do.start, values, shown, trigger_mode="multiple", **QUIET)
        controls.panel.edit(do.resize, [controls.virtual], [controls.virtual], **QUIET)
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
        page.unload(do.leave)
    return page


class Controls:
    """The cards on the left; `inputs` are the values that a run is made of, in the order of `forms.CONTROLS`."""

    def __init__(self, default: Experiment) -> None:
        several, placing = forms.takes_several(default.strategy), forms.takes_placement(default.strategy)
        ranks = forms.takes_ranks(default.strategy)
        virtual = sum(name.startswith("vgpu") for name in default.devices)
        here = [(device.name, device.title) for device in devices.available()]
        with gr.Column(elem_classes="lab-card"):
            gr.HTML(f"<h2>{text.PLACEMENT}</h2>", elem_classes="lab-title")
            self.net = gr.Dropdown(
                [(entry.title, name) for name, entry in nets.REGISTRY.items()], value=default.net, label=text.NET
            )
            self.device = gr.Dropdown(
                [name for name, _ in here] + [f"vgpu:{index}" for index in range(forms.MAX_VIRTUAL)],
                value=default.devices[0] if not several and not ranks else "cpu",
                label=text.DEVICE,
                visible=not several and not ranks,
            )
            with gr.Column(visible=ranks, elem_id="lab-ranks") as self.of_ranks:
                kinds = {name.partition(":")[0] for name, _ in here} | {"vgpu", "split"}
                self.ranks = gr.Slider(1, forms.MAX_RANKS, default.world_size if ranks else 2, step=1, label=text.RANKS)
                self.each = gr.Dropdown(
                    [(words, each) for each, words in forms.EACH.items() if each in kinds],
                    value=forms.each_of(default),
                    label=text.EACH,
                )
                self.bucket_mb = gr.Number(
                    default.bucket_cap_mb if ranks else forms.FIRST_BUCKET_MB, label=text.BUCKET, step=0.01
                )
            with gr.Column(visible=several, elem_id="lab-several") as self.several, gr.Row(elem_id="lab-devices"):
                self.virtual = gr.Slider(
                    0, forms.MAX_VIRTUAL, virtual if several else 2, step=1, label=text.VIRTUAL_GPUS
                )
                self.real = gr.CheckboxGroup(
                    [name for name, _ in here],
                    value=[name for name in default.devices if not name.startswith("vgpu")] if several else [],
                    label=text.REAL_DEVICES,
                )
            self.panel = gr.HTML(
                forms.first_panel(default),
                visible=several or ranks,
                html_template=static.read("panel.html"),
                js_on_load=static.panel_script(),
                apply_default_css=False,
                elem_id="lab-panel",
            )
        with gr.Column(elem_classes="lab-card"):
            gr.HTML(f"<h2>{text.RUN}</h2>", elem_classes="lab-title")
            with gr.Row(elem_id="lab-buttons"):
                self.start = gr.Button(text.START, variant="primary", elem_id="lab-start")
                self.pause = gr.Button(text.PAUSE, interactive=False, elem_id="lab-pause")
                self.step = gr.Button(text.STEP, interactive=False, elem_id="lab-step")
                self.stop = gr.Button(text.STOP, interactive=False, elem_id="lab-stop")
            with gr.Row(elem_id="lab-numbers"):
                self.batch_size = gr.Number(default.batch_size, label=text.BATCH, precision=0, elem_id="lab-batch")
                self.microbatches = gr.Number(
                    default.microbatches,
                    label=text.MICROBATCHES,
                    precision=0,
                    visible=placing or ranks,
                    elem_id="lab-parts",
                )
                self.length = gr.Number(default.steps or default.epochs, label=text.LENGTH, precision=0)
                self.unit = gr.Dropdown(
                    [text.EPOCHS, text.STEPS], value=text.STEPS if default.steps else text.EPOCHS, label=text.UNIT
                )
                self.lr = gr.Number(default.lr, label=text.LEARNING_RATE)
                self.seed = gr.Number(default.seed, label=text.SEED, precision=0)
            self.trouble = gr.Dropdown(
                [(words, kind) for kind, words in text.TROUBLES.items()],
                value=default.faults[0].kind if default.faults else "none",
                label=text.TROUBLE.format(step=forms.TROUBLE_STEP),
                visible=ranks,
                elem_id="lab-trouble",
            )
            self.note = gr.Markdown(
                text.BATCH_NORM,
                elem_classes="lab-note",
                visible=nets.REGISTRY[default.net].batch_norm and (several or ranks),
            )

    @property
    def arranging(self) -> list[Any]:
        """Controls that change what the board shows."""
        return [self.net, self.virtual, self.real, self.batch_size, self.ranks, self.each]

    @property
    def arranged(self) -> list[Any]:
        """What `Handlers.arrange` changes, in its order."""
        return [self.panel, self.several, self.device, self.microbatches, self.note, self.of_ranks, self.trouble]

    @property
    def inputs(self) -> list[Any]:
        return [getattr(self, name) for name in forms.CONTROLS if name != "strategy"]
