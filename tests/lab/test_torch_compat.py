"""torchvision beside a torch that it was not built for."""

import importlib
import threading
import time

import pytest
import torch

from lab import _torch_compat
from lab._torch_compat import Scaler, import_torchvision

NO_OPERATOR = RuntimeError("operator torchvision::nms does not exist")


def test_the_parts_that_the_lab_uses_work():
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision

    from torchvision.transforms import v2

    assert torchvision.datasets.MNIST
    assert v2.ToDtype(torch.float32, scale=True)(torch.full((1, 2, 2), 255, dtype=torch.uint8)).max() == 1
    net = torchvision.models.resnet18(weights=None).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


class FakeImports:
    """Stands in for importlib: raises the errors given, one a call, then imports."""

    def __init__(self, monkeypatch, *errors):
        self.errors, self.done, self.inside = list(errors), [], 0
        monkeypatch.setattr(importlib, "import_module", self)
        monkeypatch.setattr(_torch_compat, "_forget_half_imported", lambda: self.done.append("forget"))
        monkeypatch.setattr(_torch_compat, "_declare_operators", lambda: self.done.append("declare"))

    def __call__(self, name):
        self.inside += 1
        assert self.inside == 1, "two threads import at once"
        time.sleep(0.01)
        self.inside -= 1
        self.done.append(name)
        if self.errors:
            raise self.errors.pop(0)
        return torch


def test_operators_are_declared_only_where_they_are_missing(monkeypatch):
    imports = FakeImports(monkeypatch)
    import_torchvision()
    assert imports.done == ["torchvision"]

    imports = FakeImports(monkeypatch, NO_OPERATOR)
    import_torchvision()
    assert imports.done == ["torchvision", "forget", "declare", "torchvision"]


@pytest.mark.parametrize("errors", [[RuntimeError("wrong CUDA")], [NO_OPERATOR, NO_OPERATOR]])
def test_a_misfit_that_cannot_be_cured_says_what_to_install(monkeypatch, errors):
    FakeImports(monkeypatch, *errors)
    with pytest.raises(ImportError, match=rf"torch {torch.__version__.replace('+', '.')}: {errors[-1]}\. Install"):
        import_torchvision()


def test_threads_take_turns(monkeypatch):
    imports = FakeImports(monkeypatch, NO_OPERATOR)
    threads = [threading.Thread(target=import_torchvision) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert imports.done == ["torchvision", "forget", "declare"] + ["torchvision"] * 4


def test_numbers_are_scaled_as_a_product_is():
    numbers = torch.randn(1001)
    expected, scaler = numbers * (1 / 3), Scaler(1 / 3)
    scaler.scale(numbers)
    assert torch.equal(numbers, expected)
    assert scaler.finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_noticed(bad):
    numbers, scaler = torch.ones(1001), Scaler(0.5)
    numbers[1000] = bad
    scaler.scale(numbers)
    assert not scaler.finite
    scaler.scale(torch.ones(3))
    assert not scaler.finite
