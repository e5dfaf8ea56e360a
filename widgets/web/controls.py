"""The cards on the left of the page, and which of their values a run is made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import devices, nets
from lab.experiment import Experiment
from widgets.web import form as forms
from widgets.web import static, text


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
