"""What `torch.vgpu` says of a device: its name, its memory and its generation, all from the hardware profile."""

from __future__ import annotations

from dataclasses import dataclass

from lab.vgpu.selection import DeviceLike, index_of
from lab.vgpu.tensor import machine

_LIMITS = {
    (7, 0): (2048, 96, 96),
    (7, 5): (1024, 64, 64),
    (8, 0): (2048, 164, 163),
    (8, 6): (1536, 100, 99),
    (8, 7): (1536, 164, 163),
    (8, 9): (1536, 100, 99),
    (9, 0): (2048, 228, 227),
    (10, 0): (2048, 228, 227),
    (12, 0): (1536, 100, 99),
}
"""By compute capability: threads and KiB of shared memory of a multiprocessor, and the most of it that one block can
have. NVIDIA, "CUDA C++ Programming Guide", technical specifications per compute capability."""
_TENSOR_CORES_WITH_BF16 = (8, 0)


@dataclass(frozen=True)
class DeviceProperties:
    """What there is to know of a virtual GPU, by the names that CUDA's properties have."""

    name: str
    total_memory: int
    """In bytes."""
    major: int
    minor: int
    """Of the compute capability."""
    multi_processor_count: int
    max_threads_per_multi_processor: int
    shared_memory_per_multiprocessor: int
    """In bytes."""
    shared_memory_per_block_optin: int
    """In bytes."""
    shared_memory_per_block: int = 48 * 1024
    """In bytes, unless a kernel asks for more."""
    max_threads_per_block: int = 1024
    regs_per_multiprocessor: int = 65_536
    warp_size: int = 32
    is_integrated: bool = False
    is_multi_gpu_board: bool = False


def get_device_properties(device: DeviceLike = None) -> DeviceProperties:
    index, profile = index_of(device), machine().profile
    machine().chosen = True  # as CUDA begins when it is asked
    major, minor = profile.compute_capability
    threads, shared_kib, block_kib = _LIMITS.get((major, minor), _LIMITS[_TENSOR_CORES_WITH_BF16])
    return DeviceProperties(
        name=profile.title,
        total_memory=machine().pools[index].capacity,
        major=major,
        minor=minor,
        multi_processor_count=profile.multiprocessors,
        max_threads_per_multi_processor=threads,
        shared_memory_per_multiprocessor=shared_kib * 1024,
        shared_memory_per_block_optin=block_kib * 1024,
    )


def get_device_name(device: DeviceLike = None) -> str:
    """The title of the hardware that it pretends to be."""
    index_of(device)
    return machine().profile.title


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """Major and minor number of the generation that it pretends to be of."""
    index_of(device)
    return machine().profile.compute_capability


def get_arch_list() -> list[str]:
    """The generations that programs can run on: that of the devices, as `["sm_80"]`."""
    return ["sm_{}{}".format(*machine().profile.compute_capability)]


def get_gencode_flags() -> str:
    """What a compiler would be told to make code for the devices."""
    return " ".join(f"-gencode compute={name.replace('sm', 'compute')},code={name}" for name in get_arch_list())


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Always, for the CPU computes it; without emulation, from compute capability 8.0 on."""
    return including_emulation or machine().profile.compute_capability >= _TENSOR_CORES_WITH_BF16


def is_tf32_supported() -> bool:
    """Whether the hardware that it pretends to be has it; what is computed here is float32 either way."""
    return machine().profile.compute_capability >= _TENSOR_CORES_WITH_BF16


def can_device_access_peer(device: DeviceLike, peer_device: DeviceLike) -> bool:
    """Whether one device's copies can go straight to the other: between any two, but not to itself."""
    return index_of(device) != index_of(peer_device)
