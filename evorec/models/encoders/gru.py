"""A recurrent network over the past."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from evorec.models.encoder import ENCODERS, Encoder, EncoderRun, Parameter
from evorec.models.encoder_genes import ENCODER_DROPOUT
from evorec.space.genes import Gene

if TYPE_CHECKING:
    from torch import Tensor


@final
class GruEncoder(Encoder):
    """One layer of gated recurrent units over the items, and a final normalisation.

    Source: Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016; the unit is that
    of Cho et al. 2014 in the form of `torch.nn.GRU`.
    """

    name, order = "gru", 1
    text = "a recurrent network reads the past positives in order (GRU)"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return (ENCODER_DROPOUT,)

    def parameters(self, settings: Mapping[str, Any], dim: int, n_past: int) -> Sequence[Parameter]:
        scale = dim**-0.5
        return (
            Parameter("input.weight", (dim, 3 * dim), scale, decayed=True),
            Parameter("input.bias", (1, 3 * dim)),
            Parameter("state.weight", (dim, 3 * dim), scale, decayed=True),
            Parameter("state.bias", (1, 3 * dim)),
            Parameter("final.gain", (1, dim), start=1.0),
            Parameter("final.bias", (1, dim)),
        )

    def encode(self, run: EncoderRun, items: Tensor) -> Tensor:
        import torch

        sequences, dim = run.sequences, items.shape[2]
        inputs = sequences.to_grid(run.linear("input", run.dropped(0, items)))
        state, states = inputs.new_zeros(*inputs.shape[:2], dim), []
        for step in range(inputs.shape[2]):
            if step:  # the next sequence of a row, or the first behind its padding, begins anew
                goes_on = sequences.owner[:, step] == sequences.owner[:, step - 1]
                state = state * goes_on[:, None]
            reset, update, new = inputs[:, :, step].chunk(3, 2)
            own_reset, own_update, own_new = run.linear("state", state).chunk(3, 2)
            keep = (update + own_update).sigmoid()
            fresh = (new + (reset + own_reset).sigmoid() * own_new).tanh()
            state = fresh + keep * (state - fresh)
            states.append(state)
        out = sequences.from_grid(torch.stack(states, 2))
        return run.norm("final", run.dropped(1, out)) / math.sqrt(dim)

    def macs(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        return 6 * dim * dim * positions

    def values(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        return 14 * dim * positions


ENCODERS.register(GruEncoder.name, GruEncoder())
