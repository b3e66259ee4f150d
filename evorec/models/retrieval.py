"""Retrieval losses of a population, a value for each member (never a mean over members), and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.negative_scores import FirstCells, NegativeMask, NegativeScores
from evorec.models.retrieval_loss import RETRIEVAL_LOSSES
from evorec.models.spec import ModelSpec

# exp(64) = 6e27, so a sum of 65,536 of them stays below 3e38; exp(-64) = 2e-28 is far above 1e-38.
COLDEST = 1 / 32
"""From this temperature on, exp of a score, of a difference of two and of sums of them are normal float32 numbers."""


@final
@dataclass(frozen=True)
class LossGroup:
    """Members whose retrieval losses share their products.

    Attributes:
        kind: `ModelSpec.retrieval_loss`.
        source: `ModelSpec.negative_source`.
        n_negatives: N, columns that they use.
        bounded: whether exp of their scores is a normal number.
        at: index of the member, or the indices of several (a further first axis G).
        size: G.
        positive_weight: `RetrievalLoss.positive_weight`, ``[1]`` or ``[G, 1]``.
    """

    kind: str
    source: str
    n_negatives: int
    bounded: bool
    at: int | slice | Tensor
    size: int
    positive_weight: Tensor


def loss_groups(
    specs: Sequence[ModelSpec], columns: Mapping[str, int], n_items: int, like: Tensor, *, batched: bool
) -> list[LossGroup]:
    """Members grouped by their products.

    Args:
        specs: ``(P,)``; a member's negatives are the first `negatives` columns of its `negative_source`.
        columns: negative source -> items that a step has of it.
        n_items: size of the catalogue.
        like: gives type and device.
        batched: whether members share a product; else each has a product of its own, whose scores stay in the cache.
    """
    groups: dict[tuple[str, str, int, bool, int], list[int]] = {}
    for member, spec in enumerate(specs):
        # A batch may hold fewer items than the member asks for.
        n = min(spec.negatives, columns[spec.negative_source])
        key = spec.retrieval_loss, spec.negative_source, n, spec.temperature >= COLDEST
        groups.setdefault((*key, 0 if batched else member), []).append(member)
    out = []
    for (kind, source, n, bounded, _), members in groups.items():
        loss, sampled = RETRIEVAL_LOSSES[kind], min(n / max(n_items - 1, 1), 1.0)
        weight = like.new_tensor([loss.positive_weight(dict(specs[member].settings), sampled) for member in members])
        at: int | slice | Tensor = members[0]
        if batched:
            first, last = members[0], members[-1]
            is_dense = last - first + 1 == len(members)  # a slice of neighbours is a view; an index copies
            at = slice(first, last + 1) if is_dense else torch.tensor(members, device=like.device)
        out.append(LossGroup(kind, source, n, bounded, at, len(members), weight.unsqueeze(-1) if batched else weight))
    return out


def retrieval_loss(
    users: Tensor, items: Tensor, uniform: Tensor | None, mask: NegativeMask, parts: Sequence[LossGroup]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Mean retrieval loss over the batch's target positives, each against its negatives; per member.

    The retrieval score is ``f(u, i) = <u, i> + log p(i)`` with p the item's share of training positives. In-batch
    negatives are drawn with probability p, so the logQ correction subtracts ``log p`` and leaves the product: the
    vectors learn the part of the score that popularity does not explain.

    Gradients are computed together with the loss, while the scores are in the cache. All parts use the same buffer for
    their scores. A member's vectors are copied before its products: the rounding of a product may depend on the
    alignment in memory, which must not depend on the other members.

    Args:
        users: ``[P, B, E]``, row b is the unit vector of the user of positive b.
        items: ``[P, B, E]``, row b is the unit vector of the item of positive b, divided by the temperature.
        uniform: ``[P, M, E]``, items drawn uniformly, as `items`; may be ``None`` if no member uses them.
        mask: scores that do not belong to negatives.
        parts: the P members (`loss_groups`).
    Returns:
        ``[P]``; a row without a negative counts 0 in ``softmax`` and ``bpr``; and its gradients of users, items and
        uniform items.
    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    vectors = {"batch": items}
    # Each member is in one part, which writes its rows; nothing has to be cleared.
    to_users, to_items, to_uniform = torch.empty_like(users), torch.empty_like(items), None
    gradients = {"batch": to_items}
    if uniform is not None:
        # Members with negatives from the batch leave theirs at 0.
        to_uniform = torch.zeros_like(uniform)
        vectors["uniform"], gradients["uniform"] = uniform, to_uniform
    losses = users.new_empty(len(users))
    buffers = users.new_empty(2, users.shape[1] * max(part.size * part.n_negatives for part in parts))
    for part in parts:
        at, first = part.at, slice(part.n_negatives)
        chosen = users[at], items[at], vectors[part.source][at, first]
        mine = [part_of.clone(memory_format=torch.contiguous_format) for part_of in chosen]
        found = _scored(part, mine, mask.first(part.source, part.n_negatives, users), buffers)
        losses[at], to_users[at], to_items[at], to_negatives = found
        # Added after the items' own gradient was set: in-batch negatives are the items of other positives.
        gradients[part.source][at, first] += to_negatives
    return losses, to_users, to_items, to_uniform


def _scored(
    part: LossGroup, vectors: Sequence[Tensor], mask: FirstCells, buffers: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and its gradients for a member or, with a further first axis G, for several.

    Args:
        vectors: users and items ``[B, E]``, negatives ``[N, E]``.
        mask: of the part's source and number of negatives.
        buffers: ``[2, >= G B N]``, memory for scores.
    Returns:
        Losses ``[(G)]`` and the gradients of users, items and negatives.
    """
    users, items, negatives = vectors
    n_rows, n_columns = users.shape[-2], negatives.shape[-2]
    scores, spare = buffers[:, : users.shape[:-1].numel() * n_columns].view(2, *users.shape[:-1], n_columns)
    # On a CPU every member has a product of its own, so it always takes the same kernel.
    product = torch.mm if users.dim() == 2 else torch.bmm
    product(users, negatives.mT, out=scores)
    own = (users * items).sum(-1)
    found = NegativeScores(scores, own, mask, spare, part.bounded, part.positive_weight)
    loss, by_row, by_own = RETRIEVAL_LOSSES[part.kind].of_rows(found)
    by_row, by_own = by_row.unsqueeze(-1) / n_rows, by_own.unsqueeze(-1) / n_rows
    to_users = product(scores, negatives).mul_(by_row).add_(by_own * items)
    # The factor of a row goes into the [B, E] users, not into the [B, N] scores.
    return loss.mean(-1), to_users, by_own * users, product(scores.mT, by_row * users)
