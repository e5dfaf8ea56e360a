"""Addresses of the page, good and bad, made by chance."""

from __future__ import annotations

import random
import string
from urllib.parse import quote, urlencode

from lab import data, nets, strategies
from lab.experiment import Experiment
from lab.faults import KINDS

NAMES = [*Experiment.model_fields, "placement.conv1", "placement.*", "link.latency_us", "link.bandwidth_gb_per_s"]
GOOD = [
    *nets.NAMES, *data.NAMES, *strategies.NAMES, *KINDS, "vgpu:0,vgpu:1", "cpu", "vgpu:63", "even", "auto", "kill:1:5",
    "true", "1", "2", "64", "0.01", "classroom", "a100", "nvlink3", "nodes:2", "bus",
]  # fmt: skip
BAD = [
    "", "-1", "1e400", "nan", "inf", "9" * 400, "1_000", "٣", "own:net", "own:", "../../etc/passwd", "/dev/zero.toml",
    "x.toml", "\0", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "cuda:0", "cuda:99", "vgpu:-1", "*",
    "<script>", "${7*7}", "__import__('os')", "%00", ";", "&", "=", "a" * 3000, "[" * 500, "{}", "kill:99:99:99:99",
]  # fmt: skip


FITTING = [
    ("seed", "7"), ("lr", "0.5"), ("net", "gpt"), ("steps", "999999999"), ("batch_size", "65536"), ("epochs", "3"),
    ("strategy", "model_parallel"), ("strategy", "ddp"), ("devices", "vgpu:0,vgpu:1"), ("hardware", "a100"),
    ("microbatches", "2"), ("optimizer", "adam"), ("timeout_s", "3600"), ("link", "nvlink3"), ("world_size", "2"),
]  # fmt: skip


def random_query(chance: random.Random) -> str:
    """An address as somebody might write it: some can be followed, most name a field, few make sense."""
    if chance.random() < 0.1:
        return "".join(chance.choices(string.printable + "%&=.?+é漢", k=chance.randint(0, 300)))
    if chance.random() < 0.3:
        return urlencode(chance.sample(FITTING, k=chance.randint(1, 4)))
    pairs = []
    for _ in range(chance.randint(0, 6)):
        name = chance.choice(NAMES) if chance.random() < 0.95 else chance.choice(BAD)
        pairs.append((name, chance.choice(GOOD if chance.random() < 0.6 else BAD)))
    return (
        urlencode(pairs, errors="replace") if chance.random() < 0.8 else "&".join(f"{a}={quote(b)}" for a, b in pairs)
    )
