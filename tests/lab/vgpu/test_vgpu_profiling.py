"""`vgpu.profile()`: what it records, against schedules and counts by hand; and that it leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.modules.module as module_hooks
import torch.optim.optimizer as optimizer_hooks
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lab import vgpu
from lab.errors import DeviceError
from lab.vgpu.machine import Machine
from lab.vgpu.recording import LinkUse, OpSpan, Recording
from tests.lab.vgpu.by_hand import HARDWARE, ISSUE_NS, LATENCY_NS, LAUNCH_NS


def hooks() -> list[int]:
    """How many hooks there are on all modules and optimizers."""
    return [
        len(module_hooks._global_forward_pre_hooks),
        len(module_hooks._global_forward_hooks),
        len(module_hooks._global_forward_hooks_always_called),
        len(optimizer_hooks._global_optimizer_pre_hooks),
        len(optimizer_hooks._global_optimizer_post_hooks),
    ]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Two devices to count with; a test must leave no observer and no hook."""
    before = hooks()
    made = vgpu.enable(devices=2, hardware=HARDWARE)
    yield made
    assert made.observers == []
    assert hooks() == before


def kinds(profile: Recording) -> list[tuple[str, str, str]]:
    return [(span.kind, span.layer, span.name) for span in profile.spans]


def times(profile: Recording) -> list[tuple[int, int, int]]:
    return [(span.issued_ns, span.start_ns, span.end_ns) for span in profile.spans]


def test_times_bytes_and_uses_are_those_of_a_schedule_by_hand(machine: Machine) -> None:
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        y = x + x  # reads 4,000 bytes twice (each argument once), writes 4,000
        z = y.to("vgpu:1")
        z.mul_(2)  # reads 4,000, writes 4,000
        x.add(1)
        torch.vgpu.synchronize()
    add_ns, mul_ns, add_one_ns, copy_ns = LAUNCH_NS + 12_000, LAUNCH_NS + 8_000, LAUNCH_NS + 8_000, LATENCY_NS + 4_000
    copied_ns = ISSUE_NS + add_ns + copy_ns
    assert times(p) == [
        (ISSUE_NS, ISSUE_NS, ISSUE_NS + add_ns),
        (3 * ISSUE_NS, copied_ns, copied_ns + mul_ns),
        (4 * ISSUE_NS, copied_ns, copied_ns + add_one_ns),
    ]
    assert [(copy.source, copy.target, copy.bytes, copy.start_ns, copy.end_ns) for copy in p.transfers] == [
        ("vgpu:0", "vgpu:1", 4_000, ISSUE_NS + add_ns, copied_ns)
    ]
    assert [(span.device, span.stream, span.name, span.bytes) for span in p.spans] == [
        ("vgpu:0", 0, "add", 12_000),
        ("vgpu:1", 0, "mul_", 8_000),
        ("vgpu:0", 0, "add", 8_000),
    ]
    assert p.length_ns == p.host_ns == copied_ns + mul_ns
    first, second = p.use("vgpu:0"), p.use("vgpu:1")
    assert (first.busy_ns, first.copying_ns, first.idle_ns) == (add_ns + add_one_ns, copy_ns, ISSUE_NS)
    assert (second.busy_ns, second.copying_ns, second.idle_ns) == (mul_ns, copy_ns, ISSUE_NS + add_ns)
    assert p.busy("vgpu:1") == pytest.approx(mul_ns / (copied_ns + mul_ns))
    assert p.links() == [LinkUse("vgpu:0", "vgpu:1", 1, 4_000, copy_ns)]
    assert [first.peak_bytes, second.peak_bytes] == [4_000 * 3, 4_000]  # x, y and x + 1


def test_work_on_two_streams_counts_once_where_it_overlaps_a_copy(machine: Machine) -> None:
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        with torch.vgpu.stream(torch.vgpu.Stream()):
            x.to("cpu", non_blocking=True)  # issued at 2 µs, until 2 + 3 + 4
        x.add(1)  # issued at 4 µs, until 4 + 9
    assert [(copy.source_stream, copy.start_ns, copy.end_ns) for copy in p.transfers] == [(1, 2_000, 9_000)]
    assert [(span.stream, span.start_ns, span.end_ns) for span in p.spans] == [(0, 4_000, 13_000)]
    use = p.use("vgpu:0")
    assert (use.busy_ns, use.copying_ns, use.idle_ns, p.length_ns) == (9_000, 2_000, 2_000, 13_000)
    assert p.links() == [LinkUse("vgpu:0", "cpu", 1, 4_000, 7_000)]


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x) + 1)


def test_every_operation_has_a_kind_and_a_layer(machine: Machine) -> None:
    net = Branch().to("vgpu:0")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, foreach=False)
    x = torch.ones(3, 4, device="vgpu:0")
    with vgpu.profile() as p:
        loss = net(x).square().sum()
        loss.backward()
        optimizer.step()
        torch.ones(3, device="vgpu:0")
    expected_flops = 2 * 3 * 4 * 8
    assert (p.spans[0].flops, p.spans[1].flops) == (expected_flops, 0)
    assert kinds(p)[:6] == [
        ("forward", "body.0", "addmm"),
        ("forward", "body.1", "relu"),
        ("forward", "Branch", "add"),
        ("forward", "head", "mm"),
        ("forward", "", "pow"),
        ("forward", "", "sum"),
    ]
    backward = [span for span in p.spans if span.kind == "backward"]
    # In the order in which the layers ran, from the last to the first; the bias's gradient is a sum over the batch.
    turns = [span.layer for span in backward]
    assert [layer for at, layer in enumerate(turns) if layer != turns[at - 1]] == ["", "head", "body.1", "body.0"]
    assert {span.node for span in backward if span.layer == "head"} == {"MmBackward0"}
    assert {span.node for span in backward if span.layer == "body.0"} == {"AddmmBackward0"}
    assert [span.kind for span in p.spans[-4:]] == ["optimizer"] * 3 + ["other"]  # three parameters
    assert {span.kind for span in p.spans} == {"forward", "backward", "optimizer", "other"}


def test_gradients_that_are_added_up_belong_to_the_parameters_layer(machine: Machine) -> None:
    net = Branch().to("vgpu:0")
    x = torch.ones(3, 4, device="vgpu:0")
    net(x).sum().backward()
    with vgpu.profile() as p:
        net(x).sum().backward()
    added = [span.layer for span in p.spans if span.node == "AccumulateGrad"]
    assert sorted(added) == ["body.0", "body.0", "head"]


def test_what_a_checkpoint_computes_again_is_forward_of_its_layer(machine: Machine) -> None:
    net = Branch().to("vgpu:0")
    x = torch.ones(3, 4, device="vgpu:0", requires_grad=True)
    with vgpu.profile() as p:
        checkpoint(net, x, use_reentrant=False).sum().backward()
    assert [span.layer for span in p.spans if span.name == "relu" and span.kind == "forward"] == ["body.1"] * 2
    assert {span.layer for span in p.spans if span.kind == "backward"} >= {"body.0", "head"}


def test_a_closure_of_an_optimizer_is_forward_and_backward(machine: Machine) -> None:
    net = Branch().to("vgpu:0")
    x = torch.ones(3, 4, device="vgpu:0")
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), torch.zeros(3, 2, device="vgpu:0"))
        loss.backward()
        return loss

    with vgpu.profile() as p:
        optimizer.step(closure)
    by_kind = {kind: {span.name for span in p.spans if span.kind == kind} for kind in ("forward", "optimizer")}
    assert {"addmm", "mse_loss"} <= by_kind["forward"]
    assert "dot" in by_kind["optimizer"]
    assert not {"addmm", "mse_loss"} & by_kind["optimizer"]


def test_an_optimizer_step_that_failed_is_over(machine: Machine) -> None:
    net = nn.Linear(2, 2).to("vgpu:0")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def refuse() -> float:
        raise ArithmeticError

    with vgpu.profile() as p:
        with pytest.raises(ArithmeticError):
            optimizer.step(refuse)
        with torch.no_grad():
            torch.ones(2, device="vgpu:0").mul_(2)
    assert {span.kind for span in p.spans} == {"other"}


def test_a_module_that_raised_is_over(machine: Machine) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3)).to("vgpu:0")
    with vgpu.profile() as p:
        with pytest.raises(RuntimeError):
            net(torch.ones(2, 2, device="vgpu:0"))
        (torch.ones(2, device="vgpu:0", requires_grad=True) * 2).sum()
    assert kinds(p)[-2:] == [("forward", "", "mul"), ("forward", "", "sum")]


def test_memory_is_told_from_the_profiles_beginning(machine: Machine) -> None:
    net = nn.Linear(10, 10, bias=False).to("vgpu:0")  # 400 bytes
    x = torch.ones(5, 10, device="vgpu:0")  # 200 bytes
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        y = net(x)  # 200 bytes, when it is issued
        y.sum().backward()
    points = p.memory["vgpu:0"]
    assert (points[0].at_ns, points[0].total) == (0, 600)
    assert points[0].by_purpose["parameters"] == 400
    assert (points[1].at_ns, points[1].by_purpose["activations"]) == (ISSUE_NS, 200)
    assert points[-1].by_purpose["gradients"] == 400
    assert max(point.total for point in p.memory["vgpu:1"]) == 0


def test_watching_changes_neither_times_nor_results() -> None:
    def train(watched: bool) -> tuple[int, torch.Tensor]:
        torch.manual_seed(0)
        machine = vgpu.enable(devices=2, hardware="a100")
        first, second = nn.Linear(8, 8).to("vgpu:0"), nn.Linear(8, 1).to("vgpu:1")
        profile = vgpu.profile()
        if watched:
            profile.__enter__()
        second(first(torch.ones(4, 8, device="vgpu:0")).to("vgpu:1")).sum().backward()
        if watched:
            profile.__exit__(None, None, None)
        return machine.clock.now_ns, first.weight.grad.cpu()

    (plain_ns, plain), (watched_ns, watched) = train(False), train(True)
    assert plain_ns == watched_ns
    assert torch.equal(plain, watched)


# -- how it is used -----------------------------------------------------------------------------------------------


def test_nested_profiles_see_the_same(machine: Machine) -> None:
    x = torch.ones(10, device="vgpu:0")
    with vgpu.profile() as outer:
        x.add(1)
        with vgpu.profile() as inner:
            nn.Identity()(x).mul(2)
        x.sub(1)
    assert [span.name for span in outer.spans] == ["add", "mul", "sub"]
    assert [span.name for span in inner.spans] == ["mul"]
    assert inner.spans[0].issued_ns == ISSUE_NS
    assert outer.length_ns > inner.length_ns


def test_a_profile_begun_inside_a_module_knows_what_is_called_from_there(machine: Machine) -> None:
    inner: list[Recording] = []

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with vgpu.profile() as p:
                y = self.layer(x)
            inner.append(p)
            return y * 2

    with vgpu.profile() as p:
        Outer().to("vgpu:0")(torch.ones(1, 2, device="vgpu:0"))
    assert kinds(inner[0]) == [("forward", "Linear", "addmm")]
    assert kinds(p)[-2:] == [("forward", "layer", "addmm"), ("forward", "Outer", "mul")]


def test_an_exception_ends_the_profile_and_goes_on(machine: Machine) -> None:
    p = vgpu.profile()

    def fail() -> None:
        with p:
            torch.ones(3, device="vgpu:0")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [span.name for span in p.spans] == ["fill_"]  # with ones
    assert p.notes == ["The code ended with ZeroDivisionError; what came before it is here."]
    assert p.notes[0] in repr(p)
    torch.ones(3, device="vgpu:0")
    assert len(p.spans) == 1


def test_threads_are_told_apart(machine: Machine) -> None:
    nets = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()).to(f"vgpu:{index}") for index in range(2)]
    inside = threading.Barrier(2)

    def work(index: int) -> None:
        def wait(*_: object) -> None:
            inside.wait(10)

        nets[index][0].register_forward_hook(wait)  # both are inside of their nets at one time
        nets[index](torch.ones(2, 4, device=f"vgpu:{index}")).sum().backward()

    with vgpu.profile() as p:
        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for device in p.devices:
        own = [span for span in p.spans if span.device == device]
        assert [(span.kind, span.layer) for span in own if span.layer][:2] == [("forward", "0"), ("forward", "1")]
        assert [span.layer for span in own if span.kind == "backward" and span.layer][-1] == "0"


def test_enable_inside_leaves_the_new_devices_out(machine: Machine) -> None:
    with vgpu.profile() as p:
        torch.ones(3, device="vgpu:0")
        new = vgpu.enable(devices=3, hardware=HARDWARE)
        torch.zeros(3, device="vgpu:2")
    assert [span.name for span in p.spans] == ["fill_"]  # with ones
    assert p.devices == ("vgpu:0", "vgpu:1")
    assert any("enable() was called inside" in note for note in p.notes)
    assert new.observers == []


def test_a_long_program_is_recorded_up_to_a_point(machine: Machine) -> None:
    x = torch.zeros(1_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile(max_spans=3) as p:
        for _ in range(10):
            x.mul_(2)
    mul_ns = LAUNCH_NS + 8_000
    assert (len(p.spans), p.left_out) == (3, 7)
    assert p.length_ns == ISSUE_NS + 3 * mul_ns
    assert p.busy("vgpu:0") == pytest.approx(3 * mul_ns / p.length_ns)
    assert "Recording stopped after 3 operations and transfers; 7 more are left out" in repr(p)
    assert all(point.at_ns <= p.length_ns for point in p.memory["vgpu:0"])


def test_a_profile_in_which_nothing_ran(machine: Machine) -> None:
    with vgpu.profile() as p:
        pass
    assert (p.spans, p.transfers, p.length_ns, p.busy("vgpu:0"), p.links()) == ([], [], 0, 0.0, [])
    assert "2 x a GPU to count with" in repr(p)


def test_the_tables_say_what_was_counted(machine: Machine) -> None:
    x = torch.zeros(1_000_000, device="vgpu:0")
    torch.vgpu.synchronize()
    with vgpu.profile() as p:
        x.to("vgpu:1").mul_(2)
    lines = [line.split("  ") for line in p.summary().splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    # 4 MB take 4,003 µs on the link and 8,001 µs to double; 2 µs to issue the copy.
    assert ["vgpu:1", "8.00 ms (67%)", "4.00 ms (33%)", "2.00 µs (0%)", "1", "0", "4.0 MB"] in cells
    assert ["vgpu:0", "vgpu:1", "1", "4.0 MB", "4.00 ms"] in cells
    assert "simulated" in p.summary()
    html = p._repr_html_()
    assert html.count("<table") == html.count("</table>") == 2
    assert "8.00 ms (67%)" in html


@pytest.mark.parametrize("limit", [0, -1])
def test_a_profile_of_nothing_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"max_spans={limit} would record nothing: give at least 1"):
        vgpu.profile(max_spans=limit)


def test_a_profile_is_used_once(machine: Machine) -> None:
    p = vgpu.profile()
    assert "has recorded nothing yet" in repr(p)
    assert "has recorded nothing yet" in p._repr_html_()
    with pytest.raises(DeviceError, match="none: it has not begun"):
        p.busy("vgpu:0")
    with p:
        pass
    with pytest.raises(RuntimeError, match="this profile has been used"), p:
        pass
    with pytest.raises(DeviceError, match="'vgpu:7' is not among this profile's devices: vgpu:0, vgpu:1"):
        p.use("vgpu:7")


def test_spans_are_plain_values() -> None:
    span = OpSpan("vgpu:0", 0, "add", "forward", "", "", 0, 1, 2, 3, 4)
    assert span == OpSpan("vgpu:0", 0, "add", "forward", "", "", 0, 1, 2, 3, 4)
    assert not hasattr(span, "__dict__")
