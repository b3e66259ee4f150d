"""Retrieval scores of the vectors and item-item scores as one: logarithms of mixed probabilities."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

BELOW_POSITIVE: Final = -200.0
"""Added to the score of an item without item-item score where nothing else counts: float32 has no positive number whose
logarithm is below -104, so every item with a positive item-item score comes first."""
BELOW_ZERO: Final = -1000.0
"""Score of the least negative item-item scores: below every item that has none."""


def blended(scores: Tensor, item_item: Tensor, share: float) -> Tensor:
    """Log of ``(1 - b) softmax(scores) + b N(item_item)``, with N = clipped at 0 and divided by the sum of the user.

    The logarithm keeps the scale of the scores, to which the ranker adds its logits. A user without a positive
    item-item score has ``softmax(scores)``. With b = 1 the scores only order the items whose item-item score is 0, and
    negative item-item scores come after them, in their order; differences below the rounding of the logarithm are ties.

    Args:
        scores: retrieval scores of the vectors with the popularity prior, ``[U, I]``; with b = 1 the prior alone,
            ``[I]`` or ``[U, I]``.
        item_item: of the same users ``[U, I]``.
        share: b, in (0, 1].
    Returns:
        A new array ``[U, I]``, all finite if the inputs are.
    Example:
        >>> scores, item_item = torch.zeros(1, 4), torch.tensor([[3.0, 1.0, 0.0, -2.0]])
        >>> blended(scores, item_item, 0.5).exp()  # .5 / 4 + .5 * (.75, .25, 0, 0)
        tensor([[0.5000, 0.2500, 0.1250, 0.1250]])
        >>> blended(scores, item_item, 1.0).argsort(descending=True)
        tensor([[0, 1, 2, 3]])
    """
    own = torch.log_softmax(scores, -1)
    positive = torch.where(item_item > 0, item_item, 0.0)
    total = positive.sum(1, keepdim=True)
    has_any = total > 0
    log_items = torch.log(positive / torch.where(has_any, total, 1.0))  # -inf where there is none
    if share < 1:
        ours, theirs = own + math.log1p(-share), log_items + math.log(share)
        top = torch.where(theirs > ours, theirs, ours)  # finite, as `ours` is
        mixed = top + torch.log(torch.exp(ours - top) + torch.exp(theirs - top))
        return torch.where(has_any, mixed, own)
    # Relative to the largest, so that the logarithm is at most 0.
    size = torch.where(item_item < 0, -item_item, 0.0)
    largest = size.amax(1, keepdim=True)
    negative = BELOW_ZERO - 200 - torch.log(size / torch.where(largest > 0, largest, 1.0))
    rest = torch.where(item_item < 0, negative, own + BELOW_POSITIVE)
    return torch.where(item_item > 0, log_items, rest)
