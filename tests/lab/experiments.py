"""Every Experiment that is valid without looking at the machine, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lab import data, faults, nets
from lab.vgpu import links, profiles

DEVICES = st.one_of(
    st.just("cpu"),
    st.integers(0, 7).map(lambda index: f"cuda:{index}"),
    st.integers(0, 63).map(lambda index: f"vgpu:{index}"),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
DATA_OF = {"net": ["mnist"], "mlp": ["mnist", "shapes"], "resnet18": ["mnist", "shapes"], "gpt": ["sums"]}


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def _ddp(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """The rest of the fields, for ranks that share a device, have one each, or several with the layers on them."""
    world_size, share = draw(st.integers(2, 8)), draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["vgpu", "cuda"])) if share else draw(st.sampled_from(["cpu", "cuda"]))
    names = ["cpu"] if kind == "cpu" else [f"{kind}:{index}" for index in range(max(1, share * world_size))]
    several = st.sampled_from(["even", "auto"]) | st.dictionaries(TEXT, st.sampled_from(names[:share] or names))
    local = draw(st.integers(1, 64))
    microbatches = draw(st.sampled_from([m for m in range(1, local + 1) if local % m == 0]))
    fault = st.builds(
        "{}:{}:{}".format, st.sampled_from(faults.KINDS), st.integers(0, world_size - 1), st.integers(0, 99)
    )
    graphs = [{}, {"find_unused_parameters": True}]
    if microbatches == 1 or share > 1:  # a static graph does not accumulate gradients
        graphs.append({"static_graph": True})
    return {
        **fields,
        "strategy": "ddp",
        "world_size": world_size,
        "devices": names,
        "placement": draw(several.filter(bool)) if share > 1 else None,
        "backend": draw(st.sampled_from(["auto", "gloo", *(["nccl"] if kind == "cuda" and share else [])])),
        "batch_size": local * world_size,
        "microbatches": microbatches,
        "bucket_cap_mb": draw(st.floats(0, 10_000, exclude_min=True)),
        "gradient_as_bucket_view": draw(st.booleans()),
        **draw(st.sampled_from(graphs)),
        "compression": draw(st.sampled_from(["none", "fp16", "powersgd"])),
        "faults": draw(st.lists(fault, max_size=4)),
        "timeout_s": draw(st.floats(1, 3600)),
    }


@st.composite
def valid_fields(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a valid Experiment, each given or left out."""
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["net"] = draw(st.sampled_from(nets.NAMES))
        fields["data"] = draw(_maybe(st.sampled_from(DATA_OF[fields["net"]])))
    else:
        fields["net"] = "own:" + draw(TEXT)
        fields["data"] = draw(_maybe(st.sampled_from(data.NAMES)))
    strategy = draw(st.sampled_from([None, "data_parallel", "model_parallel", "ddp"]))
    if strategy == "ddp":
        return draw(_ddp(fields))
    placing = strategy == "model_parallel"
    if strategy is not None:
        fields["strategy"] = strategy
        fields["devices"] = draw(st.lists(DEVICES, min_size=1, max_size=5, unique=True))
    if placing:
        places = st.dictionaries(TEXT, st.sampled_from(fields["devices"]), min_size=1, max_size=5)
        fields["placement"] = draw(st.sampled_from([None, "even", "auto"]) | places)
    if strategy is None:
        fields["devices"] = draw(_maybe(DEVICES.map(lambda name: [name])))
    samples = data.REGISTRY[fields["data"] or "sums"].spec.train_samples
    fields["batch_size"] = draw(st.integers(1, min(samples, 4_096)))
    if placing:
        divisors = [m for m in range(1, fields["batch_size"] + 1) if fields["batch_size"] % m == 0]
        fields["microbatches"] = draw(st.sampled_from(divisors))
    kinds = {name.split(":")[0] for name in fields["devices"] or ["cpu"]}
    clocks = ["auto", "wall"]
    clocks += ["virtual"] if "vgpu" in kinds and "cuda" not in kinds else []
    clocks += ["cuda"] if kinds == {"cuda"} else []
    fields["clock"] = draw(st.sampled_from(clocks))
    figures = st.fixed_dictionaries(
        {"bandwidth_gb_per_s": st.floats(0, 1e6, exclude_min=True), "latency_us": st.floats(0, 1e7)}
    )
    fields["link"] = draw(_maybe(figures | st.sampled_from(links.names())))
    fields["memory_mb"] = draw(_maybe(st.floats(0, 1e7, exclude_min=True)))
    fields["steps"] = draw(_maybe(st.integers(1, 100_000_000)))
    for name, values in {
        "transfers": st.sampled_from(["auto", "manual"]),
        "epochs": st.integers(1, 10_000),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "lr": st.floats(0, 1000, exclude_min=True),
        "momentum": st.floats(0, 1, exclude_max=True),
        "seed": st.integers(0, 2**63 - 1),
        "timing": st.sampled_from(["auto", "measured", "modelled"]),
        "hardware": st.sampled_from([*profiles.names(), "mine.toml", "/a b/ü.toml"]),
        "topology": st.sampled_from(["pairs", "ports", "bus", "nodes:4", "nodes:2:ethernet_10g"]),
        "dtype": st.sampled_from(["float32", "float64", "bfloat16"]),
    }.items():
        if draw(st.booleans()):
            fields[name] = draw(values)
    return fields
