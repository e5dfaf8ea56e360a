"""Hardware whose times can be worked out in one's head."""

from __future__ import annotations

import dataclasses

from lab.vgpu import profiles

ISSUE_NS = 2_000
LAUNCH_NS = 1_000
LATENCY_NS = 3_000

HARDWARE = dataclasses.replace(
    profiles.get("t4"),
    title="a GPU to count with",
    peak_tflops={"float32": 1e6},
    memory_gb=1.0,
    memory_gb_per_s=1.0,
    launch_us=LAUNCH_NS / 1_000,
    issue_us=ISSUE_NS / 1_000,
    link_gb_per_s=1.0,
    host_link_gb_per_s=1.0,
    link_latency_us=LATENCY_NS / 1_000,
)
"""An operation takes LAUNCH_NS and a nanosecond for each byte that it reads or writes; a copy LATENCY_NS and a
nanosecond for each byte; the host needs ISSUE_NS to issue either."""
