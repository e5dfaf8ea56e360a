"""`torch.vgpu`: the device module of virtual GPUs."""

from __future__ import annotations

import torch

from lab.vgpu import tensor as vt


class VGPUModule:
    """`torch.vgpu`: the device module, as `torch.cuda` is CUDA's."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Virtual GPUs draw from the CPU's generator, which torch.manual_seed seeds."""

    @staticmethod
    def device_count() -> int:
        return vt.machine().device_count

    @staticmethod
    def current_device() -> int:
        return vt.thread_state.current_device

    @staticmethod
    def set_device(device: int | str | torch.device) -> None:
        index = device if isinstance(device, int) else torch.device(device).index
        vt.thread_state.current_device = vt.machine().check(index or 0)

    @staticmethod
    def get_rng_state(device: int | str | torch.device = 0) -> torch.Tensor:
        """Virtual GPUs draw from the CPU's generator; this is its state."""
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: int | str | torch.device = 0) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def synchronize(device: int | None = None) -> None:
        vt.machine().clock.synchronize(device)

    @staticmethod
    def memory_allocated(device: int = 0) -> int:
        return vt.machine().pools[vt.machine().check(device)].allocated

    @staticmethod
    def max_memory_allocated(device: int = 0) -> int:
        return vt.machine().pools[vt.machine().check(device)].peak
