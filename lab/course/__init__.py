"""What every notebook of the course begins with: its devices and its length, by one setting each.

    from lab import course

    HARDWARE = "auto"                                 # GPUs where there are enough, else virtual ones
    STEPS = 60                                        # in a cell tagged `parameters`: papermill can set them

    devices = course.devices(2, HARDWARE)             # ("vgpu:0", "vgpu:1")
    length = course.length(steps=STEPS, epochs=1)     # {"steps": 60}, or {"epochs": 1} in the long form
    lab.Experiment(strategy="model_parallel", devices=devices, **length)

The notebooks themselves are found and copied by `lab.course.files`.
"""

from __future__ import annotations

from lab.course.clock import milliseconds
from lab.course.settings import LONG_VARIABLE, devices, length, long_form

__all__ = ["LONG_VARIABLE", "devices", "length", "long_form", "milliseconds"]
