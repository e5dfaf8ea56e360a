"""Answers to the exercise of notebook 00."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch

from tests.lab.exercises.answers import right, wrong

Devices = tuple[str, ...]


def _placed(made: Any, devices: Devices) -> tuple[Any, ...]:
    return (made(devices),)


# -- right -----------------------------------------------------------------------------------------------------------


@right("00-cut", parts=_placed)
def last_layer_apart(devices: Devices) -> Any:
    return {"fc2": devices[1], "*": devices[0]}


@right("00-cut", parts=_placed)
def devices_of_torch(devices: Devices) -> Any:
    return {"fc2": torch.device(devices[1]), "*": torch.device(devices[0])}


@right("00-cut", parts=_placed)
def type_and_index(devices: Devices) -> Any:
    return OrderedDict([("fc2", torch.device("vgpu", 0)), ("*", torch.device("vgpu", 1))])


@right("00-cut", parts=_placed)
def every_layer_named_backwards(devices: Devices) -> Any:
    return {"fc2": devices[0], "fc1": devices[1], "conv2": devices[1], "conv1": devices[1]}


@right("00-cut", parts=_placed)
def patterns_that_do_not_meet(devices: Devices) -> Any:
    return {"conv?": devices[0], "fc1": devices[0], "*2": devices[1]}


@right("00-cut", parts=_placed)
def the_first_without_its_number(devices: Devices) -> Any:
    return {"fc2": devices[1], "*": "vgpu"}


@right("00-cut", parts=_placed)
def read_only(devices: Devices) -> Any:
    return MappingProxyType({"fc2": devices[1], "*": devices[0]})


@right("00-cut", parts=_placed)
def a_mapping_of_ones_own(devices: Devices) -> Any:
    class Placement(Mapping[str, str]):
        def __getitem__(self, layer: str) -> str:
            return devices[layer == "fc2"]

        def __iter__(self) -> Iterator[str]:
            return iter(("conv1", "conv2", "fc1", "fc2"))

        def __len__(self) -> int:
            return 4

    return Placement()


# -- wrong -----------------------------------------------------------------------------------------------------------


@wrong("00-cut", "737,280 bytes cross in a step, between conv1 and conv2. Less than 100,000 are asked", parts=_placed)
def cut_after_conv1(devices: Devices) -> Any:
    return {"conv1": devices[0], "*": devices[1]}


@wrong("00-cut", "163,840 bytes cross in a step, between conv2 and fc1", parts=_placed)
def cut_after_conv2(devices: Devices) -> Any:
    return {"conv*": devices[0], "fc*": devices[1]}


@wrong("00-cut", "926,720 bytes cross in a step, between conv1 and conv2, conv2 and fc1 and fc1 and fc2", parts=_placed)
def in_turn(devices: Devices) -> Any:
    return {"conv1": devices[0], "conv2": devices[1], "fc1": devices[0], "fc2": devices[1]}


@wrong("00-cut", "uses 1: vgpu:0.", parts=_placed)
def all_on_one(devices: Devices) -> Any:
    return {"*": devices[0]}


@wrong("00-cut", "uses 1: vgpu:0. 'fc2' takes no layer: '*' stands before it", parts=_placed)
def the_rest_first(devices: Devices) -> Any:
    return {"*": devices[0], "fc2": devices[1]}


@wrong("00-cut", "gives 'fc2' to vgpu:9, which is not here. This notebook has vgpu:0 and vgpu:1", parts=_placed)
def devices_that_are_not_there(devices: Devices) -> Any:
    return {"fc2": "vgpu:9", "*": "vgpu:8"}


@wrong("00-cut", "gives 'fc2' to vgpu:2, which is not here", parts=_placed)
def one_beyond(devices: Devices) -> Any:
    return {"fc2": torch.device("vgpu:2"), "*": devices[0]}


@wrong("00-cut", "gives '*' to cpu, which is where the images come from", parts=_placed)
def on_the_cpu(devices: Devices) -> Any:
    return {"fc2": devices[0], "*": "cpu"}


@wrong("00-cut", "gives 'fc2' to cuda:7, which is not here", parts=_placed)
def a_gpu_that_is_not_there(devices: Devices) -> Any:
    return {"fc2": "cuda:7", "*": devices[0]}


@wrong("00-cut", "gives 'fc2' to meta:0, which is not here", parts=_placed)
def on_meta(devices: Devices) -> Any:
    return {"fc2": "meta", "*": devices[0]}


@wrong("00-cut", "gives 'fc2' to 1. A device is asked for", parts=_placed)
def numbers_of_devices(devices: Devices) -> Any:
    return {"fc2": 1, "*": 0}


@wrong("00-cut", "gives 'fc2' to 'second'. A device is asked for", parts=_placed)
def names_of_ones_own(devices: Devices) -> Any:
    return {"fc2": "second", "*": "first"}


@wrong("00-cut", "gives '*' to ('vgpu:0', 'vgpu:1'). A device is asked for", parts=_placed)
def both_for_one(devices: Devices) -> Any:
    return {"fc2": devices[1], "*": devices}


@wrong("00-cut", "'fc3' matches no layer (did you mean 'fc2'?); the layers are conv1", parts=_placed)
def a_layer_that_is_not_there(devices: Devices) -> Any:
    return {"fc3": devices[1], "*": devices[0]}


@wrong("00-cut", "gives no device to conv2 and fc1", parts=_placed)
def the_rest_left_out(devices: Devices) -> Any:
    return {"fc2": devices[1], "conv1": devices[0]}


@wrong("00-cut", "gives no device to conv1, conv2, fc1 and fc2", parts=_placed)
def nothing(devices: Devices) -> Any:
    return {}


@wrong("00-cut", "by their names, conv1, conv2, fc1 and fc2, and 3 is none", parts=_placed)
def numbers_of_layers(devices: Devices) -> Any:
    return {3: devices[1], "*": devices[0]}


@wrong("00-cut", "a dictionary from layers to devices, and this is [('fc2', 'vgpu:1'), ('*', 'vgpu:0')]", parts=_placed)
def pairs(devices: Devices) -> Any:
    return [("fc2", devices[1]), ("*", devices[0])]


@wrong("00-cut", "a dictionary from layers to devices, and this is 'fc2'", parts=_placed)
def the_layer_alone(devices: Devices) -> Any:
    return "fc2"


@wrong("00-cut", "and this is 25600", parts=_placed)
def the_bytes(devices: Devices) -> Any:
    return 25_600
