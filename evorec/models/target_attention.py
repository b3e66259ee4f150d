"""Target attention: the user's past as seen by the item that is scored, a further input of the ranker.

The vectors h_j of the past positives are weighted by their products with the item's vector v and summed,
``sum_j w_j h_j`` with ``s_j = <v, h_j> / sqrt(E)`` and

* softmax: ``w = softmax(s)``, which says what in the past is most like the item;
* sigmoid: ``w_j = sigmoid(s_j) / sqrt(n + 1)`` for n positives, whose sum is larger where more of the past is alike.

An empty past gives zeros. Each embedding group has its own items and pasts.

Source: Zhou et al., "Deep interest network for click-through rate prediction", KDD 2018 (weights without normalisation,
as with sigmoid here, and by a small network instead of a product); products with softmax as in Vaswani et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.forward import sigmoid


def attended_lists(items: Tensor, past: Tensor, real: Tensor, kind: str) -> Tensor:
    """Pasts as seen by the items of a list, without gradients of its own.

    Args:
        items: vectors ``[..., m, E]`` of m items for every past.
        past: ``[..., H, E]``.
        real: bool ``[..., H]``, False for padding.
        kind: ``softmax`` or ``sigmoid``.
    Returns:
        ``[..., m, E]``.
    """
    scores = items @ past.transpose(-1, -2)
    return _weights(scores, real.unsqueeze(-2), kind, items.shape[-1]) @ past


def attended_rows(items: Tensor, past: Tensor, real: Tensor, kind: str) -> Tensor:
    """Pasts as seen by one item each: `attended_lists` with items ``[..., E]``, pasts ``[..., H, E]``; ``[..., E]``."""
    # Elementwise: a product of a single row rounds differently from those of more.
    scores = (items.unsqueeze(-2) * past).sum(-1)
    return (_weights(scores, real, kind, items.shape[-1]).unsqueeze(-1) * past).sum(-2)


def _weights(products: Tensor, real: Tensor, kind: str, dim: int) -> Tensor:
    """Weights of pasts from the products with an item, ``[..., H]``."""
    scores, there = products / dim**0.5, real.to(products.dtype)
    if kind == "softmax":  # times `there`: an empty past has equal weights here
        return torch.softmax(torch.where(real, scores, torch.finfo(scores.dtype).min), -1) * there
    return sigmoid(scores) * there / (there.sum(-1, keepdim=True) + 1).sqrt()


@final
@dataclass(frozen=True)
class RowPasts:
    """The past positives of the rows of a batch, before each row.

    Attributes:
        rows: ``[m]`` their embedding rows, as indices in the rows of the step, ascending.
        row_of: ``[n]`` row of the batch of each of the n entries, ascending.
        past_of: ``[n]`` index of each entry in `rows`.
        rank: ``[n]`` rank of each entry in the past of its row, from 0.
        longest: entries of the longest past, at least 1.
        share: ``[B]``, 1 / sqrt(entries + 1) of each row.
    """

    rows: Tensor
    row_of: Tensor
    past_of: Tensor
    rank: Tensor
    longest: int
    share: Tensor


@final
class TargetAttention:
    """`attended_rows` for the rows of a batch and all members, and its gradients.

    By entries, not by padded pasts, because pasts differ much in length. Elementwise and added in the order of the
    entries, so a member's bits are independent of the other members.

    Args:
        past: vectors of the distinct past items, ``[m, P, G, E]``.
        items: vectors of the distinct items, ``[mi, P, G, E]``.
        item_of: ``[B]`` index of each row's item in `items`.
        pasts: of the rows.
        kind: ``softmax`` or ``sigmoid``.
    """

    def __init__(self, past: Tensor, items: Tensor, item_of: Tensor, pasts: RowPasts, kind: str) -> None:
        self._past, self._items, self._kind, self._pasts = past, items, kind, pasts
        self._item_of = item_of.index_select(0, pasts.row_of)  # of each entry
        self._n_rows = len(item_of)
        self._scale = items.shape[3] ** -0.5
        scores = (self._keys() * self._queries()).sum(3).mul_(self._scale)  # [n, P, G]
        if kind == "softmax":
            self._weights = self._softmax(scores)
        else:
            self._gates = sigmoid(scores)
            self._weights = self._gates * pasts.share.index_select(0, pasts.row_of)[:, None, None]

    def rows(self) -> Tensor:
        """The sums of every row, ``[B, P, G, E]``."""
        return self._summed(self._keys().mul_(self._weights[..., None]))

    def backward(self, grad: Tensor, members: slice) -> tuple[Tensor, Tensor]:
        """Gradients of the vectors of items ``[mi, P', G, E]`` and of past items ``[m, P', G, E]``.

        Args:
            grad: of `rows`, ``[B, P', G, E]`` for the P' chosen members.
            members: the chosen members.
        """
        pasts, weights = self._pasts, self._weights[:, members]
        keys, of_rows = self._keys()[:, members], grad.index_select(0, pasts.row_of)
        to_scores = (of_rows * keys).sum(3)
        if self._kind == "softmax":  # w (g - sum w g)
            to_scores *= weights
            to_scores -= weights * self._summed(to_scores).index_select(0, pasts.row_of)
        else:  # the share of the row times s (1 - s)
            to_scores *= weights * (1 - self._gates[:, members])
        to_scores = to_scores.mul_(self._scale)[..., None]
        to_past = of_rows.mul_(weights[..., None]).add_(self._queries()[:, members] * to_scores)
        past = to_past.new_zeros(len(self._past), *to_past.shape[1:]).index_add_(0, pasts.past_of, to_past)
        items = to_past.new_zeros(len(self._items), *to_past.shape[1:])
        return items.index_add_(0, self._item_of, keys * to_scores), past

    def _keys(self) -> Tensor:
        return self._past.index_select(0, self._pasts.past_of)

    def _queries(self) -> Tensor:
        return self._items.index_select(0, self._item_of)

    def _summed(self, entries: Tensor) -> Tensor:
        """Sums over the entries of each row, ``[n, ...] -> [B, ...]``."""
        out = entries.new_zeros(self._n_rows, *entries.shape[1:])
        return out.index_add_(0, self._pasts.row_of, entries)

    def _softmax(self, scores: Tensor) -> Tensor:
        """Softmax over the entries of each row, ``[n, P, G]``."""
        pasts, n = self._pasts, self._n_rows
        # [P * G, H, B]: the vectorised axis has the same length for any number of members.
        padded = scores.new_full((scores[0].numel(), pasts.longest * n), -torch.inf)
        cells = pasts.rank * n + pasts.row_of
        padded.index_copy_(1, cells, scores.flatten(1).T.contiguous())
        shares = torch.softmax(padded.view(len(padded), pasts.longest, n), 1).flatten(1)
        return shares.index_select(1, cells).T.reshape(scores.shape)
