"""Programs as people write them, with `vgpu` where they say `cuda`: each gives what it gives on the CPU, to the bit."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations as parametrizations
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap
from torch.nn.utils import prune
from torch.optim import lr_scheduler, swa_utils
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint_sequential
from torch.utils.data import DataLoader, Dataset

from lab import vgpu

DEVICE = "vgpu:1"
Program = Callable[[str], Any]
PROGRAMS: dict[str, Program] = {}


@pytest.fixture(autouse=True)
def machine() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield vgpu.enable(devices=4)
    torch.set_num_threads(threads)


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


def net_on(device: str, *more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), *more, nn.Linear(8, 3)).to(device)


def batch_on(device: str, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(size, 6, generator=generator), torch.randint(3, (size,), generator=generator)
    return x.to(device), y.to(device)


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def check(run: Program) -> None:
    """The same leaves from the CPU and from a virtual GPU; its tensors lie there."""
    results = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(9)
        results.append(pytree.tree_leaves(run(device)))
    expected, actual = results
    assert len(actual) == len(expected) > 0
    for mine, theirs in zip(actual, expected, strict=True):
        if not isinstance(theirs, Tensor):
            assert mine == theirs
            continue
        assert mine.device.type == "vgpu"
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        torch.testing.assert_close(mine.detach().cpu(), theirs.detach(), rtol=0, atol=0, equal_nan=True)


# -- training -----------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "Adam": {"amsgrad": True}, "AdamW": {}, "Adagrad": {}, "Adadelta": {}, "Adamax": {}, "ASGD": {}, "NAdam": {},
    "RAdam": {}, "RMSprop": {"momentum": 0.9, "centered": True}, "Rprop": {}, "Adafactor": {}, "Muon": {},
    "LBFGS": {"max_iter": 3},
}  # fmt: skip
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")
FLAGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in OPTIMIZERS),
    *((name, {"foreach": flag}) for name in OPTIMIZERS if name not in ("LBFGS", "Muon") for flag in (True, False)),
    *((name, {"fused": True}) for name in FUSED),
]


@pytest.mark.parametrize(("name", "flags"), FLAGS)
def test_every_optimizer(name: str, flags: dict[str, Any]):
    def run(device: str) -> Any:
        net = net_on(device)
        parameters = [p for p in net.parameters() if p.dim() == 2 or name != "Muon"]
        optimizer = getattr(torch.optim, name)(parameters, **OPTIMIZERS[name], **flags)
        x, y = batch_on(device)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.step(closure)
        return list(net.state_dict().values())

    check(run)


@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
def test_capturable_optimizers_which_the_cpu_does_not_have(name: str):
    def run(device: str, **flags: Any) -> Tensor:
        net = net_on(device)
        optimizer = getattr(torch.optim, name)(net.parameters(), **flags)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(batch_on(device)[0]), batch_on(device)[1]).backward()
            optimizer.step()
        return torch.cat([value.reshape(-1).cpu() for value in net.state_dict().values()])

    # Its steps count on the device, and so are rounded elsewhere.
    torch.testing.assert_close(run(DEVICE, capturable=True), run("cpu"), rtol=1e-5, atol=1e-6)


SCHEDULERS: list[Callable[[Any], Any]] = [
    lambda o: lr_scheduler.StepLR(o, 2),
    lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]),
    lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
]


@program
def schedulers(device: str) -> Any:
    results: list[Any] = []
    for make in SCHEDULERS:
        net = net_on(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        scheduler = make(optimizer)
        for _ in range(4):
            loss = F.cross_entropy(net(batch_on(device)[0]), batch_on(device)[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(*[loss.detach()] * isinstance(scheduler, lr_scheduler.ReduceLROnPlateau))
        results += [list(net.state_dict().values()), optimizer.param_groups[0]["lr"]]
    return results


@pytest.mark.parametrize("foreach", [None, True, False])
def test_gradients_are_clipped_across_devices(foreach: bool | None):
    def run(device: str) -> Any:
        second = device.replace("1", "2")
        first_net, second_net = net_on(device), net_on(second)
        x, y = batch_on(device)
        F.cross_entropy(second_net(first_net(x).repeat(1, 2).to(second)), y.to(second)).backward()
        parameters = [*first_net.parameters(), *second_net.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, 0.01, foreach=foreach)
        nn.utils.clip_grad_value_(parameters, 0.001, foreach=foreach)
        return [norm, *(parameter.grad for parameter in parameters)]

    check(run)


@program
def checkpoints_in_sequence(device: str) -> Any:
    net = net_on(device, nn.Dropout(0.5))
    x, y = batch_on(device)
    torch.manual_seed(4)
    F.cross_entropy(checkpoint_sequential(net, 2, x.requires_grad_(), use_reentrant=False), y).backward()
    return x.grad, gradients(net)


@program
def moving_averages_of_weights(device: str) -> Any:
    net = net_on(device, nn.BatchNorm1d(8))
    ema = swa_utils.AveragedModel(net, device=device, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = batch_on(device)
    for _ in range(3):
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        ema.update_parameters(net)
    swa_utils.update_bn([x, x], ema)
    return list(ema.state_dict().values())


@program
def files_old_and_new(device: str) -> Any:
    net = net_on(device)
    optimizer = torch.optim.Adam(net.parameters())
    F.cross_entropy(net(batch_on(device)[0]), batch_on(device)[1]).backward()
    optimizer.step()
    for zipped in (True, False):
        file = io.BytesIO()
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, file, _use_new_zipfile_serialization=zipped)
        file.seek(0)
        loaded = torch.load(file, map_location=device, weights_only=True)
        net.load_state_dict(loaded["net"])
        optimizer.load_state_dict(loaded["optimizer"])
        optimizer.step()
    return list(net.state_dict().values())


@program
def hooks_of_all_kinds(device: str) -> Any:
    seen: list[Any] = []
    net = net_on(device)
    x, y = batch_on(device)
    x.requires_grad_()
    net[0].register_forward_hook(lambda module, inputs, output: output * 2)
    net[2].register_full_backward_pre_hook(lambda module, given: (given[0] * 0.5,))
    net[2].register_full_backward_hook(lambda module, received, given: (received[0] * 3,))
    net[0].weight.register_hook(lambda gradient: gradient * 2)
    net[0].bias.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter.grad.clone()))
    output = net(x)
    output.retain_grad()
    output.grad_fn.register_hook(lambda received, given: seen.append(len(given)))
    F.cross_entropy(output, y).backward()
    return seen, x.grad, output.grad, gradients(net)


# -- data ---------------------------------------------------------------------------------------------------------


class Numbers(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(index)), index


@pytest.mark.parametrize("options", [{}, {"pin_memory": True}, {"pin_memory": True, "num_workers": 2}])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_data_loaders(options: dict[str, Any]):
    def run(device: str) -> Any:
        sums = []
        for x, y in DataLoader(Numbers(), batch_size=4, **options):
            assert x.is_pinned() == y.is_pinned() == ("pin_memory" in options)
            sums.append(x.to(device, non_blocking=True).sum(1) + y.to(device, non_blocking=True))
        return sums

    check(run)


def test_pinned_memory():
    x = torch.arange(4.0)
    pinned = x.pin_memory()
    assert (pinned.is_pinned(), pinned[1:].is_pinned(), x.is_pinned()) == (True, True, False)
    assert pinned.pin_memory() is pinned
    assert torch.equal(pinned, x)
    assert not x.to(DEVICE).is_pinned()


# -- models -------------------------------------------------------------------------------------------------------


@program
def a_transformer(device: str) -> Any:
    torch.manual_seed(0)
    net = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True).to(device)
    source, target = torch.randn(2, 5, 16).to(device), torch.randn(2, 4, 16).to(device)
    padding = torch.tensor([[False, False, False, True, True], [False] * 5]).to(device)
    mask = nn.Transformer.generate_square_subsequent_mask(4, device=torch.device(device))
    output = net(source, target, tgt_mask=mask, src_key_padding_mask=padding, tgt_is_causal=True)
    output.sum().backward()
    return output, gradients(net)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_with_padding_takes_the_fast_path():
    def run(device: str) -> Any:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        net = nn.TransformerEncoder(layer, 2).to(device).eval()
        padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5]).to(device)
        with torch.inference_mode():
            return net(torch.randn(2, 5, 16).to(device), src_key_padding_mask=padding)

    check(run)


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float", "dropout"])
def test_attention(mask: str):
    def run(device: str) -> Any:
        torch.manual_seed(0)
        query, key, value = (torch.randn(2, 4, 6, 8).to(device).requires_grad_() for _ in range(3))
        options: dict[str, Any] = {
            "none": {},
            "causal": {"is_causal": True},
            "bool": {"attn_mask": (torch.rand(6, 6) > 0.3).to(device)},
            "float": {"attn_mask": torch.randn(2, 1, 6, 6).to(device)},
            "dropout": {"dropout_p": 0.5},
        }[mask]
        output = F.scaled_dot_product_attention(query, key, value, **options)
        output.square().sum().backward()
        return output, query.grad, key.grad, value.grad

    check(run)


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings(sparse: bool):
    def run(device: str) -> Any:
        torch.manual_seed(0)
        table, bag = nn.Embedding(10, 4, sparse=sparse).to(device), nn.EmbeddingBag(10, 4, sparse=sparse).to(device)
        optimizer = (torch.optim.SparseAdam if sparse else torch.optim.Adam)([table.weight])
        plain = torch.optim.SGD(bag.parameters(), lr=0.1)
        words = torch.tensor([[1, 2, 0], [4, 1, 9]]).to(device)
        for _ in range(2):
            (table(words).square().sum() + bag(words).square().sum()).backward()
            assert table.weight.grad.is_sparse is sparse
            optimizer.step()
            plain.step()
        return table.weight, bag.weight, table.weight.grad.to_dense()

    check(run)


@program
def sparse_matrices(device: str) -> Any:
    indices, values = torch.tensor([[0, 1], [1, 0]]).to(device), torch.tensor([2.0, 3.0]).to(device)
    with torch.sparse.check_sparse_tensor_invariants(False):
        matrix = torch.sparse_coo_tensor(indices, values, (2, 2))
    return torch.sparse.mm(matrix, torch.ones(2, 2, device=device)), matrix.to_dense(), matrix.coalesce().values()


@pytest.mark.parametrize(
    "change",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        nn.utils.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    ],
)
def test_weights_made_from_others(change: Callable[[nn.Module], Any]):
    def run(device: str) -> Any:
        torch.manual_seed(0)
        net = nn.Linear(4, 4)
        change(net)
        net(torch.ones(2, 4)).sum()  # leaves a graph behind, which holds parameters while they move
        net.to(device)
        net(torch.ones(2, 4, device=device)).square().sum().backward()
        return net.weight, gradients(net)

    check(run)


@program
def layers_that_learn_their_size(device: str) -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2)).to(device)
    output = net(torch.randn(2, 3, 6, 6).to(device))
    output.sum().backward()
    return output, gradients(net)


@program
def losses_with_lengths(device: str) -> Any:
    torch.manual_seed(0)
    logits = torch.randn(10, 2, 5).log_softmax(2).to(device).requires_grad_()
    targets = torch.tensor([[1, 2, 3], [1, 2, 2]]).to(device)
    loss = nn.CTCLoss()(logits, targets, torch.tensor([10, 10]), torch.tensor([3, 2]))
    loss.backward()
    return loss, logits.grad


# -- torch.func ---------------------------------------------------------------------------------------------------


@program
def functions_of_functions(device: str) -> Any:
    def cubes(x: Tensor) -> Tensor:
        return (x**3).sum()

    x = torch.arange(3.0, device=device)
    results = [grad(cubes)(x), hessian(cubes)(x), jacrev(torch.sin)(x), jacfwd(torch.sin)(x), vmap(torch.sin)(x)]
    net = net_on(device)
    parameters = {name: value.detach() for name, value in net.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, parameters, (x[None],)), y[None])

    return results, vmap(grad(loss), in_dims=(None, 0, 0))(parameters, *batch_on(device))


@program
def a_gradient_penalty(device: str) -> Any:
    net = net_on(device)
    x = batch_on(device)[0].requires_grad_()
    (first,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    first.norm().backward()
    return gradients(net)


# -- random numbers -----------------------------------------------------------------------------------------------


@program
def a_generator_of_the_devices_own(device: str) -> Any:
    generator = torch.Generator(device=device).manual_seed(3)
    assert generator.device == torch.device(device)
    assert isinstance(generator, torch.Generator)
    drawn = [
        torch.randn(3, generator=generator, device=device),
        torch.randperm(5, generator=generator, device=device),
        torch.empty(3, device=device).normal_(generator=generator),
        torch.bernoulli(torch.full((4,), 0.5, device=device), generator=generator),
    ]
    state = generator.get_state()
    once = torch.rand(2, generator=generator, device=device)
    generator.set_state(state)
    assert torch.equal(torch.rand(2, generator=generator, device=device), once)
    return drawn, once


def test_a_generator_of_another_device_is_refused():
    generator = torch.Generator(device="vgpu:2")
    with pytest.raises(RuntimeError, match="Expected a generator of vgpu:1 but found one of vgpu:2"):
        torch.randn(3, generator=generator, device="vgpu:1")
    with pytest.raises(RuntimeError, match="Expected a 'vgpu' device type for generator but found 'cpu'"):
        torch.empty(3, device="vgpu:1").normal_(generator=torch.Generator())
    assert isinstance(torch.default_generator, torch.Generator)


# -- several devices, several threads -----------------------------------------------------------------------------


def test_data_parallel():
    def run(device: str) -> list[Tensor]:
        net: nn.Module = net_on(device)
        wrapped = nn.DataParallel(net, device_ids=[0, 1, 2]) if device != "cpu" else net
        wrapped(batch_on(device)[0]).square().sum().backward()
        return [gradient.cpu() for gradient in gradients(net)]

    for actual, expected in zip(run("vgpu:0"), run("cpu"), strict=True):
        torch.testing.assert_close(actual, expected)  # three sums are added up in place of one


def test_threads_train_on_devices_of_their_own():
    nets = [net_on(f"vgpu:{index}") for index in range(4)]
    plain = net_on("cpu")

    def train(net: nn.Module, device: str) -> None:
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(20):
            optimizer.zero_grad()
            x, y = batch_on(device)
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    train(plain, "cpu")
    threads = [threading.Thread(target=train, args=(net, f"vgpu:{index}")) for index, net in enumerate(nets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in nets:
        for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
            assert torch.equal(mine.detach().cpu(), theirs.detach())


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:.*jit.script. is deprecated:DeprecationWarning")
def test_program(name: str):
    check(PROGRAMS[name])
