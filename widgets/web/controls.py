"""The cards on the left of the page, and which of their values a run is made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import data, devices, nets, strategies
from lab.experiment import Experiment
from lab.vgpu import links, profiles
from widgets.web import guesses, offers, presets, static, text
from widgets.web.form import CONTROLS
from widgets.web.form_values import values
from widgets.web.presets import Preset

ARRANGING = (
    "net",
    "data",
    "virtual",
    "real",
    "device",
    "batch_size",
    "ranks",
    "each",
    "per_rank",
    "hardware",
    "memory_mb",
)
"""Controls that change what the board shows, or which others there are."""
ARRANGED = (
    "panel",
    "data",
    "several",
    "device",
    "microbatches",
    "note",
    "of_ranks",
    "trouble_card",
    "hardware_card",
    "timing_note",
)
"""What `Handlers.arrange` changes, in its order."""


def words() -> dict[str, dict[str, Any]]:
    """What each control says, in the language of now: name -> arguments for its component."""
    return {
        "strategy": {
            "label": text.STRATEGY,
            "choices": [(text.STRATEGIES[name], name) for name in strategies.REGISTRY],
        },
        "net": {"label": text.NET, "choices": [(text.NETS[name], name) for name in nets.REGISTRY]},
        "data": {"label": text.DATA_SET, "choices": [(entry.title, name) for name, entry in data.REGISTRY.items()]},
        "device": {"label": text.DEVICE},
        "ranks": {"label": text.RANKS},
        "each": {
            "label": text.EACH,
            "choices": [(text.EACH_KINDS[each], each) for each in offers.EACH if each in _kinds()],
        },
        "bucket_mb": {"label": text.BUCKET},
        "virtual": {"label": text.VIRTUAL_GPUS},
        "real": {"label": text.REAL_DEVICES},
        "hardware": {
            "label": text.HARDWARE,
            "choices": [(profiles.get(name).title, name) for name in profiles.names()],
        },
        "link": {
            "label": text.LINK,
            "choices": [(text.OWN_LINK, offers.OWN_LINK), *((links.get(name).title, name) for name in links.names())],
        },
        "topology": {"label": text.TOPOLOGY, "choices": [(said, name) for name, said in text.TOPOLOGIES.items()]},
        "memory_mb": {"label": text.MEMORY, "placeholder": text.MEMORY_HINT},
        "step": {"value": text.STEP},
        "stop": {"value": text.STOP},
        "reset": {"value": text.RESET},
        "speed": {"label": text.SPEED, "choices": [(said, name) for name, said in text.SPEEDS.items()]},
        "batch_size": {"label": text.BATCH},
        "microbatches": {"label": text.MICROBATCHES},
        "length": {"label": text.LENGTH},
        "unit": {"label": text.UNIT, "choices": [(text.EPOCHS, "epochs"), (text.STEPS, "steps")]},
        "lr": {"label": text.LEARNING_RATE},
        "seed": {"label": text.SEED},
        "dtype": {"label": text.DTYPE},
        "trouble": {"label": text.TROUBLE, "choices": [(said, kind) for kind, said in text.TROUBLES.items()]},
        "trouble_rank": {"label": text.TROUBLE_RANK},
        "inject": {"value": text.INJECT},
        "planned": {"label": text.PLANNED.format(step=offers.TROUBLE_STEP)},
        "note": {"value": text.BATCH_NORM},
        "more": {"label": text.MORE},
        "hardware_card": {"label": text.HARDWARE_TITLE},
        "trouble_card": {"label": text.TROUBLE_TITLE},
    }


def _kinds() -> set[str]:
    """Of `offers.EACH`, those that this machine has."""
    return {device.name.partition(":")[0] for device in devices.available()} | {"vgpu", "split"}


class Controls:
    """The cards; `inputs` are the values that a run is made of, in the order of `form.CONTROLS`.

    Args:
        default: what they show at first.
        chosen: the presets to choose from.
        most_ranks: that this server starts.
        faults: whether runs may be broken on purpose.
    """

    def __init__(self, default: Experiment, chosen: dict[str, Preset], most_ranks: int, faults: bool) -> None:
        self._value = dict(zip(CONTROLS, values(default), strict=True))
        self._say = words()
        self._default = default
        with gr.Column(elem_classes="lab-card", elem_id="lab-run"):
            self._run(chosen)
        with gr.Column(elem_classes="lab-card", elem_id="lab-placement"):
            self._placement(most_ranks)
            self._hardware()
            self._trouble(most_ranks, faults)

    def _given(self, name: str) -> dict[str, Any]:
        """The value and the words of a control."""
        return {"value": self._value[name], **self._say[name]}

    def _run(self, chosen: dict[str, Preset]) -> None:
        self.preset = gr.HTML(
            presets.menu(chosen),
            html_template=static.read("presets.html"),
            js_on_load=static.read("presets.js"),
            apply_default_css=False,
            elem_id="lab-preset",
        )
        self.predict = gr.HTML(
            guesses.NOTHING,
            html_template=static.read("predict.html"),
            js_on_load=static.read("predict.js"),
            apply_default_css=False,
            elem_id="lab-predict",
        )
        with gr.Row(elem_id="lab-buttons"):
            self.start = gr.Button(text.START, variant="primary", elem_id="lab-start")
            self.pause = gr.Button(text.PAUSE, interactive=False, elem_id="lab-pause")
            self.step = gr.Button(**self._say["step"], interactive=False, elem_id="lab-step")
            self.stop = gr.Button(**self._say["stop"], interactive=False, elem_id="lab-stop")
        with gr.Row(elem_id="lab-numbers"):
            placing = offers.takes_microbatches(self._default.strategy)
            self.batch_size = gr.Number(**self._given("batch_size"), precision=0, elem_id="lab-batch")
            self.microbatches = gr.Number(
                **self._given("microbatches"), precision=0, visible=placing, elem_id="lab-parts"
            )
            self.length = gr.Number(**self._given("length"), precision=0, elem_id="lab-length")
            self.unit = gr.Dropdown(**self._given("unit"), filterable=False, elem_id="lab-unit")
        with gr.Row(elem_id="lab-pace"):
            self.speed = gr.Radio(value="full", **self._say["speed"], elem_id="lab-speed", elem_classes="lab-segments")
            self.reset = gr.Button(**self._say["reset"], elem_id="lab-reset", size="sm")
        with (
            gr.Accordion(**self._say["more"], open=False, elem_classes="lab-more") as self.more,
            gr.Row(elem_classes="lab-pairs"),
        ):
            self.lr = gr.Number(**self._given("lr"))
            self.seed = gr.Number(**self._given("seed"), precision=0)
            self.dtype = gr.Dropdown(["float32", "float64", "bfloat16"], **self._given("dtype"))

    def _placement(self, most_ranks: int) -> None:
        default = self._default
        several, ranks = offers.takes_several(default.strategy), offers.takes_ranks(default.strategy)
        here = [device.name for device in devices.available()]
        with gr.Row(elem_id="lab-net", elem_classes="lab-pairs"):
            self.net = gr.Dropdown(**self._given("net"))
            self.data = gr.Dropdown(**self._given("data"))
        self.device = gr.Dropdown(
            here + [f"vgpu:{index}" for index in range(offers.MAX_VIRTUAL)],
            **self._given("device"),
            visible=not several and not ranks,
        )
        with gr.Row(visible=ranks, elem_id="lab-ranks") as self.of_ranks:
            self.ranks = gr.Number(**self._given("ranks"), precision=0, minimum=1, maximum=most_ranks)
            self.each = gr.Dropdown(**self._given("each"), elem_id="lab-each")
            self.bucket_mb = gr.Number(**self._given("bucket_mb"), step=0.01, elem_id="lab-bucket")
        self.per_rank = gr.Number(value=self._value["per_rank"], visible=False)
        self.panel = gr.HTML(
            self._value["panel"],
            visible=several or ranks,
            html_template=static.read("panel.html"),
            js_on_load=static.panel_script(),
            apply_default_css=False,
            elem_id="lab-panel",
        )
        split = nets.REGISTRY[default.net].batch_norm and (several or ranks)
        self.note = gr.Markdown(**self._say["note"], elem_classes="lab-note", visible=split)

    def _hardware(self) -> None:
        several = offers.takes_several(self._default.strategy)
        here = [device.name for device in devices.available()]
        shown = any(name.startswith("vgpu") for name in self._default.devices)
        with gr.Accordion(
            **self._say["hardware_card"], open=False, visible=shown, elem_classes="lab-more"
        ) as self.hardware_card:
            self.hardware = gr.Dropdown(**self._given("hardware"), elem_id="lab-hardware")
            self.timing_note = gr.Markdown(timing_words(self._default), elem_classes="lab-note")
            self.link = gr.Dropdown(**self._given("link"))
            self.topology = gr.Dropdown(**self._given("topology"))
            self.memory_mb = gr.Number(**self._given("memory_mb"))
            with gr.Column(visible=several, elem_id="lab-several") as self.several:
                self.virtual = gr.Slider(0, offers.MAX_VIRTUAL, **self._given("virtual"), step=1)
                self.real = gr.CheckboxGroup(here, **self._given("real"))

    def _trouble(self, most_ranks: int, faults: bool) -> None:
        ranks = offers.takes_ranks(self._default.strategy)
        with gr.Accordion(
            **self._say["trouble_card"], open=False, visible=ranks and faults, elem_classes="lab-more"
        ) as self.trouble_card:
            with gr.Row(elem_id="lab-trouble-what", elem_classes="lab-pairs"):
                self.trouble = gr.Dropdown(**self._given("trouble"), elem_id="lab-trouble")
                self.trouble_rank = gr.Number(
                    **self._given("trouble_rank"), precision=0, minimum=0, maximum=most_ranks - 1
                )
            with gr.Row(elem_id="lab-trouble-now"):
                self.inject = gr.Button(**self._say["inject"], size="sm", elem_id="lab-inject")
                self.planned = gr.Checkbox(**self._given("planned"))

    @property
    def arranging(self) -> list[Any]:
        return [getattr(self, name) for name in ARRANGING]

    @property
    def arranged(self) -> list[Any]:
        return [getattr(self, name) for name in ARRANGED]

    @property
    def inputs(self) -> list[Any]:
        return [getattr(self, name) for name in CONTROLS if name != "strategy"]


def timing_words(experiment: Experiment) -> str:
    """How the times of the virtual GPUs come about."""
    profile = profiles.get(experiment.hardware)
    way = profile.timing if experiment.timing == "auto" else experiment.timing
    return text.MODELLED if way == "modelled" else text.MEASURED
