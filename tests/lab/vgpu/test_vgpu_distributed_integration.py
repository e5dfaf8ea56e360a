"""torch.distributed on virtual GPUs, with real processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lab import vgpu
from lab.vgpu.links import LinkModel
from tests.lab.ranks import Seen, join, run_ranks

pytestmark = pytest.mark.usefixtures("no_leaks")

LINK = LinkModel(bytes_per_ns=2.0, latency_ns=1000)


def numbers(tensor):
    """As a list, and a check that it is on a virtual GPU."""
    assert tensor.device.type == "vgpu"
    return tensor.tolist()


def every_collective(rank):
    """Of three ranks, each on its own device; rank r has the numbers 10 r, 10 r + 1, 10 r + 2."""
    device = f"vgpu:{rank}"
    own = torch.arange(3.0, device=device) + 10 * rank
    found = {}

    def result(name, work, *tensors):
        if work is not None:
            assert work.wait()
        found[name] = [numbers(tensor) for tensor in tensors]

    for name in ("SUM", "AVG", "MAX", "MIN", "PRODUCT"):
        x = own.clone()
        result(name, dist.all_reduce(x, getattr(dist.ReduceOp, name), async_op=name == "MAX"), x)
    x = own.clone()
    result("broadcast", dist.broadcast(x, src=1), x)
    x = own.clone()
    result("reduce", dist.reduce(x, dst=2), x) if rank == 2 else dist.reduce(x, dst=2)
    parts = [torch.empty(3, device=device) for _ in range(3)]
    result("all_gather", dist.all_gather(parts, own), *parts)
    whole = torch.empty(9, device=device)
    result("all_gather_into_tensor", dist.all_gather_into_tensor(whole, own, async_op=True), whole)
    one = torch.empty(1, device=device)
    result("reduce_scatter", dist.reduce_scatter(one, list(own.split(1))), one)
    result("reduce_scatter_tensor", dist.reduce_scatter_tensor(one, own, dist.ReduceOp.AVG), one)
    parts = [torch.empty(3, device=device) for _ in range(3)]
    dist.gather(own, parts if rank == 0 else None, dst=0)
    result("gather", None, *parts if rank == 0 else ())
    dist.scatter(one, list(own.split(1)) if rank == 0 else None, src=0)
    result("scatter", None, one)
    swapped = torch.empty(3, device=device)
    result("all_to_all_single", dist.all_to_all_single(swapped, own), swapped)
    uneven = torch.empty(3 if rank == 0 else 0, device=device)
    takes, gives = ([1, 1, 1], [1, 0, 0]) if rank == 0 else ([0, 0, 0], [1, 0, 0])
    result("all_to_all_uneven", dist.all_to_all_single(uneven, own[:1].clone(), takes, gives), uneven)
    dist.barrier(device_ids=[rank])
    objects = [None] * 3
    dist.all_gather_object(objects, {"rank": rank})
    found["objects"] = objects
    half = dist.new_group([0, 2])
    x = own.clone()
    if rank != 1:
        result("subgroup", dist.all_reduce(x, group=half), x)
    future = dist.all_reduce(own.clone(), async_op=True).get_future().then(lambda f: f.value()[0] * 2)
    result("then", None, future.wait())
    return found


@pytest.mark.parametrize("backend", ["cpu:gloo,vgpu:vgloo", "vgloo", "vgpu:vgloo"])
def test_every_collective_gives_what_it_should(tmp_path, backend):
    a, b, c = [0.0, 1.0, 2.0], [10.0, 11.0, 12.0], [20.0, 21.0, 22.0]
    found = run_ranks(3, every_collective, tmp_path, backend=backend)
    assert all(isinstance(one, dict) for one in found), found
    sums = [sum(column) for column in zip(a, b, c, strict=True)]
    everywhere = {
        "SUM": [sums],
        "AVG": [[total / 3 for total in sums]],
        "MAX": [c],
        "MIN": [a],
        "PRODUCT": [[x * y * z for x, y, z in zip(a, b, c, strict=True)]],
        "broadcast": [b],
        "all_gather": [a, b, c],
        "all_gather_into_tensor": [a + b + c],
        "objects": [{"rank": 0}, {"rank": 1}, {"rank": 2}],
        "then": [[2 * total for total in sums]],
    }
    for rank, one in enumerate(found):
        assert {name: one[name] for name in everywhere} == everywhere
        assert one["reduce_scatter"] == [[sums[rank]]]
        assert one["reduce_scatter_tensor"] == [[sums[rank] / 3]]
        assert one["scatter"] == [[a[rank]]]
        assert one["all_to_all_single"] == [[a[rank], b[rank], c[rank]]]
        assert one["all_to_all_uneven"] == [[a[0], b[0], c[0]] if rank == 0 else []]
        assert one["gather"] == ([a, b, c] if rank == 0 else [])
        assert one.get("reduce") == ([sums] if rank == 2 else None)
        assert one.get("subgroup") == (None if rank == 1 else [[x + z for x, z in zip(a, c, strict=True)]])


def worked_by_hand(rank):
    """Rank 1's device is 50,000 ns behind. An asynchronous all-reduce, work beside it, the wait, work after it."""
    clock, seen, device = vgpu.current().clock, Seen(), 2 * rank
    x = torch.ones(1000, device=f"vgpu:{device}")
    clock.synchronize()
    zero = clock.host_ns
    clock.streams[device].wait_until(100_000)
    if rank == 1:
        clock.run(device, 50_000 - clock.issue_ns if zero > 100_000 else 50_000)
    vgpu.current().observers.append(seen)
    work = dist.all_reduce(x, async_op=True)
    host_after_issue = clock.host_ns
    beside = clock.run(device, 100)
    work.wait()
    after = clock.run(device, 100)
    torch.vgpu.synchronize(device)
    return seen.collectives, zero, host_after_issue, beside, after, clock.host_ns


def test_a_collective_starts_when_the_last_rank_is_ready(tmp_path):
    (early, late) = run_ranks(2, worked_by_hand, tmp_path, link=LINK)
    assert early[1] < 90_000  # what came before is over
    # 4000 bytes among two ranks: two steps of 1000 ns and 2000 bytes at 2 bytes/ns.
    lasts = 2 * (1000 + 1000)
    common = {"name": "all_reduce", "bytes": 4000, "start_ns": 150_000, "end_ns": 150_000 + lasts, "last_rank": 1}
    for device, ready, (collectives, _, host, beside, after, end) in ((0, 100_000, early), (2, 150_000, late)):
        (collective,) = collectives
        assert {name: getattr(collective, name) for name in common} == common
        assert (collective.device, collective.ready_ns) == (device, ready)
        assert collective.stream > 0
        assert host < 100_000  # the host has not waited
        assert beside == ready  # the device computes beside it
        assert after == 150_000 + lasts  # what follows the wait starts when it has ended
        assert end == after + 100


def chained(rank):
    """A callback on a collective's future; then all is let go."""
    clock, seen, device = vgpu.current().clock, Seen(), f"vgpu:{rank}"
    before = torch.vgpu.memory_allocated(rank)
    x = torch.ones(1000, device=device)
    vgpu.current().observers.append(seen)
    future = dist.all_reduce(x, async_op=True).get_future()
    doubled = future.then(lambda done: done.value()[0] * 2)
    beside = clock.run(rank, 100)
    in_callback = seen.operations[0]
    doubled.wait()
    after = clock.run(rank, 100)
    held = torch.vgpu.memory_allocated(rank) - before
    del x, future, doubled
    left = torch.vgpu.memory_allocated(rank) - before
    failed = dist.all_reduce(torch.ones(1, device=device), async_op=True).get_future().then(lambda done: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.wait()
    return seen.collectives[0].end_ns, in_callback, beside, after, held, left


def test_a_callback_runs_when_the_collective_has_ended_and_beside_the_rest(tmp_path):
    found = run_ranks(2, chained, tmp_path, link=LinkModel(bytes_per_ns=0.01, latency_ns=1000))
    assert all(isinstance(one, tuple) for one in found), found
    for end, (began, ended), beside, after, held, left in found:
        assert began == end
        assert beside < end
        assert after == ended
        assert (held, left) == (8000, 0)


def opened_and_closed(rank, folder):
    """Threads and descriptors before and after ten process groups of their own."""

    def count():
        return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir()))

    dist.destroy_process_group()
    for number in range(10):
        store = dist.FileStore(f"{folder}/store-{number}", 2)
        dist.init_process_group("vgloo", store=store, rank=rank, world_size=2)
        x = torch.ones(2, device=f"vgpu:{rank}")
        dist.all_reduce(x, async_op=number % 2 == 0)
        if rank == 0 and number == 1:
            dist.isend(x, 1).wait()
        elif number == 1:
            dist.irecv(x, 0).wait()
        dist.destroy_process_group()
        del store
        if number == 0:
            first = count()
    last = count()
    join("vgloo", f"{folder}/store-last", rank, 2)  # which the end of the process expects
    return first, last


def test_a_group_that_ends_leaves_nothing(tmp_path):
    for first, last in run_ranks(2, opened_and_closed, tmp_path, str(tmp_path)):
        assert last[0] <= first[0]
        assert last[1] <= first[1]


def lasting(rank):
    seen = Seen()
    vgpu.current().observers.append(seen)
    device = f"vgpu:{rank}"
    x, whole = torch.ones(900, device=device), torch.ones(3600, device=device)
    dist.broadcast(x, 0)
    dist.reduce(x, 0)
    dist.all_gather_into_tensor(whole, x)
    dist.reduce_scatter_tensor(x, whole)
    dist.gather(x, list(whole.split(900)) if rank == 0 else None)
    dist.all_to_all_single(whole, whole.clone())
    first = [collective.end_ns - collective.start_ns for collective in seen.collectives]
    host = vgpu.current().clock.host_ns
    dist.barrier(device_ids=[rank])
    barrier = seen.collectives[-1]
    with vgpu.current().paused():
        dist.all_reduce(x)
    quiet = len(seen.collectives) == 7
    return first, barrier.name, barrier.end_ns <= vgpu.current().clock.host_ns, host < barrier.end_ns, quiet


def test_collectives_last_as_long_as_their_rings(tmp_path):
    one, four = 3600 // 2, 4 * 3600 // 2  # ns for 900 and for 3600 numbers at 2 bytes/ns
    expected = [3000 + one, 3000 + one, 3000 + 3 * one, 3000 + 3 * one, 1000 + 3 * one, 1000 + 3 * four // 4]
    found = run_ranks(4, lasting, tmp_path, link=LINK)
    # The host waits for a barrier; while the clock is paused, there is nothing to see.
    assert found == [(expected, "barrier", True, True, True)] * 4


def messages(rank):
    """Both send twice before they receive; then any source, and a batch."""
    clock, seen, device = vgpu.current().clock, Seen(), f"vgpu:{rank}"
    vgpu.current().observers.append(seen)
    clock.streams[rank].wait_until(1_000_000 + 500_000 * rank)
    gone = [dist.isend(torch.full((500,), 10.0 * rank + i, device=device), 1 - rank) for i in range(2)]
    came = [torch.empty(500, device=device) for _ in range(2)]
    coming = [dist.irecv(tensor, 1 - rank) for tensor in came]
    for work in (*coming, *gone):
        work.wait()
    free_ns = clock.streams[rank].free_ns
    times = [(c.name, c.ready_ns, c.start_ns, c.end_ns, c.last_rank) for c in seen.collectives]
    x = torch.full((1,), 7.0, device=device)
    source = dist.recv(x) if rank == 0 else dist.send(x * 3, 0)
    batch = [dist.P2POp(dist.isend, x.clone(), 1 - rank), dist.P2POp(dist.irecv, x, 1 - rank)]
    for work in dist.batch_isend_irecv(batch):
        work.wait()
    return ([tensor[0].item() for tensor in came], times, free_ns, source, x.item())


def test_messages_start_when_both_are_ready(tmp_path):
    found = run_ranks(2, messages, tmp_path, link=LINK)
    assert all(isinstance(one, tuple) for one in found), found
    lasts = 1000 + 2000 // 2
    start = 1_500_000
    for rank, (came, times, free_ns, source, last) in enumerate(found):
        assert came == [10.0 * (1 - rank), 10.0 * (1 - rank) + 1]
        ready = 1_000_000 + 500_000 * rank
        # The fills of what is sent run first on the device, one launch each.
        assert [name for name, *_ in times] == ["recv", "recv", "send", "send"]
        for _, at, begin, end, late in times:
            assert ready <= at < ready + 100_000
            assert late == 1
            assert end - begin == lasts
        for first, second in ((times[0], times[1]), (times[2], times[3])):
            assert first[2] >= start
            assert second[2] >= first[3]
        assert free_ns == max(end for *_, end, _ in times)
        assert (source, last) == ((1, 7.0) if rank == 0 else (None, 21.0))
    assert [time[2:4] for time in found[0][1][:2]] == [time[2:4] for time in found[1][1][2:]]


def differently(rank):
    """One mistake after the other; the group works on after each."""
    device, said = f"vgpu:{rank}", {}
    ones = torch.ones(10, device=device)
    calls = {
        "size": lambda: dist.all_reduce(torch.ones(10 + 2 * rank, device=device)),
        "dtype": lambda: dist.all_reduce(ones.double() if rank == 1 else ones),
        "operator": lambda: dist.broadcast(ones, 0) if rank == 1 else dist.all_reduce(ones),
        "root": lambda: dist.broadcast(ones, rank),
        "reduction": lambda: dist.all_reduce(ones, dist.ReduceOp.MAX if rank == 1 else dist.ReduceOp.SUM),
        "device": lambda: dist.all_reduce(torch.ones(10, device="vgpu:0")),
        "two devices": lambda: dist.all_gather([torch.ones(1)] * 2, torch.ones(1, device=device)),
    }
    for name, call in calls.items():
        with pytest.raises((RuntimeError, ValueError)) as caught:
            call()
        said[name] = str(caught.value)
    dist.all_reduce(ones)
    return said, numbers(ones)


def test_ranks_that_differ_all_learn_of_it_at_once(tmp_path):
    found = run_ranks(2, differently, tmp_path)
    assert all(isinstance(one, tuple) for one in found), found
    for said, ones in found:
        assert (
            "rank 0 calls all_reduce of 10 float32 numbers, SUM; rank 1 calls all_reduce of 12 float32 numbers, SUM."
            in said["size"]
        )
        assert "rank 1 calls all_reduce of 10 float64 numbers, SUM" in said["dtype"]
        assert "rank 1 calls broadcast of 10 float32 numbers, root 0" in said["operator"]
        assert "rank 1 calls broadcast of 10 float32 numbers, root 1" in said["root"]
        assert "rank 1 calls all_reduce of 10 float32 numbers, MAX" in said["reduction"]
        assert "ranks 0 and 1 both use vgpu:0" in said["device"]
        assert "cpu" in said["two devices"]
        assert "vgpu" in said["two devices"]
        assert ones == [2.0] * 10


def wrong_group(rank):
    dist.all_reduce(torch.ones(1, device=f"vgpu:{rank}"))


def test_a_group_without_virtual_gpus_says_how_to_make_one(tmp_path):
    (said,) = run_ranks(1, wrong_group, tmp_path, backend="cpu:gloo")
    assert "this process group is for tensors on cpu, not on virtual GPUs" in said
    assert "cpu:gloo,vgpu:vgloo" in said


def dies(rank):
    dist.all_reduce(torch.ones(1, device=f"vgpu:{rank}"))  # both are connected
    if rank == 1:
        os._exit(1)
    began = time.monotonic()
    try:
        dist.all_reduce(torch.ones(1, device="vgpu:0"))
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    return "nothing", 0.0


def hangs(rank):
    if rank == 1:
        time.sleep(4)
        return None
    began = time.monotonic()
    try:
        dist.all_reduce(torch.ones(1, device="vgpu:0"))
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    return "nothing", 0.0


def test_a_dead_rank_is_noticed_at_once(tmp_path):
    (said, seconds), nothing = run_ranks(2, dies, tmp_path, timeout_s=60)
    assert nothing is None
    assert "onnection" in said
    assert seconds < 20


def test_the_time_out_of_the_group_is_honoured(tmp_path):
    (said, seconds), _ = run_ranks(2, hangs, tmp_path, timeout_s=1)
    assert "imed out" in said or "imeout" in said
    assert 0.9 < seconds < 3.5
