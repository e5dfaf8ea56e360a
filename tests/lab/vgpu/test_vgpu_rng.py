"""Random numbers on virtual GPUs: those of the CPU, and a state of seed and offset that says what is drawn."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lab import vgpu
from lab.vgpu import mersenne

DEVICE = "vgpu:1"
LSTM = nn.LSTM(4, 4, 2, dropout=0.5)


@pytest.fixture(autouse=True)
def devices():
    vgpu.enable(devices=3)
    torch.manual_seed(0)


def equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.cpu(), b.cpu())


def offset(index: int = 1) -> int:
    return int(torch.vgpu.get_rng_state(index).view(torch.int64)[1])


def moved(state: Tensor, by: int) -> Tensor:
    further = state.clone()
    further.view(torch.int64)[1] += by
    return further


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {  # of 1,000 ones
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout in place": lambda x: F.dropout(x.clone(), 0.5, inplace=True),
    "native dropout": lambda x: torch.native_dropout(x, 0.5, True)[0],
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.5, True),
    "feature alpha dropout": lambda x: F.feature_alpha_dropout(x.view(10, 100), 0.5, True),
    "dropout of channels": lambda x: F.dropout2d(x.view(10, 10, 10, 1), 0.5),
    "bernoulli": lambda x: torch.bernoulli(x * 0.5),
    "multinomial": lambda x: torch.multinomial(x, 20),
    "permutation": lambda x: torch.randperm(50, device=x.device),
    "normal": lambda x: x.clone().normal_(),
    "three normal": lambda x: torch.randn(3, device=x.device),
    "normal of each": lambda x: torch.normal(x, x),
    "normal of numbers": lambda x: torch.normal(0.0, 1.0, (20,), device=x.device),
    "doubles": lambda x: torch.rand(9, dtype=torch.float64, device=x.device),
    "uniform": lambda x: x.clone().uniform_(),
    "exponential": lambda x: x.clone().exponential_(),
    "like": torch.rand_like,
    "integers": lambda x: torch.randint(9, (20,), device=x.device),
    "into": lambda x: torch.rand(20, out=torch.empty(20, device=x.device)),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.view(1, 10, 10, 10)] * 3, dropout_p=0.5),
    "rrelu": lambda x: F.rrelu(-x, training=True),
    "poisson": lambda x: torch.poisson(x * 4),
    "binomial": lambda x: torch.binomial(x * 4, x * 0.5),
    "gamma": torch._standard_gamma,
    "cauchy": lambda x: x.clone().cauchy_(),
    "lstm": lambda x: copy.deepcopy(LSTM).to(x.device)(x[:40].view(5, 2, 4))[0],
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_drawn_follows_from_the_state(name: str):
    x, draw = torch.ones(1000, device=DEVICE), DRAWS[name]
    torch.manual_seed(5)
    expected = draw(torch.ones(1000))
    torch.manual_seed(5)
    assert equal(draw(x), expected)  # with the CPU's own generator

    torch.manual_seed(8)
    expected = draw(torch.ones(1000))
    torch.vgpu.manual_seed_all(8)
    assert equal(draw(x), expected)  # with numbers of the device's own

    for state in (torch.vgpu.get_rng_state(1), moved(torch.vgpu.get_rng_state(1), 4000)):
        torch.vgpu.set_rng_state(state, 1)
        first, between, second = draw(x), torch.vgpu.get_rng_state(1), draw(x)
        torch.rand(3)
        torch.vgpu.set_rng_state(state, 1)
        assert equal(draw(x), first)
        torch.vgpu.set_rng_state(between, 1)
        assert equal(draw(x), second)
        assert not equal(first, second)


def test_a_state_is_a_seed_and_an_offset_that_grows_with_what_is_drawn():
    torch.manual_seed(1234)
    state = torch.vgpu.get_rng_state(1)
    assert (state.dtype, state.device.type, state.view(torch.int64).tolist()) == (torch.uint8, "cpu", [1234, 0])
    offsets = []
    for count in (1, 100, 1_500_000):
        torch.rand(count, device=DEVICE)
        offsets.append(offset())
    assert offsets == [2 * mersenne.STRIDE * count for count in (1, 101, 1_500_101)]
    assert all(found % 4 == 0 for found in offsets)
    torch.vgpu.set_rng_state(moved(state, 400), 1)
    torch.rand(10, device=DEVICE)
    assert offset() == 412  # 10, rounded up to a multiple of 4
    torch.manual_seed(-1)
    assert torch.vgpu.get_rng_state(1).view(torch.int64).tolist() == [-1, 0]  # all bits, as on CUDA


def test_a_state_says_in_another_process_what_is_drawn():
    torch.manual_seed(3)
    torch.rand(700), torch.randn(3)  # of which one number more is kept
    states = [torch.vgpu.get_rng_state(1), moved(torch.vgpu.get_rng_state(1), 64)]
    program = f"""
import torch
from lab import vgpu
vgpu.enable(devices=1)
torch.rand(5)
for state in {[state.tolist() for state in states]}:
    torch.vgpu.set_rng_state(torch.tensor(state, dtype=torch.uint8))
    print(torch.randn(5, device="vgpu:0").tolist() + torch.rand(40, device="vgpu:0").tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    expected = []
    for state in states:
        torch.vgpu.set_rng_state(state, 1)
        expected.append(torch.randn(5, device=DEVICE).tolist() + torch.rand(40, device=DEVICE).tolist())
    assert done.stdout.splitlines() == [str(numbers) for numbers in expected], done.stderr


# -- following the CPU --------------------------------------------------------------------------------------------


def interleaved(device: str, between: Callable[[], None]) -> list[Tensor]:
    """Numbers drawn on the CPU and on the device by turns, before and after something that draws and puts back."""
    torch.manual_seed(2)
    numbers = [torch.rand(3), torch.rand(3, device=device)]
    between()
    return [*numbers, torch.rand(3), torch.rand(3, device=device), torch.randn(3), torch.randn(3, device=device)]


def forked(device: str) -> None:
    with torch.random.fork_rng([device] if device != "cpu" else [], device_type="vgpu"):
        torch.manual_seed(9)
        torch.rand(2), torch.rand(2, device=device)


def forked_and_set(device: str) -> None:
    with torch.random.fork_rng([device] if device != "cpu" else [], device_type="vgpu"):
        torch.manual_seed(77)
        torch.rand(2, device=device)
        with torch.random.fork_rng([device] if device != "cpu" else [], device_type="vgpu"):
            torch.rand(2, device=device)


def gone_on(device: str, *, cpu_first: bool) -> None:
    """As a program that saved its states, and sets them after it was started again."""
    states = torch.get_rng_state(), torch.vgpu.get_rng_state(device if device != "cpu" else 0)
    torch.manual_seed(4)
    torch.rand(3), torch.rand(3, device=device)
    if cpu_first:
        torch.set_rng_state(states[0])
    if device != "cpu":
        torch.vgpu.set_rng_state(states[1], device)
    torch.set_rng_state(states[0]) if not cpu_first else None


def checkpointed(device: str, *, reentrant: bool) -> None:
    def block(x: Tensor) -> Tensor:
        order = torch.randperm(50)
        return F.dropout(x, 0.5) * 3 * F.dropout(order.float(), 0.5).sum().item()

    x = torch.ones(50, device=device, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=reentrant)
    torch.rand(7), torch.rand(7, device=device)
    y.sum().backward()
    assert equal(x.grad, y.detach())


@pytest.mark.parametrize(
    "between",
    [
        lambda device: None,
        forked,
        forked_and_set,
        lambda device: gone_on(device, cpu_first=True),
        lambda device: gone_on(device, cpu_first=False),
        lambda device: checkpointed(device, reentrant=True),
        lambda device: checkpointed(device, reentrant=False),
    ],
)
def test_what_is_put_back_follows_the_cpu_again(between: Callable[[str], None]):
    expected = interleaved("cpu", lambda: between("cpu"))
    found = interleaved(DEVICE, lambda: between(DEVICE))
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))


def test_seeding_in_the_ways_of_scripts_follows_the_cpu():
    def numbers(device: str) -> list[Tensor]:
        return [torch.rand(3), torch.rand(3, device=device), torch.rand(3)]

    torch.manual_seed(6)
    expected = numbers("cpu")
    for seeds in ((torch.manual_seed, torch.vgpu.manual_seed_all), (torch.vgpu.manual_seed_all, torch.manual_seed)):
        for seed in seeds:
            seed(6)
        assert all(equal(a, b) for a, b in zip(numbers(DEVICE), expected, strict=True))
    torch.vgpu.manual_seed_all(11)
    assert torch.seed() == torch.vgpu.initial_seed() == torch.initial_seed()


def test_a_state_that_was_set_does_not_hang_on_the_cpu():
    """Ranks that are given one state draw the same, whatever their CPUs have drawn and go on to draw."""
    torch.manual_seed(7)
    torch.rand(5)
    state = torch.vgpu.get_rng_state(1)
    found = []
    for count in (0, 3, 8):
        torch.manual_seed(7)
        torch.rand(5)
        torch.vgpu.set_rng_state(state, 1)
        drawn = [torch.rand(4, device=DEVICE)]
        torch.rand(count)
        found.append(torch.cat([*drawn, torch.randn(3, device=DEVICE), torch.rand(4, device=DEVICE)]))
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_draws_again_what_a_device_of_its_own_has_drawn(reentrant: bool):
    torch.vgpu.manual_seed_all(8)
    checkpointed(DEVICE, reentrant=reentrant)


# -- devices and generators ---------------------------------------------------------------------------------------


def test_devices_that_are_seeded_alike_draw_alike_each_for_itself():
    torch.vgpu.manual_seed_all(8)
    first = [torch.rand(4, device=f"vgpu:{index}") for index in range(3)]
    assert equal(first[0], first[1])
    assert equal(first[0], first[2])
    with torch.vgpu.device(1):
        torch.vgpu.manual_seed(9)
        assert torch.vgpu.initial_seed() == 9
    assert [torch.vgpu.default_generators[index].initial_seed() for index in range(3)] == [8, 9, 8]
    assert not equal(torch.rand(4, device="vgpu:0"), torch.rand(4, device="vgpu:1"))
    state = torch.vgpu.get_rng_state_all()
    torch.rand(4, device="vgpu:0")
    assert torch.equal(torch.vgpu.get_rng_state(1), state[1])


def test_generators_as_on_cuda():
    made = torch.Generator(DEVICE).manual_seed(4)
    torch.rand(5, device=DEVICE, generator=made)
    others = [made.clone_state(), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)]
    drawn = torch.rand(3, device=DEVICE, generator=made)
    assert all(equal(torch.rand(3, device=DEVICE, generator=other), drawn) for other in others)
    assert (made.initial_seed(), made.get_offset() % 4, made.device) == (4, 0, torch.device(DEVICE))
    made.set_offset(8)
    assert made.get_state().view(torch.int64).tolist() == [4, 8]
    drawn = F.rrelu(-torch.ones(99, device=DEVICE), training=True), torch.poisson(torch.ones(9, device=DEVICE), made)
    made.set_offset(8)
    assert equal(torch.poisson(torch.ones(9, device=DEVICE), made), drawn[1])
    assert made.seed() == made.initial_seed() != 4

    default = torch.vgpu.default_generators[1]
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    assert equal(torch.rand(4, device=DEVICE, generator=default), expected)
    shared = torch.Generator(DEVICE).manual_seed(6)
    kept = default.graphsafe_get_state()
    default.graphsafe_set_state(shared)
    first = torch.rand(4, device=DEVICE)
    default.graphsafe_set_state(kept)
    assert equal(first, torch.rand(4, device=DEVICE, generator=shared.manual_seed(6)))
    assert equal(torch.rand(4, device=DEVICE), torch.manual_seed(5) and torch.rand(8)[4:])


def test_what_is_no_state_is_refused():
    with pytest.raises(RuntimeError, match="a virtual GPU's has 16 bytes, of seed and offset, but got 5056"):
        torch.vgpu.set_rng_state(torch.get_rng_state())
    with pytest.raises(TypeError, match=r"must be a torch.ByteTensor on the CPU, but got torch.float32 on cpu"):
        torch.vgpu.set_rng_state(torch.zeros(16))
    with pytest.raises(RuntimeError, match="has the offset 7, which is no multiple of 4"):
        torch.vgpu.set_rng_state(torch.tensor([1, 7]).view(torch.uint8))
    with pytest.raises(RuntimeError, match="offset must be a multiple of 4, but it is 6"):
        torch.vgpu.default_generators[0].set_offset(6)
    with pytest.raises(RuntimeError, match="Expected a generator of vgpu:1 but found one of vgpu:2"):
        torch.poisson(torch.ones(3, device=DEVICE), torch.Generator("vgpu:2"))


def test_a_state_to_which_no_seed_leads_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mersenne, "_LIMIT", 10_000)
    state = torch.manual_seed(5).get_state()
    state.view(torch.int64)[0] = 99  # the seed, as the CPU's generator keeps it
    torch.set_rng_state(state)
    with pytest.raises(RuntimeError, match=r"a state to which its seed does not lead: seed it with torch\.manual_seed"):
        torch.vgpu.get_rng_state()
