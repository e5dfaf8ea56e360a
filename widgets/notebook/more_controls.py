"""What a lesson changes now and then: the net's data and numbers, the optimizer, DDP's buckets, the hardware, trouble.

The page has the same controls. What they offer, and what it is called, comes from there (`widgets.web.offers`, and the
English words of `widgets.web.text`), or from the Experiment's own fields.
"""

from __future__ import annotations

from typing import Any, get_args

from ipywidgets import Accordion, Box, Button, Checkbox, Layout

from lab import checks, data, nets, strategies
from lab.experiment import Experiment
from lab.vgpu import links
from widgets.notebook import text
from widgets.notebook.fields import choice, longer, number, show, whole
from widgets.web import offers
from widgets.web.text import en as page

GIVEN = "given"
"""What the Experiment brought, and the controls cannot say."""


class MoreControls(Accordion):
    """Closed at first, so that Run and the figures are near.

    Args:
        experiment: what they begin with.
        own_net: whether the net is a module of the user's, whose data are as given.
    """

    def __init__(self, experiment: Experiment, own_net: bool) -> None:
        self._base = experiment
        self._own_net = own_net
        self._ranks = strategies.REGISTRY[experiment.strategy].several_ranks
        self.data = choice(
            page.DATA_SET, [(entry.title, name) for name, entry in data.REGISTRY.items()], experiment.data
        )
        self.dtype = choice(page.DTYPE, _options("dtype"), experiment.dtype)
        self.seed = whole(text.SEED, experiment.seed)
        self.optimizer = choice(text.OPTIMIZER, _options("optimizer"), experiment.optimizer)
        self.momentum = number(text.MOMENTUM, experiment.momentum, step=0.1)
        cap = experiment.bucket_cap_mb if self._ranks else offers.FIRST_BUCKET_MB
        self.overlap = Checkbox(cap < checks.ONE_BUCKET_MB, description=text.OVERLAP, tooltip=text.OVERLAP_HINT)
        self.overlap.layout, self.overlap.indent = Layout(width="100%"), False
        self.bucket = number(page.BUCKET, cap if self.overlap.value else offers.FIRST_BUCKET_MB, step=0.01)
        self.link = choice(text.LINK, self._links(), _link(experiment))
        self.topology = choice(page.TOPOLOGY, self._topologies(), self._topology())
        self.memory = number(page.MEMORY, experiment.memory_mb or 0, step=1)
        self.memory.tooltip = text.MEMORY_HINT
        self.trouble = choice(page.TROUBLE, self._troubles(), GIVEN if experiment.faults else "")
        self.trouble_rank = whole(page.TROUBLE_RANK, 1)
        self.trouble_step = whole(text.TROUBLE_STEP, offers.TROUBLE_STEP)
        self.inject = Button(description=page.INJECT, tooltip=text.INJECT_HINT, layout=Layout(width="auto"))
        self.fields = (
            self.data,
            self.dtype,
            self.seed,
            self.optimizer,
            self.momentum,
            self.overlap,
            self.bucket,
            self.link,
            self.topology,
            self.memory,
            self.trouble,
            self.trouble_rank,
            self.trouble_step,
        )
        longer(*(control for control in self.fields if control is not self.overlap))
        columns = "repeat(auto-fill, minmax(min(100%, 260px), 1fr))"
        layout = Layout(display="grid", grid_template_columns=columns, grid_gap="2px 12px", overflow="visible")
        super().__init__([Box([*self.fields, self.inject], layout=layout)], titles=(page.MORE,))

    def said(self, strategy: str, virtual: bool) -> dict[str, Any]:
        """Fields of an Experiment, unchecked: those whose controls have a meaning.

        Args:
            virtual: whether the devices are virtual GPUs.
        """
        entry = strategies.REGISTRY[strategy]
        fields: dict[str, Any] = {
            "dtype": self.dtype.value,
            "seed": self.seed.value,
            "optimizer": self.optimizer.value,
        }
        if not self._own_net:
            fields["data"] = self.data.value
        if checks.takes_momentum(self.optimizer.value):
            fields["momentum"] = self.momentum.value
        if entry.several_ranks:
            fields["bucket_cap_mb"] = self.bucket.value if self.overlap.value else self._one_bucket()
            if self.trouble.value == GIVEN:
                fields["faults"] = [str(fault) for fault in self._base.faults]
            elif self.trouble.value:
                fields["faults"] = [f"{self.fault()}:{self.trouble_step.value}"]
        if virtual:
            fields["memory_mb"] = self.memory.value or None
            fields["topology"] = self._base.topology if self.topology.value == GIVEN else self.topology.value
        if self.link.value:
            fields["link"] = self._base.explicit()["link"] if self.link.value == GIVEN else self.link.value
        return fields

    def fault(self) -> str:
        """The trouble that is chosen, as `lab.faults` writes it, without a step; empty for none."""
        if self.trouble.value == GIVEN:
            return str(self._base.faults[0].model_copy(update={"step": 0}))
        return f"{self.trouble.value}:{self.trouble_rank.value}" if self.trouble.value else ""

    def suit(self, net: str) -> None:
        """Takes the data that another net can read."""
        if not self._own_net and net in nets.REGISTRY:
            self.data.value = offers.suiting_data(net, self.data.value)

    def arrange(self, strategy: str, virtual: bool) -> None:
        """Shows what has a meaning."""
        entry = strategies.REGISTRY[strategy]
        trouble = entry.several_ranks and self.trouble.value not in ("", GIVEN)
        show(self.data, not self._own_net)
        show(self.momentum, checks.takes_momentum(self.optimizer.value))
        show(self.overlap, entry.several_ranks)
        show(self.bucket, entry.several_ranks and self.overlap.value)
        show(self.link, virtual and entry.several_devices)
        show(self.topology, virtual and entry.several_devices)
        show(self.memory, virtual)
        show(self.trouble, entry.several_ranks)
        show(self.trouble_rank, trouble)
        show(self.trouble_step, trouble)
        show(self.inject, entry.several_ranks and bool(self.trouble.value))

    def _one_bucket(self) -> float:
        """Room for all gradients; as it was given, where that was so much."""
        return max(checks.ONE_BUCKET_MB, self._base.bucket_cap_mb)

    def _links(self) -> list[tuple[str, str]]:
        given = [(text.GIVEN_LINK, GIVEN)] if _link(self._base) == GIVEN else []
        return [(text.OWN_LINK, ""), *((name, name) for name in links.names()), *given]

    def _topologies(self) -> list[tuple[str, str]]:
        given = [(page.AS_OPENED.format(value=self._base.topology), GIVEN)] if self._topology() == GIVEN else []
        return [*((said, name) for name, said in page.TOPOLOGIES.items()), *given]

    def _topology(self) -> str:
        return self._base.topology if self._base.topology in offers.TOPOLOGIES else GIVEN

    def _troubles(self) -> list[tuple[str, str]]:
        faults = ", ".join(map(str, self._base.faults))
        given = [(page.AS_OPENED.format(value=faults), GIVEN)] if faults else []
        return [(text.NO_TROUBLE, ""), *((said, kind) for kind, said in page.TROUBLES.items()), *given]


def _options(field: str) -> list[tuple[str, str]]:
    """The values that a field of the Experiment takes."""
    return [(value, value) for value in get_args(Experiment.model_fields[field].annotation)]


def _link(experiment: Experiment) -> str:
    link = experiment.link
    return link if isinstance(link, str) else GIVEN if link is not None else ""
