"""Answers to the exercises of notebook 01."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.lab.exercises.answers import right, wrong

# -- 01-mend, right --------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """The course's own, with the parts in which answers differ left open."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.end(self.fc2(F.relu(self.fc1(x.flatten(1)))))

    def end(self, x: Tensor) -> Any:
        return x


@right("01-mend")
class RawScores(Net):
    pass


@right("01-mend")
class PoolsAfterRelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc2(self.fc1(x.view(-1, 320)).relu())


@right("01-mend")
class Sequential(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@right("01-mend")
def a_function_that_makes_it() -> nn.Module:
    return Sequential().layers


@right("01-mend", parts=lambda made, devices: (made(),))
def the_net_itself() -> nn.Module:
    return Net().eval()


@right("01-mend")
class LayersInAnotherOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(50, 10)
        self.hide = nn.LazyLinear(50)
        self.see = nn.ModuleList([nn.Conv2d(10, 20, (5, 5)), nn.Conv2d(1, 10, 5)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(nn.MaxPool2d(2)(self.see[1](x)), min=0)
        x = torch.maximum(nn.MaxPool2d(2)(self.see[0](x)), torch.tensor(0.0))
        x = self.hide(torch.reshape(x, (x.size(0), -1)))
        return self.read(x * (x > 0))


@right("01-mend")
class Double(Net):
    def __init__(self) -> None:
        super().__init__()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double())


@right("01-mend")
class ParametersOfItsOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(10, 1, 5, 5)), nn.Parameter(torch.zeros(10))
        self.w2, self.b2 = nn.Parameter(torch.randn(20, 10, 5, 5)), nn.Parameter(torch.zeros(20))
        self.w3, self.b3 = nn.Parameter(torch.randn(50, 320)), nn.Parameter(torch.zeros(50))
        self.w4, self.b4 = nn.Parameter(torch.randn(10, 50)), nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.conv2d(x, self.w1, self.b1).relu(), 2)
        x = F.max_pool2d(F.conv2d(x, self.w2, self.b2).relu(), 2)
        return (x.flatten(1) @ self.w3.T + self.b3).relu() @ self.w4.T + self.b4


# -- 01-mend, wrong --------------------------------------------------------------------------------------------------

RAW = "it does not return Net's raw scores."


@wrong("01-mend", "name 'G' is not defined", outcome="raised")
class NotImported(Net):
    def forward(self, x: Tensor) -> Tensor:
        return G.relu(x)  # type: ignore[name-defined]  # noqa: F821 - the mistake of the exercise


@wrong("01-mend", f"{RAW} What it returns is a log-softmax of the scores: exp of every row adds up to 1.")
class LogSoftmax(Net):
    def end(self, x: Tensor) -> Tensor:
        return F.log_softmax(x, dim=1)


@wrong("01-mend", "exp of every row adds up to 1. It takes the log-softmax 2 times.")
class LogSoftmaxTwice(Net):
    def end(self, x: Tensor) -> Tensor:
        return nn.LogSoftmax(dim=-1)(F.log_softmax(x, dim=1))


@wrong("01-mend", "taken over the images and not over the ten classes")
class LogSoftmaxOverImages(Net):
    def end(self, x: Tensor) -> Tensor:
        return F.log_softmax(x, 0)


@wrong("01-mend", "What it returns is a softmax of the scores: every row adds up to 1.")
class Softmax(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.softmax(1)


@wrong("01-mend", "a softmax of the scores, taken over the images")
class SoftmaxOverImages(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.softmax(0)


@wrong("01-mend", "a log-softmax of the softmax of the scores")
class LogSoftmaxOfSoftmax(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.softmax(1).log_softmax(1)


@wrong("01-mend", "the log-softmax of the scores with the other sign")
class NegativeLog(Net):
    def end(self, x: Tensor) -> Tensor:
        return -x.log_softmax(1)


@wrong("01-mend", "What it returns is a sigmoid of the scores")
class Sigmoid(Net):
    def end(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@wrong("01-mend", "What it returns is a tanh of the scores")
class Tanh(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.tanh()


@wrong("01-mend", "What it returns is a ReLU of the scores")
class ReluAtTheEnd(Net):
    def end(self, x: Tensor) -> Tensor:
        return F.relu(x)


@wrong("01-mend", "What it returns is 0.1 times the scores of Net.")
class Tenth(Net):
    def end(self, x: Tensor) -> Tensor:
        return x / 10


@wrong("01-mend", "all its scores are 0, whatever the images are")
class Zeros(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 10)


@wrong("01-mend", "all its scores are 0, whatever the images are")
class TimesZero(Net):
    def end(self, x: Tensor) -> Tensor:
        return 0 * x


@wrong("01-mend", "its scores are random numbers: they do not depend on the images")
class RandomNumbers(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), 10, requires_grad=True)


@wrong("01-mend", "its scores are random numbers: they do not depend on the images")
class RandomNumbersOfNumpy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(np.random.rand(len(x), 10))


@wrong("01-mend", "its scores are the same numbers for all images")
class IgnoresTheImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.ones_like(x))


@wrong("01-mend", "something in it is random, as a dropout is")
class Dropout(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, training=self.training))


@wrong("01-mend", "Net has no parameter of shape (50, 784)")
class AnotherNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "another net: Net has no parameter of shape (10, 10).")
class OneLayerMore(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc3 = nn.Linear(10, 10)

    def end(self, x: Tensor) -> Tensor:
        return self.fc3(x)


@wrong("01-mend", "6 of Net's 8 tensors: none of shape (10,) or (10, 50) is registered")
class InAPlainList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.last = [self.fc2]
        del self.fc2

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.last[0](F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "net.parameters() is empty, and Net has 8 tensors: nothing could be trained.")
class MadeAnewInEachCall(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Net()(x)


@wrong("01-mend", "The ReLU after conv1 is missing")
class WithoutTheFirstRelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "The ReLU after fc1 is missing, and what it returns is a log-softmax")
class WithoutTheLastRelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return F.log_softmax(self.fc2(self.fc1(x.flatten(1))), dim=1)


@wrong("01-mend", "The ReLUs after conv1, conv2 and fc1 are missing: the scores are those of Net without them.")
class WithoutAnyRelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv2(F.max_pool2d(self.conv1(x), 2)), 2)
        return self.fc2(self.fc1(x.flatten(1)))


@wrong("01-mend", "There is a GELU in place of the ReLU after fc1")
class Gelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.gelu(self.fc1(x.flatten(1))))


@wrong("01-mend", "The mean of each 2 x 2 square is taken")
class AveragePool(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.avg_pool2d(self.conv1(x), 2))
        x = F.relu(F.avg_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "With the same parameters, the first scores of Net are")
class OtherActivations(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.max_pool2d(self.conv2(x), 2).sin()
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "they come without a gradient: nothing could be trained")
class NoGrad(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@wrong("01-mend", "no gradient reaches conv1.weight")
class DetachedInside(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2)).detach()
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@wrong("01-mend", "the gradient of conv1.weight is not Net's: it is 0.5 times as long")
class HalfOfIt(Net):
    def end(self, x: Tensor) -> Tensor:
        return (x + x.detach()) / 2


@wrong("01-mend", "In eval mode: It runs. But it does not return Net's raw scores. What it returns is a softmax")
class SoftmaxInEvalMode(Net):
    def end(self, x: Tensor) -> Tensor:
        return x if self.training else x.softmax(1)


@wrong("01-mend", "a tensor of shape (16, 10) is asked for; yours give (10, 16)")
class Transposed(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.T


@wrong("01-mend", "a tensor of shape (16, 10) is asked for; yours give (16,)")
class Digits(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.argmax(1)


@wrong("01-mend", "yours give None.")
class ReturnsNothing(Net):
    def end(self, x: Tensor) -> None:
        return None


@wrong("01-mend", "shape '[16, 320]' is invalid for input of size 1600", outcome="raised")
class SixteenImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.view(16, 320))))


@wrong("01-mend", "For one image, a tensor of shape (1, 10) is asked for; yours give (10,)")
class Squeezed(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.squeeze()


@wrong("01-mend", "scores that are not finite")
class NotFinite(Net):
    def end(self, x: Tensor) -> Tensor:
        return x.sqrt()


@wrong("01-mend", "The images that the net was given are others")
class ChangesTheImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.div_(255))


@wrong("01-mend", "cannot assign module before Module.__init__() call", outcome="raised")
class WithoutSuper(nn.Module):
    def __init__(self) -> None:
        self.fc1 = nn.Linear(320, 50)


@wrong("01-mend", "what this makes is 3, and not an nn.Module")
def no_net() -> int:
    return 3


@wrong("01-mend", "The class of the net is asked for, and this is 'Mended'.", parts=lambda made, devices: ("Mended",))
def its_name() -> None: ...


# -- 01-accuracy, right ----------------------------------------------------------------------------------------------


@right("01-accuracy")
def mean_of_ones(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == labels).float().mean()


@right("01-accuracy")
def in_a_loop(scores: Tensor, labels: Tensor) -> float:
    return sum(int(row.argmax() == label) for row, label in zip(scores, labels, strict=True)) / len(labels)


@right("01-accuracy")
def of_lists(scores: Tensor, labels: Tensor) -> Fraction:
    read = [max(range(len(row)), key=row.__getitem__) for row in scores.tolist()]
    return Fraction(sum(map(int.__eq__, read, labels.tolist())), len(read))


@right("01-accuracy")
def of_numpy(scores: Tensor, labels: Tensor) -> Any:
    return np.mean(np.argmax(scores.numpy(), axis=1) == labels.numpy())


@right("01-accuracy")
def of_max(scores: Tensor, labels: Tensor) -> Tensor:
    _, read = scores.max(1, keepdim=True)
    return read.eq(labels.view_as(read)).sum().div(scores.size(0)).view(1)


@right("01-accuracy")
def of_softmax(scores: Tensor, labels: Tensor) -> float:
    wrong = F.softmax(scores, -1).topk(1, -1).indices.flatten() - labels
    return 1 - int(wrong.count_nonzero()) / labels.numel()


@right("01-accuracy")
def by_the_score_of_the_label(scores: Tensor, labels: Tensor) -> Tensor:
    of_label = scores.gather(1, labels[:, None])
    return (of_label >= scores).all(1).double().mean()


# -- 01-accuracy, wrong ----------------------------------------------------------------------------------------------


@wrong("01-accuracy", "It takes the largest score of each column")
def of_columns(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(0) == labels).float().mean()


@wrong("01-accuracy", "It takes the largest score of each column")
def without_a_dim_named(scores: Tensor, labels: Tensor) -> float:
    return float(np.mean([int(column.argmax()) == int(label) for column, label in zip(scores.T, labels, strict=False)]))


@wrong("01-accuracy", "For ten images that are all read correctly, it should be 1; yours is 0.1.")
def largest_of_all(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax() == labels).float().mean()


@wrong("01-accuracy", "the labels given are not used")
def without_labels(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == torch.arange(len(scores))).float().mean()


@wrong("01-accuracy", "it should be 1; yours is 10. It is the number of right answers")
def counted(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).sum()


@wrong(
    "01-accuracy",
    "7 images of which 3 are read correctly, it should be 0.4286; yours is 0.3. The right answers are divided by 10,",
)
def divided_by_10(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).sum() / 10


@wrong("01-accuracy", "divided by the number of classes")
def divided_by_the_classes(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).sum() / scores.shape[1]


@wrong("01-accuracy", "yours is 0.1. The right answers are divided by the number of scores")
def divided_by_the_scores(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).sum() / scores.numel()


@wrong("01-accuracy", "yours is 100. It is in percent.")
def percent(scores: Tensor, labels: Tensor) -> Tensor:
    return 100 * (scores.argmax(1) == labels).float().mean()


@wrong("01-accuracy", "the share of images that are read wrongly")
def error_rate(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) != labels).float().mean()


@wrong("01-accuracy", "The share is rounded down to a whole number")
def whole_division(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).sum() // len(labels)


@wrong("01-accuracy", "The share is rounded to 2 digits")
def rounded(scores: Tensor, labels: Tensor) -> float:
    return round(float((scores.argmax(1) == labels).float().mean()), 2)


@wrong("01-accuracy", "It takes the smallest score of each image")
def smallest(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmin(1) == labels).float().mean()


@wrong("01-accuracy", "It looks at the first image only")
def first_image(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores[0].argmax() == labels[0]).float()


@wrong("01-accuracy", "It is 1 for all images and labels that were tried")
def always_right(scores: Tensor, labels: Tensor) -> float:
    return 1.0


@wrong("01-accuracy", "For ten images that are all read as the next digit, it should be 0; yours is 1.")
def by_a_threshold(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores > 0.5).any(1).float().mean()


@wrong("01-accuracy", "which are negative, that are all right, it should be 1; yours is 0.")
def only_above_half(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.gather(1, labels[:, None]) > 0.5).float().mean()


@wrong("01-accuracy", "of shape (10,).")
def for_each_image(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).float()


@wrong("01-accuracy", "One number, the share, is asked for, and this is None.")
def printed(scores: Tensor, labels: Tensor) -> None:
    (scores.argmax(1) == labels).float().mean()


@wrong("01-accuracy", "One number, the share, is asked for, and this is '100%'.")
def as_text(scores: Tensor, labels: Tensor) -> str:
    return f"{(scores.argmax(1) == labels).float().mean():.0%}"


@wrong("01-accuracy", "The scores that your function was given are others")
def changes_the_scores(scores: Tensor, labels: Tensor) -> Tensor:
    scores[:] = scores.softmax(1)
    return (scores.argmax(1) == labels).float().mean()


@wrong("01-accuracy", "mean(): could not infer output dtype", outcome="raised")
def mean_of_truths(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).mean()
