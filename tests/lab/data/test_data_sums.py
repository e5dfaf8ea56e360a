"""Sums: right answers, shifted targets, and test pairs that training never shows."""

import pytest
import torch

from lab import data
from lab.data import sums


@pytest.fixture(scope="module")
def dataset():
    return data.load("sums")


def texts(dataset, split):
    inputs, targets = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_targets")
    return [sums.decode(torch.cat([line, last])) for line, last in zip(inputs, targets[:, -1:], strict=True)]


def whole_lines(text):
    """(a, b, answer) of the lines of a text; the last one is cut off."""
    for line in text.split("\n")[:-1]:
        a, _, rest = line.partition("+")
        b, _, answer = rest.partition("=")
        yield int(a), int(b), int(answer)


def test_targets_are_the_next_tokens(dataset):
    for split in ("train", "test"):
        inputs, targets = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_targets")
        assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_every_answer_is_right(dataset):
    lines = [line for text in texts(dataset, "train")[:2000] + texts(dataset, "test") for line in whole_lines(text)]
    assert len(lines) > 6000
    assert all(a + b == answer for a, b, answer in lines)
    assert {a for a, _, _ in lines} == set(range(100))


def test_a_sample_is_full_of_text_and_begins_with_a_line(dataset):
    text = texts(dataset, "train")[0]
    assert len(text) == 32
    assert text[0].isdigit()
    assert set("".join(texts(dataset, "test"))) == set(sums.VOCABULARY)


def test_test_pairs_are_never_trained_on(dataset):
    train, test = (
        {(a, b) for text in texts(dataset, split) for a, b, _ in whole_lines(text)} for split in ("train", "test")
    )
    assert len(train) > 8000
    assert len(test) > 900
    assert not train & test


def test_it_is_generated_alike_every_time(dataset):
    again = sums._make()
    assert torch.equal(dataset.train_inputs, again[0])
    assert torch.equal(dataset.test_targets, again[3])


def test_text_and_tokens_turn_into_each_other():
    assert sums.encode("0+9=\n").tolist() == [0, 10, 9, 11, 12]
    assert sums.decode(sums.encode("12+34=46\n")) == "12+34=46\n"
    with pytest.raises(ValueError, match="substring"):
        sums.encode("a")
