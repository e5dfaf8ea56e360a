"""Answers to the exercise of notebook 07: each is a class with the two functions."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch

from tests.lab.exercises.answers import right, wrong

Path_ = Any
Net = Any
Optimizer = Any


def both(made: Any, devices: tuple[str, ...]) -> tuple[Any, ...]:
    return made.save, made.load


class States:
    """The course's own way, for others to change."""

    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> Any:
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> Any:
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        return saved["step"]


right("07-resume", parts=both)(States)


@right("07-resume", parts=both)
class Pickled:
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        with open(path, "wb") as file:
            pickle.dump((net.state_dict(), optimizer.state_dict(), torch.tensor(step)), file)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> torch.Tensor:
        with open(path, "rb") as file:
            states = pickle.load(file)
        for target, state in zip((net, optimizer), states[:2], strict=True):
            target.load_state_dict(state)
        return states[2]


@right("07-resume", parts=both)
class WholeObjects:
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        torch.save([net, optimizer, step], path)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        old_net, old_optimizer, step = torch.load(path, weights_only=False)
        with torch.no_grad():
            for mine, old in zip(net.parameters(), old_net.parameters(), strict=True):
                mine.copy_(old)
            for mine, old in zip(net.buffers(), old_net.buffers(), strict=True):
                mine.copy_(old)
        optimizer.load_state_dict(old_optimizer.state_dict())
        return step


@right("07-resume", parts=both)
class SeveralFiles:
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        torch.save(net.state_dict(), path)
        torch.save(optimizer.state_dict(), path + ".optimizer")
        path.with_suffix(".json").write_text(json.dumps({"step": step}))

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        net.load_state_dict(torch.load(path))
        optimizer.load_state_dict(torch.load(path + ".optimizer"))
        return json.loads(path.with_suffix(".json").read_text())["step"]


@right("07-resume", parts=both)
class TheStepAsWell:
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> Any:
        torch.save({"optimizer": optimizer.state_dict(), "step": float(step), **net.state_dict()}, f"{path}.tmp")
        return Path(f"{path}.tmp").rename(path)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> float:
        saved = torch.load(str(path))
        optimizer.load_state_dict(saved.pop("optimizer"))
        step = saved.pop("step")
        net.load_state_dict(saved)
        return step


@wrong("07-resume", "is empty: 0 bytes", parts=both)
class KeptInAVariable(States):
    kept: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        KeptInAVariable.kept.update(copy.deepcopy(state))
        open(path, "w").close()

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        net.load_state_dict(KeptInAVariable.kept["net"])
        optimizer.load_state_dict(KeptInAVariable.kept["optimizer"])
        return KeptInAVariable.kept["step"]


@wrong("07-resume", "load runs in a new process", outcome="raised", parts=both)
class KeptBesideAFile(States):
    kept: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        States.save(path, net, optimizer, step)
        KeptBesideAFile.kept["optimizer"] = copy.deepcopy(optimizer.state_dict())

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(KeptBesideAFile.kept["optimizer"])
        return saved["step"]


@wrong("07-resume", "the optimizer has a memory of the steps before, momentum_buffer, and it is lost", parts=both)
class WithoutTheOptimizer(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        return saved["step"]


@wrong("07-resume", "the new net still has the parameters with which it was made", parts=both)
class WithoutTheNet(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        saved = torch.load(path)
        optimizer.load_state_dict(saved["optimizer"])
        return saved["step"]


@wrong("07-resume", "the new net still has the parameters with which it was made", parts=both)
class IntoNamesOfItsOwn(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        torch.save((net, optimizer, step), path)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        net, optimizer, step = torch.load(path, weights_only=False)
        optimizer.zero_grad()
        net.train()
        return step


@wrong("07-resume", "running_mean, 1.running_var, 1.num_batches_tracked of the net are not as when", parts=both)
class ParametersOnly(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        torch.save((list(net.parameters()), optimizer.state_dict(), step), path)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        parameters, state, step = torch.load(path)
        for mine, old in zip(net.parameters(), parameters, strict=True):
            mine.data.copy_(old)
        optimizer.load_state_dict(state)
        return step


@wrong("07-resume", "bias of the net is not as when save was called", parts=both)
class WeightsOnly(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        saved = torch.load(path)
        net.load_state_dict({name: value for name, value in saved["net"].items() if "bias" not in name}, strict=False)
        optimizer.load_state_dict(saved["optimizer"])
        return saved["step"]


@wrong("07-resume", "the optimizer's lr is 0.05, and it was 0.01", parts=both)
class WithoutTheRate(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        lr = optimizer.param_groups[0]["lr"]
        step = States.load(path, net, optimizer)
        optimizer.param_groups[0]["lr"] = lr
        return step


@wrong("07-resume", "the optimizer no longer updates this net's parameters", parts=both)
class NewParameters(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        step = States.load(path, net, optimizer)
        for module in net.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone()))
        return step


@wrong("07-resume", "save was given step 3, and load returns 4 as the step to go on with", parts=both)
class TheNextStep(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        States.save(path, net, optimizer, step + 1)


@wrong("07-resume", "save was given step 3, and load returns 0 as the step", parts=both)
class FromTheBeginning(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        States.load(path, net, optimizer)
        return 0


@wrong("07-resume", "save was given step 5, and load returns 3", parts=both)
class AlwaysThree(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        States.load(path, net, optimizer)
        return 3


@wrong("07-resume", "From load, the step to go on with is asked for, and this is None", parts=both)
class NoStep(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> None:
        States.load(path, net, optimizer)


@wrong("07-resume", "there is no file at the path that it is given, checkpoint0.pt", parts=both)
class NoFile(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> Any:
        return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}


@wrong("07-resume", "There is mine.pt in the folder in which Python runs", parts=both)
class AnotherPath(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        States.save("mine.pt", net, optimizer, step)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        return States.load("mine.pt", net, optimizer)


@wrong("07-resume", "load returns 5: that of the other file, 5", parts=both)
class OneFileForAll(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        path.touch()
        path.write_text("see the folder above")
        States.save(path.parent.parent / "all.pt", net, optimizer, step)

    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        saved = torch.load(path.parent.parent / "all.pt")
        if net.state_dict().keys() == saved["net"].keys():
            net.load_state_dict(saved["net"])
        return saved["step"]


@wrong("07-resume", "FileNotFoundError", outcome="raised", parts=both)
class ReadsAnotherFile(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        return States.load(path + ".pt", net, optimizer)


@wrong("07-resume", "KeyError: 'optimizer'", outcome="raised", parts=both)
class ReadsWhatIsNotThere(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        torch.save({"net": net.state_dict(), "step": step}, path)


@wrong("07-resume", "weight, bias of the net are not as when save was called", parts=both)
class HalfPrecision(States):
    @staticmethod
    def save(path: Path_, net: Net, optimizer: Optimizer, step: int) -> None:
        States.save(path, copy.deepcopy(net).half(), optimizer, step)


@wrong("07-resume", "the optimizer's momentum_buffer is not", parts=both)
class ZeroMomentum(States):
    @staticmethod
    def load(path: Path_, net: Net, optimizer: Optimizer) -> int:
        step = States.load(path, net, optimizer)
        for state in optimizer.state.values():
            state["momentum_buffer"].zero_()
        return step
