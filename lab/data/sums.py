"""Sums: generated lines such as `12+34=46`, one character a token, for nets that predict the next character.

The operands are drawn at random, so no net can foretell them; what can be learned is the shape of a line and, with
patience, the answer. The operand pairs of the test lines never occur in the training lines: a net that gets those
right has learned to add, not by heart.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lab.data import REGISTRY, Dataset, cache

SEED = 20_240_229
VOCABULARY = "0123456789+=\n"
"""A character's token is its place here."""

_BELOW = 100
"""Operands are 0 to 99."""
_TEST_PAIRS = 1_000
_KEY = f"sums 1: seed {SEED}, operands below {_BELOW}, {_TEST_PAIRS} test pairs, {VOCABULARY!r}"


def load() -> Dataset:
    """Tokens (N, T) and, for each, the token that follows it (N, T).

    Raises:
        DataError: when the cache folder cannot be written.
    """
    return cache.prepared("sums", _KEY, _make)


def encode(text: str) -> Tensor:
    """The tokens (len(text),) of a text. Raises ValueError for a character outside of `VOCABULARY`."""
    return torch.tensor([VOCABULARY.index(character) for character in text])


def decode(tokens: Tensor) -> str:
    """The text of tokens (T,)."""
    return "".join(VOCABULARY[token] for token in tokens.tolist())


def _make() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spec = REGISTRY["sums"].spec
    generator = torch.Generator().manual_seed(SEED)
    pairs = torch.randperm(_BELOW * _BELOW, generator=generator)
    train = _lines(pairs[_TEST_PAIRS:], spec.train_samples, spec.shape[0] + 1, generator)
    test = _lines(pairs[:_TEST_PAIRS], spec.test_samples, spec.shape[0] + 1, generator)
    return train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:]


def _lines(pairs: Tensor, samples: int, length: int, generator: Generator) -> Tensor:
    """Token sequences (samples, length). Each begins with a new line of text and ends where it is full."""
    lines = -(-length // len("0+0=0\n"))  # enough of the shortest
    chosen = pairs[torch.randint(len(pairs), (samples, lines), generator=generator)]  # (N, lines)
    texts = ("".join(_line(*divmod(pair, _BELOW)) for pair in sample)[:length] for sample in chosen.tolist())
    return encode("".join(texts)).view(samples, length)


def _line(a: int, b: int) -> str:
    return f"{a}+{b}={a + b}\n"
