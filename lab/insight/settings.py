"""What a run was asked for, as far as its explanation needs it: read from the events, not from the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.errors import DeviceError
from lab.events import Clock, RunStarted
from lab.faults import Fault
from lab.insight.findings import Basis
from lab.vgpu import links, profiles
from lab.vgpu.links import LinkModel
from lab.vgpu.profiles import Profile

SLOW_FAULTS = ("straggle", "delay", "throttle")
"""Faults that make a rank late and let it live."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The Experiment of a run, as its first event has it."""

    fields: dict[str, Any]
    clock: Clock
    virtual: bool
    """Whether all devices of the run are virtual GPUs."""

    @classmethod
    def of(cls, started: RunStarted) -> Settings:
        virtual = all(device.simulated for device in started.devices)
        return cls(started.experiment, started.clock, virtual and bool(started.devices))

    @property
    def basis(self) -> Basis:
        """Of the run's times."""
        return "simulated" if self.clock == "virtual" else "measured"

    @property
    def strategy(self) -> str:
        return str(self.fields.get("strategy", "single"))

    @property
    def batch_size(self) -> int:
        return int(self.fields.get("batch_size", 1))

    @property
    def microbatches(self) -> int:
        return int(self.fields.get("microbatches", 1))

    @property
    def late_on_purpose(self) -> frozenset[int]:
        """Ranks that a fault makes slow."""
        faults = [Fault.read(text) for text in self.fields.get("faults", ())]
        return frozenset(fault.rank for fault in faults if fault.kind in SLOW_FAULTS)

    def profile(self) -> Profile | None:
        """Of the virtual GPUs; None where there are none, or its file is not to be had here."""
        hardware = self.fields.get("hardware", profiles.DEFAULT)
        if not self.virtual or profiles.is_path(hardware):
            return None
        try:
            return profiles.find(hardware)
        except DeviceError:
            return None

    @property
    def modelled(self) -> bool:
        """Whether operations are timed by the model of the hardware."""
        profile, timing = self.profile(), self.fields.get("timing", "auto")
        return profile is not None and (profile.timing if timing == "auto" else timing) == "modelled"

    def link(self) -> LinkModel | None:
        """Between two virtual GPUs; None where devices share links or it is not known."""
        profile = self.profile()
        if profile is None or self.fields.get("topology", "pairs") != "pairs":
            return None
        asked = self.fields.get("link")
        if isinstance(asked, str):
            return links.get(asked).model if asked in links.names() else None
        if asked is not None:
            return LinkModel(asked["bandwidth_gb_per_s"], round(asked["latency_us"] * 1000))
        return LinkModel(profile.link_gb_per_s, round(profile.link_latency_us * 1000))
