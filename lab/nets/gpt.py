"""GPT: a small decoder-only transformer that predicts the next character.

Pre-norm blocks after Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), written plainly:
learned positions, no dropout (so that a run can be repeated bit for bit), no key-value cache.

In the shape comments B is the batch, T the tokens of a sequence, C the width of the model, V the vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data import DataSpec

WIDTH = 64
HEADS = 4
BLOCKS = 4


class Attention(nn.Module):
    """Causal self-attention: every token gathers from itself and from those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape  # noqa: N806, the names of the shape comments
        q, k, v = (
            self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, T, C / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, C / heads)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(B, T, C))  # (B, T, C)
        return out


class Block(nn.Module):
    """Attention, then two linear layers on each token alone; both are added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))  # (B, T, C)
        out: Tensor = x + self.down(F.gelu(self.up(self.ln2(x))))  # (B, T, C)
        return out


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V), where position t predicts token t + 1.

    The head has weights of its own. Sharing them with `tok_emb`, as larger models do, would save V × C parameters, but
    a tensor lives on one device, and the first and the last layer are those most often placed apart.
    """

    def __init__(
        self, vocabulary: int, length: int, width: int = WIDTH, heads: int = HEADS, blocks: int = BLOCKS
    ) -> None:
        """`length` is the greatest T."""
        super().__init__()
        self.tok_emb = nn.Embedding(vocabulary, width)
        self.pos_emb = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)  # (T,)
        x = self.tok_emb(tokens) + self.pos_emb(positions)  # (B, T, C) + (T, C)
        for block in self.blocks:
            x = block(x)  # (B, T, C)
        logits: Tensor = self.head(self.ln_f(x))  # (B, T, V)
        return logits


def build(data: DataSpec) -> nn.Module:
    """A GPT for the data's vocabulary and sequence length."""
    return GPT(vocabulary=data.classes, length=data.shape[0])
