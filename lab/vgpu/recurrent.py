"""RNN, LSTM and GRU on virtual GPUs: the CPU's steps, as PyTorch's own code asks for fused GPU kernels off the CPU.

Private PyTorch names used here: `torch._decomp.decompositions` (`one_layer_rnn`, `one_layer_rnn_data`,
`one_layer_lstm`, `one_layer_lstm_data`, `rnn_cell`, `rnn_cell_data`, `gru_cell`, `gru_cell_data`),
`torch._C._get_mkldnn_enabled`, `aten.mkldnn_rnn_layer`. Tried on torch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.vgpu.tensor import CPU, machine

aten = torch.ops.aten
_LSTM_MODE = 2  # of mkldnn_rnn_layer

Layer: TypeAlias = Callable[..., Any]
"""(input, hidden, parameters, has_biases, reverse=) -> (output, final hidden)"""


def register(library: torch.library.Library) -> None:
    from torch._decomp import decompositions as steps

    key = "AutogradPrivateUse1"
    library.impl("lstm.input", _lstm, key)
    library.impl("lstm.data", partial(_lstm_packed, steps.one_layer_lstm_data), key)
    library.impl("lstm_cell", _lstm_cell, key)
    library.impl("gru_cell", _gru_cell, key)
    cells = {
        "rnn_tanh": (steps.rnn_cell(torch.tanh), steps.rnn_cell_data(torch.tanh)),
        "rnn_relu": (steps.rnn_cell(torch.relu), steps.rnn_cell_data(torch.relu)),
        "gru": (steps.gru_cell, steps.gru_cell_data),
    }
    for name, (cell, packed_cell) in cells.items():
        library.impl(f"{name}.input", partial(_plain, partial(steps.one_layer_rnn, hidden_fn=cell)), key)
        library.impl(f"{name}.data", partial(_plain_packed, steps.one_layer_rnn_data, packed_cell), key)


def _stack(
    layer: Layer,
    x: Tensor,
    hidden: Sequence[Any],
    params: list[Tensor],
    has_biases: bool,
    dropout: float,
    bidirectional: bool,
    has_projections: bool = False,
) -> tuple[Tensor, list[Any]]:
    """All layers, one after another; dropout between them."""
    size = 2 + 2 * has_biases + has_projections
    groups = [params[first : first + size] for first in range(0, len(params), size)]
    finals: list[Any] = []
    for number, (group, start) in enumerate(zip(groups, hidden, strict=True)):
        backwards = bidirectional and number % 2 == 1
        output, final = layer(x, start, group, has_biases, reverse=backwards)
        finals.append(final)
        if bidirectional and not backwards:
            forwards = output
            continue
        x = torch.cat([forwards, output], -1) if bidirectional else output
        if dropout and number < len(groups) - 1:
            x = F.dropout(x, dropout)
    return x, finals


def _plain(
    layer: Layer,
    x: Tensor,
    hidden: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    x = x.transpose(0, 1) if batch_first else x
    out, finals = _stack(layer, x, hidden.unbind(0), params, has_biases, dropout * train, bidirectional)
    return out.transpose(0, 1) if batch_first else out, torch.stack(finals, 0)


def _plain_packed(
    layer: Layer,
    cell: Any,
    x: Tensor,
    batch_sizes: Tensor,
    hidden: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, Tensor]:
    step = partial(layer, batch_sizes=batch_sizes.tolist(), hidden_fn=cell)
    out, finals = _stack(step, x, hidden.unbind(0), params, has_biases, dropout * train, bidirectional)
    return out, torch.stack(finals, 0)


def _lstm(
    x: Tensor,
    hidden: list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from torch._decomp.decompositions import one_layer_lstm

    has_projections = hidden[0].size(2) != hidden[1].size(2)
    by_library = (
        machine().backing == CPU
        and torch._C._get_mkldnn_enabled()
        and not has_projections
        and x.dtype == torch.float32
        and x.numel() > 0
    )  # as the CPU decides
    layer = partial(_lstm_layer_by_library, train=train) if by_library else one_layer_lstm
    x = x.transpose(0, 1) if batch_first else x
    starts = list(zip(*hidden, strict=True))
    out, finals = _stack(layer, x, starts, params, has_biases, dropout * train, bidirectional, has_projections)
    states = [torch.stack(state, 0) for state in zip(*finals, strict=True)]
    return out.transpose(0, 1) if batch_first else out, states[0], states[1]


def _lstm_layer_by_library(
    x: Tensor, hidden: tuple[Tensor, Tensor], params: Sequence[Tensor], has_biases: bool, reverse: bool, train: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One layer in one direction, by the kernel that the CPU takes."""
    biases = params[2:4] if has_biases else [torch.zeros_like(params[0]), torch.zeros_like(params[1])]
    starts = [state.unsqueeze(0).contiguous() for state in hidden]
    layer = aten.mkldnn_rnn_layer.default
    size = starts[0].size(2)
    out, h, c, _ = layer(
        x.contiguous(), *params[:2], *biases, *starts, reverse, [], _LSTM_MODE, size, 1, has_biases, False, False, train
    )
    return out, (h.squeeze(0), c.squeeze(0))


def _lstm_packed(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor,
    hidden: list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    has_projections = hidden[0].size(2) != hidden[1].size(2)
    step = partial(layer, batch_sizes=batch_sizes.tolist())
    starts = list(zip(*hidden, strict=True))
    out, finals = _stack(step, x, starts, params, has_biases, dropout * train, bidirectional, has_projections)
    states = [torch.stack(state, 0) for state in zip(*finals, strict=True)]
    return out, states[0], states[1]


def _lstm_cell(
    x: Tensor, hidden: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    gates = F.linear(hidden[0], w_hh, b_hh) + F.linear(x, w_ih, b_ih)
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * hidden[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru_cell(
    x: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    from torch._decomp.decompositions import gru_cell_data

    out: Tensor = gru_cell_data(x, hidden, w_ih, b_ih, w_hh, b_hh)
    return out
