"""Storages on virtual GPUs: held against the CPU's, with the ledger of memory counted by hand."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from lab import vgpu
from lab.vgpu.memory import MemoryPool
from lab.vgpu.purposes import MemoryLedger
from lab.vgpu.storage import short

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
HERE = "vgpu:0"


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    machine = vgpu.enable(devices=2, memory=10_000, hardware="classroom", timing="modelled")
    yield machine.pools[0]
    gc.collect()
    assert not short, "storages that are gone are still called short"


def test_tensors_on_one_memory_have_one_storage(pool: MemoryPool):
    x = torch.arange(8.0, device=HERE)
    storage = x.untyped_storage()
    views = [x[3:], x.view(2, 4), x.detach(), x.t(), torch.nn.Parameter(x), x[1:3]]
    assert all(view.untyped_storage() is storage for view in views)
    assert {view.untyped_storage()._cdata for view in views} == {storage._cdata}
    assert {view.untyped_storage().data_ptr() for view in views} == {storage.data_ptr()}
    assert x.clone().untyped_storage()._cdata != storage._cdata
    assert (storage.device, storage.nbytes(), storage.size(), len(storage)) == (x.device, 32, 32, 32)
    assert storage.get_device() == 0
    assert storage.is_vgpu
    assert isinstance(storage, torch.UntypedStorage)
    assert torch.is_storage(storage)
    assert pool.allocated == 32


def test_a_storage_lives_as_long_as_a_tensor_or_the_program_holds_it(pool: MemoryPool):
    x = torch.zeros(5, device=HERE)
    seen, reference = weakref.ref(x.untyped_storage()), StorageWeakRef(x.untyped_storage())
    x.untyped_storage().mark = 7
    assert x[1:].untyped_storage().mark == 7
    assert not reference.expired()
    kept = x.untyped_storage()
    del x
    assert pool.allocated == 20
    del kept
    assert seen() is None
    assert reference.expired()
    assert pool.allocated == 0


def test_resizing_shows_in_the_ledger_to_the_byte(pool: MemoryPool):
    x = torch.arange(100.0, device=HERE)
    rows, storage = x.view(10, 10), x.untyped_storage()
    storage.resize_(0)
    assert pool.allocated == 0
    assert (rows.untyped_storage().nbytes(), x.shape, x.data_ptr()) == (0, (100,), 0)
    storage.resize_(400)
    x.copy_(torch.arange(100.0) + 1)
    assert pool.allocated == 400
    assert rows[9, 9] == 100
    storage.resize_(600)
    assert (pool.allocated, pool.peak, x.sum().item()) == (600, 600, 5050)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 19\.4 kB"):
        storage.resize_(20_000)
    assert (pool.allocated, storage.nbytes(), x.sum().item()) == (600, 600, 5050)
    assert torch.equal(x.resize_(110)[:100].cpu(), torch.arange(1.0, 101))
    assert pool.allocated == 600
    del x, rows, storage
    assert pool.allocated == 0


def test_a_storage_keeps_its_purpose_while_it_is_empty(pool: MemoryPool):
    with MemoryLedger(vgpu.current()) as ledger:
        y = torch.nn.Parameter(torch.zeros(50, device=HERE))
        before = ledger.now(0)["parameters"]
        y.untyped_storage().resize_(0)
        empty = ledger.now(0)["parameters"]
        y.untyped_storage().resize_(200)
        assert (before - empty, ledger.now(0)["parameters"]) == (200, before)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.sum(),
        lambda x: x.add_(1),
        lambda x: x.cpu(),
        lambda x: x.detach().tolist(),
        lambda x: x.to("vgpu:1"),
        lambda x: torch.ones(100).copy_(x),
        lambda x: x.copy_(torch.ones(100)),
        lambda x: torch.cat([x, x]),
        lambda x: torch._foreach_add_([x], 1),
        lambda x: vgpu.peek(x),
    ],
)
@pytest.mark.parametrize("left", [0, 396])
def test_a_tensor_whose_memory_was_freed_is_refused(pool: MemoryPool, use: Callable[[Any], Any], left: int):
    x = torch.arange(100.0, device=HERE).view(100)
    x.untyped_storage().resize_(left)
    with pytest.raises(RuntimeError, match=f"needs 400 bytes, and its storage was resized to {left}"):
        use(x)
    assert "size=(100,)" in repr(x)
    assert x.shape == (100,)
    x.untyped_storage().resize_(400)
    x.fill_(2)
    assert x.sum() == 200


BYTES = torch.arange(6.0).add(0.5)


@pytest.mark.parametrize(
    "look",
    [
        lambda s: s.tolist(),
        lambda s: list(s),
        lambda s: [s[0], s[-1], s[7]],
        lambda s: s[4:8].tolist(),
        lambda s: s.fill_(3).tolist(),
        lambda s: s.clone().tolist(),
        lambda s: copy.copy(s).tolist(),
        lambda s: copy.deepcopy(s).tolist(),
        lambda s: s.cpu().tolist(),
        lambda s: s.to(device="cpu").tolist(),
        lambda s: s.to(device="vgpu:1").tolist(),
        lambda s: s.new().nbytes(),
        lambda s: s.float().tolist(),
        lambda s: s.complex_double().tolist(),
        lambda s: s.byteswap(torch.float32) or s.tolist(),
        lambda s: s.element_size(),
        lambda s: s.resizable(),
        lambda s: s.type(),
        lambda s: s.untyped() is s,
        lambda s: s.is_pinned(),
        lambda s: s.is_cuda,
        lambda s: s.filename,
        lambda s: repr(s).replace("vgpu:0", "cpu"),
        lambda s: s.__setitem__(3, 9) or s.tolist(),
        lambda s: s.__setitem__(slice(2, 5), 9) or s.tolist(),
        lambda s: s.copy_(torch.arange(24, dtype=torch.uint8).untyped_storage()).tolist(),
        lambda s: s.resize_(8).tolist(),
        lambda s: s[24],
        lambda s: s[1.5],
        lambda s: s.__setitem__(0, "x"),
        lambda s: s.copy_(torch.UntypedStorage(3)),
        lambda s: torch.UntypedStorage(24).copy_(s).tolist(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.float32).tolist(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.float32).clone().tolist(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.float32).cpu().tolist(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.float32).double().tolist(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.int64).size(),
        lambda s: torch.TypedStorage(wrap_storage=s, dtype=torch.float32).fill_(2).tolist(),
        lambda s: copy.deepcopy(torch.TypedStorage(wrap_storage=s, dtype=torch.float32)).tolist(),
        lambda s: pickle.loads(pickle.dumps(torch.TypedStorage(wrap_storage=s, dtype=torch.float32))).tolist(),
    ],
)
def test_a_storage_does_what_the_cpus_does(pool: MemoryPool, look: Callable[[Any], Any]):
    def outcome(storage: Any) -> Any:
        try:
            return look(storage)
        except (RuntimeError, TypeError, IndexError):
            return "refused"

    assert outcome(BYTES.to(HERE).untyped_storage()) == outcome(BYTES.clone().untyped_storage())


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_storages_are_saved_with_their_device_and_with_what_they_share(pool: MemoryPool, options: dict[str, bool]):
    x = torch.arange(4.0, device=HERE)
    file = io.BytesIO()
    torch.save({"typed": x.storage(), "view": x[1:], "all": x}, file, **options)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded["all"].device == torch.device(HERE)
    loaded["all"].fill_(5)
    assert loaded["view"].tolist() == [5, 5, 5]
    assert loaded["typed"].tolist() == [5, 5, 5, 5]
    file.seek(0)
    plain = torch.load(file, weights_only=False, map_location="cpu")
    assert plain["typed"].tolist() == [0, 1, 2, 3]
    assert plain["all"].device.type == "cpu"


def test_an_untyped_storage_is_saved_and_pickled(pool: MemoryPool):
    x = torch.arange(4.0, device=HERE)
    file = io.BytesIO()
    torch.save(x.untyped_storage(), file)
    file.seek(0)
    for again in (
        torch.load(file, weights_only=False)._untyped_storage,
        pickle.loads(pickle.dumps(x.untyped_storage())),
    ):
        assert (again.device, again.tolist()) == (x.device, x.untyped_storage().tolist())


def test_a_storage_is_made_on_a_device(pool: MemoryPool):
    storage = torch.UntypedStorage(16, device=HERE)
    assert (storage.nbytes(), storage.device, pool.allocated) == (16, torch.device(HERE), 16)
    x = torch.empty(0, device=HERE).set_(storage, 0, (4,), (1,))
    x.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert x.tolist() == [1, 2, 3, 4]
    assert pool.allocated == 16
    assert torch.UntypedStorage(device="vgpu").nbytes() == 0
    assert torch.UntypedStorage([1, 2, 3], device="vgpu:1").tolist() == [1, 2, 3]
    typed = torch.TypedStorage(3, dtype=torch.float64, device=HERE)
    assert (typed.size(), typed.nbytes()) == (3, 24)
    assert torch.TypedStorage([1.5, 2.5], device=HERE).tolist() == [1.5, 2.5]
    assert torch.vgpu.FloatStorage([1.5]).tolist() == [1.5]
    assert isinstance(x.storage(), torch.vgpu.FloatStorage)
    assert not isinstance(x.storage(), torch.vgpu.DoubleStorage)
    assert x.storage_type() is torch.vgpu.FloatStorage
    with pytest.raises(torch.OutOfMemoryError):
        torch.UntypedStorage(10_001, device=HERE)
    with pytest.raises(RuntimeError, match="-1 bytes"):
        torch.UntypedStorage(-1, device=HERE)
    assert torch.UntypedStorage(3).device.type == "cpu"
    assert type(storage)(3).device.type == "cpu"


def test_set_puts_a_tensor_on_a_storage(pool: MemoryPool):
    x, y = torch.arange(10.0, device=HERE), torch.zeros(2, 2, device=HERE)
    assert pool.allocated == 56
    y.set_(x.untyped_storage(), 1, (3,), (3,))
    assert y.tolist() == [1, 4, 7]
    assert (pool.allocated, y.shape, y.stride(), y.storage_offset()) == (40, (3,), (3,), 1)
    y.zero_()
    assert x.sum() == 45 - 12
    z = torch.empty(0, device=HERE).set_(x)
    assert z.is_set_to(x)
    assert z.untyped_storage() is x.untyped_storage()
    assert pool.allocated == 40
    assert z.set_().numel() == 0
    z.set_(x.untyped_storage())
    assert z.tolist() == x.tolist()
    z.set_(x.storage(), 0, (2, 2))
    assert z.tolist() == x[:4].view(2, 2).tolist()
    z.set_(x.untyped_storage(), 0, (20,), (1,))  # it grows, as on the CPU
    assert (pool.allocated, z[:10].tolist()) == (80, x.tolist())
    with pytest.raises(torch.OutOfMemoryError):
        z.set_(x.untyped_storage(), 0, (3000,), (1,))
    assert pool.allocated == x.untyped_storage().nbytes() == 80


@pytest.mark.parametrize(
    "put",
    [
        lambda here, there, plain: here.set_(plain.untyped_storage()),
        lambda here, there, plain: here.set_(plain),
        lambda here, there, plain: here.set_(there.untyped_storage()),
        lambda here, there, plain: here.set_(there),
        lambda here, there, plain: plain.set_(here.untyped_storage()),
        lambda here, there, plain: plain.set_(here),
    ],
)
def test_a_tensor_stays_on_its_device(pool: MemoryPool, put: Callable[..., Any]):
    with pytest.raises(RuntimeError, match="device"):
        put(torch.ones(2, device=HERE), torch.ones(2, device="vgpu:1"), torch.ones(2))


def test_data_shares_memory_and_nothing_else(pool: MemoryPool):
    first, second = torch.zeros(2, 3, device=HERE), torch.ones(3, 2, device=HERE)
    first.data = second
    first.t_()
    assert (first.shape, second.shape) == ((2, 3), (3, 2))
    first.fill_(4)
    assert second.tolist() == [[4, 4], [4, 4], [4, 4]]
    assert pool.allocated == 24


def test_storages_without_numbers_are_told_apart():
    vgpu.enable(devices=1, backing="meta")
    x, y = torch.zeros(4, device=HERE), torch.zeros(4, device=HERE)
    assert x.untyped_storage().data_ptr() == x[1:].untyped_storage().data_ptr() != y.untyped_storage().data_ptr()
    assert x[1:].data_ptr() == x.data_ptr() + 4
    x.untyped_storage().resize_(0)
    assert x.untyped_storage().data_ptr() == 0
    assert repr(y.untyped_storage()).startswith("...")
    with pytest.raises(Exception, match="no numbers"):
        y.untyped_storage().tolist()


UNSAFE = ("_expired", "_free_weak_ref", "_new_with_weak_ptr", "_set_cdata")
"""They take an address as a number, and believe it."""


def test_no_method_ends_python(pool: MemoryPool):
    """Every method of a storage and of a typed one, with arguments of many kinds, in a process that may end."""
    arguments: list[tuple[Any, ...]] = [(), (0,), (3,), (-1,), ("x",), (None,), (slice(0, 4),), (0, 7), (torch.int64,)]
    x = torch.arange(6.0).to(HERE)
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(said)
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        for make in (x.untyped_storage, x.storage, x.untyped_storage().clone, lambda: x.untyped_storage()[4:12]):
            for name in sorted(set(dir(make())) - set(dir(object)) - set(UNSAFE)):
                for given in (*arguments, (make(),)):
                    os.write(say, f"{name}{given}\n".encode())
                    try:
                        repr(getattr(make(), name)(*given))
                        repr(x)
                    except Exception:  # noqa: BLE001 - any error will do
                        continue
        os._exit(0)
    os.close(say)
    with os.fdopen(said) as pipe:
        last = pipe.read().splitlines()[-1]
    assert os.waitpid(child, 0)[1] == 0, f"the process ended in {last}"
