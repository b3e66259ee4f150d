"""Self-attention over the past."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from evorec.models.encoder import ENCODERS, Encoder, EncoderRun, Parameter
from evorec.models.encoder_genes import ENCODER_DROPOUT
from evorec.space.genes import Categorical, Gene, Integer

if TYPE_CHECKING:
    from torch import Tensor

POSITION_SCALE = 0.05
"""Standard deviation of fresh positions, as that of fresh embeddings."""


@final
class AttentionEncoder(Encoder):
    """Causal self-attention with learned positions, in blocks with normalised inputs, and a final normalisation.

    A block adds to its input first the attention over this and earlier positions, then a network of one hidden layer.
    Positions are counted back from the latest item.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018 (SASRec). Its normalisation is
    inside the residual connections, as here (Xiong et al. 2020 explain why that trains without warm-up).
    """

    name, order = "attention", 2
    text = "each past positive attends to those before it (self-attention, SASRec)"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        heads = "heads of the self-attention; as many as divide the length of the vectors"
        return (
            Integer("attention_layers", 1, 3, default=2, limits=(1, 16), text="blocks of self-attention"),
            Categorical("attention_heads", (1, 2, 4), 1, text=heads),
            ENCODER_DROPOUT,
        )

    def parameters(self, settings: Mapping[str, Any], dim: int, n_past: int) -> Sequence[Parameter]:
        return tuple(_parameters(settings["attention_layers"], dim, n_past))

    def encode(self, run: EncoderRun, items: Tensor) -> Tensor:
        dim, layers = items.shape[2], run.settings["attention_layers"]
        # As in SASRec and Vaswani et al. 2017: entries of order 1 beside those of the positions.
        x = items * math.sqrt(dim) + run["positions"].index_select(1, run.sequences.order)
        x = run.dropped(0, x)
        for block in range(layers):
            x = x + run.dropped(3 * block + 1, _attention(run, f"block{block}", x))
            hidden = run.linear(f"block{block}.inner", run.norm(f"block{block}.norm2", x)).relu()
            outer = run.linear(f"block{block}.outer", run.dropped(3 * block + 2, hidden))
            x = x + run.dropped(3 * block + 3, outer)
        return run.norm("final", x) / math.sqrt(dim)

    def macs(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        # Query, key, value and output, two layers of the network; scores and their sums.
        return float(settings["attention_layers"]) * (6 * dim * dim * positions + 2 * dim * pairs)

    def values(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        heads = math.gcd(dim, settings["attention_heads"])
        return float(settings["attention_layers"]) * (14 * dim * positions + 3 * heads * pairs)


def _parameters(layers: int, dim: int, n_past: int) -> Iterator[Parameter]:
    scale = dim**-0.5
    yield Parameter("positions", (n_past, dim), POSITION_SCALE)
    for block in (f"block{number}" for number in range(layers)):
        yield Parameter(f"{block}.qkv.weight", (dim, 3 * dim), scale, decayed=True)
        yield Parameter(f"{block}.out.weight", (dim, dim), scale, decayed=True)
        yield Parameter(f"{block}.inner.weight", (dim, dim), math.sqrt(2) * scale, decayed=True)
        yield Parameter(f"{block}.inner.bias", (1, dim))
        yield Parameter(f"{block}.outer.weight", (dim, dim), scale, decayed=True)
        yield Parameter(f"{block}.outer.bias", (1, dim))
        for norm in ("norm1", "norm2"):
            yield Parameter(f"{block}.{norm}.gain", (1, dim), start=1.0)
            yield Parameter(f"{block}.{norm}.bias", (1, dim))
    yield Parameter("final.gain", (1, dim), start=1.0)
    yield Parameter("final.bias", (1, dim))


def _attention(run: EncoderRun, block: str, x: Tensor) -> Tensor:
    """Attention of each position over itself and the positions before it, ``[G, N, E] -> [G, N, E]``."""
    import torch

    dim = x.shape[2]
    heads = math.gcd(dim, run.settings["attention_heads"])
    grid = run.sequences.to_grid(run.linear(f"{block}.qkv", run.norm(f"{block}.norm1", x)))
    members, n, length, _ = grid.shape
    # [3, G, S, heads, L, E / heads]
    query, key, value = grid.view(members, n, length, 3, heads, dim // heads).permute(3, 0, 1, 4, 2, 5).unbind(0)
    scores = query @ key.transpose(-1, -2) * (dim // heads) ** -0.5
    # Padding attends to padding: without any, its shares would be NaN, and so would be all gradients.
    owner, past = run.sequences.owner, torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    allowed = past & (owner[:, :, None] == owner[:, None, :])
    shares = scores.masked_fill(~allowed[:, None], float("-inf")).softmax(-1)
    mixed = (shares @ value).transpose(2, 3).reshape(members, n, length, dim)
    return run.linear(f"{block}.out", run.sequences.from_grid(mixed))


ENCODERS.register(AttentionEncoder.name, AttentionEncoder())
