"""One device: the loop that every PyTorch tutorial begins with, and the yardstick for all the others."""

from __future__ import annotations

from torch import Tensor

from lab.strategies.base import Job, evaluating, layer_hooks, loss_function, make_optimizer, transfer


class Single:
    """The whole net on one device."""

    def __init__(self, job: Job) -> None:
        self.device = job.experiment.devices[0]
        self.recorder = job.recorder
        self.enter = job.enter
        self.net = job.net.to(self.device)
        self.optimizer = make_optimizer(job.experiment, self.net)
        self.hooks = layer_hooks(job)

    def train_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        recorder, hooks = self.recorder, self.hooks
        inputs = transfer(inputs, self.device, recorder)
        targets = transfer(targets, self.device, recorder)

        self.enter("forward")
        self.optimizer.zero_grad()
        hooks.start_forward()
        loss = loss_function(self.net(inputs), targets)
        self.enter("backward")
        hooks.start_backward()
        loss.backward()
        self.enter("update")
        with recorder.span("optimizer", [self.device], "optimizer"):
            self.optimizer.step()
        return loss.detach()

    def predict(self, inputs: Tensor) -> Tensor:
        with evaluating(self.net):
            output: Tensor = self.net(inputs.to(self.device))
        return output


STRATEGY = Single
