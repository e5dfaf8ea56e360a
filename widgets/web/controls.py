"""The cards on the left of the page, and which of their values a run is made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import devices, nets, strategies
from lab.experiment import Experiment
from widgets.web import form as forms
from widgets.web import static, text


def words() -> dict[str, dict[str, Any]]:
    """What each control says, in the language of now: name -> arguments for its component."""
    return {
        "strategy": {
            "label": text.STRATEGY,
            "choices": [(text.STRATEGIES[name], name) for name in strategies.REGISTRY],
        },
        "placement_title": {"value": f"<h2>{text.PLACEMENT}</h2>"},
        "net": {"label": text.NET, "choices": [(text.NETS[name], name) for name in nets.REGISTRY]},
        "device": {"label": text.DEVICE},
        "ranks": {"label": text.RANKS},
        "each": {
            "label": text.EACH,
            "choices": [(text.EACH_KINDS[each], each) for each in forms.EACH if each in _kinds()],
        },
        "bucket_mb": {"label": text.BUCKET},
        "virtual": {"label": text.VIRTUAL_GPUS},
        "real": {"label": text.REAL_DEVICES},
        "run_title": {"value": f"<h2>{text.RUN}</h2>"},
        "step": {"value": text.STEP},
        "stop": {"value": text.STOP},
        "batch_size": {"label": text.BATCH},
        "microbatches": {"label": text.MICROBATCHES},
        "length": {"label": text.LENGTH},
        "unit": {"label": text.UNIT, "choices": [(text.EPOCHS, "epochs"), (text.STEPS, "steps")]},
        "lr": {"label": text.LEARNING_RATE},
        "seed": {"label": text.SEED},
        "trouble": {
            "label": text.TROUBLE.format(step=forms.TROUBLE_STEP),
            "choices": [(said, kind) for kind, said in text.TROUBLES.items()],
        },
        "note": {"value": text.BATCH_NORM},
    }


def _kinds() -> set[str]:
    """Of `forms.EACH`, those that this machine has."""
    return {device.name.partition(":")[0] for device in devices.available()} | {"vgpu", "split"}


class Controls:
    """The cards on the left; `inputs` are the values that a run is made of, in the order of `forms.CONTROLS`."""

    def __init__(self, default: Experiment) -> None:
        several, placing = forms.takes_several(default.strategy), forms.takes_placement(default.strategy)
        ranks = forms.takes_ranks(default.strategy)
        virtual = sum(name.startswith("vgpu") for name in default.devices)
        here = [device.name for device in devices.available()]
        say = words()
        with gr.Column(elem_classes="lab-card"):
            self.placement_title = gr.HTML(**say["placement_title"], elem_classes="lab-title")
            self.net = gr.Dropdown(value=default.net, **say["net"])
            self.device = gr.Dropdown(
                here + [f"vgpu:{index}" for index in range(forms.MAX_VIRTUAL)],
                value=default.devices[0] if not several and not ranks else "cpu",
                **say["device"],
                visible=not several and not ranks,
            )
            with gr.Column(visible=ranks, elem_id="lab-ranks") as self.of_ranks:
                self.ranks = gr.Slider(1, forms.MAX_RANKS, default.world_size if ranks else 2, step=1, **say["ranks"])
                self.each = gr.Dropdown(value=forms.each_of(default), **say["each"])
                self.bucket_mb = gr.Number(
                    default.bucket_cap_mb if ranks else forms.FIRST_BUCKET_MB, step=0.01, **say["bucket_mb"]
                )
            with gr.Column(visible=several, elem_id="lab-several") as self.several, gr.Row(elem_id="lab-devices"):
                self.virtual = gr.Slider(0, forms.MAX_VIRTUAL, virtual if several else 2, step=1, **say["virtual"])
                self.real = gr.CheckboxGroup(
                    here,
                    value=[name for name in default.devices if not name.startswith("vgpu")] if several else [],
                    **say["real"],
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
            self.run_title = gr.HTML(**say["run_title"], elem_classes="lab-title")
            with gr.Row(elem_id="lab-buttons"):
                self.start = gr.Button(text.START, variant="primary", elem_id="lab-start")
                self.pause = gr.Button(text.PAUSE, interactive=False, elem_id="lab-pause")
                self.step = gr.Button(interactive=False, elem_id="lab-step", **say["step"])
                self.stop = gr.Button(interactive=False, elem_id="lab-stop", **say["stop"])
            with gr.Row(elem_id="lab-numbers"):
                self.batch_size = gr.Number(default.batch_size, precision=0, elem_id="lab-batch", **say["batch_size"])
                self.microbatches = gr.Number(
                    default.microbatches,
                    precision=0,
                    visible=placing or ranks,
                    elem_id="lab-parts",
                    **say["microbatches"],
                )
                self.length = gr.Number(default.steps or default.epochs, precision=0, **say["length"])
                self.unit = gr.Dropdown(value="steps" if default.steps else "epochs", **say["unit"])
                self.lr = gr.Number(default.lr, **say["lr"])
                self.seed = gr.Number(default.seed, precision=0, **say["seed"])
            self.trouble = gr.Dropdown(
                value=default.faults[0].kind if default.faults else "none",
                visible=ranks,
                elem_id="lab-trouble",
                **say["trouble"],
            )
            self.note = gr.Markdown(
                **say["note"],
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
