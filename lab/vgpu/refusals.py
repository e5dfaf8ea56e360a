"""Names of `torch.cuda` that `torch.vgpu` does not have, and why.

What a program asks for in order to use it is there and says, when it is called, that it cannot be had and what to do
instead; what has no meaning outside of CUDA is not there, so that `hasattr` finds out.
"""

from __future__ import annotations

import functools
from typing import Any

from lab.errors import DeviceError, did_you_mean

_GRAPHS = (
    "virtual GPUs capture no graphs of kernels: run the step itself. To model a GPU without the cost of issuing "
    "operations, give a profile with issue_us = 0"
)
_COUNTERS = "a virtual GPU has no such sensor: lab.vgpu.profile() says when it is busy and with what"
_ALLOCATOR = "a virtual GPU has no allocator to choose or to ask for raw addresses: make a tensor with torch.empty"
_POOLS = "a virtual GPU keeps no memory back, in a pool or otherwise: leave the pool out"
_EXTERNAL = "there are no streams beside those of torch.vgpu: make one with torch.vgpu.Stream()"
_HANDLES = "a virtual GPU computes without CUDA's libraries, so there are no handles of theirs"
_HOST = "memory of the host is not counted: torch.vgpu.memory_stats() counts that of the devices"
_CUDART = "there is no CUDA runtime behind virtual GPUs: lab.vgpu.profile() records what they do"

REFUSED: dict[str, str] = {
    "CUDAGraph": _GRAPHS,
    "graph": _GRAPHS,
    "export_dot": _GRAPHS,
    "export_graph_data": _GRAPHS,
    "graph_pool_handle": _GRAPHS,
    "register_graph_capture_end_hook": _GRAPHS,
    "register_graph_capture_start_hook": _GRAPHS,
    "register_graph_destroy_hook": _GRAPHS,
    "register_graph_instantiate_hook": _GRAPHS,
    "register_graph_replay_end_hook": _GRAPHS,
    "register_graph_replay_start_hook": _GRAPHS,
    "make_graphed_callables": _GRAPHS,
    "CUDAPluggableAllocator": _ALLOCATOR,
    "caching_allocator_alloc": _ALLOCATOR,
    "caching_allocator_delete": _ALLOCATOR,
    "caching_allocator_disabled": "no memory is kept back, so there is nothing to switch off: leave it out",
    "change_current_allocator": _ALLOCATOR,
    "MemPool": _POOLS,
    "MemPoolContext": _POOLS,
    "use_mem_pool": _POOLS,
    "ExternalStream": _EXTERNAL,
    "get_stream_from_external": _EXTERNAL,
    "GreenContext": "the multiprocessors of a virtual GPU cannot be shared out: use a topology with more devices",
    "cudart": _CUDART,
    "check_error": _CUDART,
    "current_blas_handle": _HANDLES,
    "current_solver_handle": _HANDLES,
    "host_memory_stats": _HOST,
    "host_memory_stats_as_nested_dict": _HOST,
    "reset_accumulated_host_memory_stats": _HOST,
    "reset_peak_host_memory_stats": _HOST,
    "clock_rate": _COUNTERS,
    "memory_usage": _COUNTERS,
    "power_draw": _COUNTERS,
    "temperature": _COUNTERS,
    "utilization": _COUNTERS,
    "list_gpu_processes": "every process has virtual GPUs of its own, so no other uses them",
}

_IMPORTED = "it is something that torch.cuda imports for itself"
_OF_CUDA = "it is of CUDA's own libraries and compilers"
ABSENT: dict[str, str] = {
    **dict.fromkeys(
        (
            "Any", "Callable", "Device", "NewType", "Optional", "TYPE_CHECKING", "Tensor", "Union", "cast",
            "classproperty", "glob", "importlib", "lru_cache", "os", "platform", "sys", "threading", "torch",
            "traceback", "warnings",
        ),
        _IMPORTED,
    ),
    **dict.fromkeys(
        (
            "CudaError", "DEVICE_REQUIREMENT", "DEVICE_REQUIREMENT_POST_JETSON_SBSA_UNIFICATION",
            "DeferredCudaCallError", "PYTORCH_RELEASES_CODE_CC", "cudaStatus",
        ),
        _OF_CUDA,
    ),
}  # fmt: skip
"""Names that make no sense for other devices -> why."""

SUBMODULES: dict[str, str] = {
    "gds": "files cannot be read straight into a virtual GPU: read them into a tensor on the CPU, and copy it",
    "graph_annotations": _GRAPHS,
    "green_contexts": REFUSED["GreenContext"],
    "jiterator": "kernels are not compiled for virtual GPUs: write the operation in PyTorch",
    "sparse": "sparse tensors have no types by name: use torch.sparse_coo_tensor(..., device='vgpu')",
    "tunable": "there are no kernels to choose among on virtual GPUs",
}
"""Submodules of which everything is refused, in versions of PyTorch that have them -> why."""


@functools.cache
def refused(name: str, reason: str) -> Any:
    """A class, so that it can be asked for in `isinstance`; making one, or calling it as a function, is refused."""

    def refuse(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise DeviceError(f"torch.vgpu.{name} cannot be had: {reason}")

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__doc__": reason, "__module__": "torch.vgpu"})


def find(name: str, known: list[str]) -> Any:
    """What stands for a name that `torch.vgpu` does not have.

    Args:
        known: the names that it has.

    Raises:
        AttributeError: when nothing does, with the reason or a similar name.
    """
    if name in REFUSED:
        return refused(name, REFUSED[name])
    why = f": {ABSENT[name]}" if name in ABSENT else did_you_mean(name, known)
    raise AttributeError(f"module 'torch.vgpu' has no attribute {name!r}{why}", name=name)
