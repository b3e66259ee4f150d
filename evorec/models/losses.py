"""Losses of a population, one value per member (never a mean over members)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

from evorec.models.spec import ModelSpec

COLDEST = 1 / 32
"""From this temperature on, exp of a score, of a difference of two and of sums of them are normal float32 numbers."""


def task_losses(logits: Tensor, labels: Tensor, labelled: Tensor, n_labelled: Tensor) -> Tensor:
    """Binary cross-entropy per member and task, averaged over the labelled rows of the batch.

    Args:
        logits: ``[P, T, B]``.
        labels: ``[T, B]``, 0 where missing.
        labelled: ``[T, B]``, 1 where there is a label, else 0.
        n_labelled: ``[T]``, at least 1.
    Returns:
        ``[P, T]``; a task without a label in the batch gives 0.
    """
    # Not binary_cross_entropy_with_logits: the kernel of its gradient rounds the last elements of a tensor differently
    # from the others, and which elements are the last ones depends on the number of members.
    losses = (1 - labels) * logits - F.logsigmoid(logits)
    return (losses * labelled).sum(2) / n_labelled


def retrieval_loss(
    users: Tensor,
    items: Tensor,
    uniform: Tensor | None,
    blocked: Blocked,
    specs: Sequence[ModelSpec],
    n_items: int,
) -> Tensor:
    """Mean retrieval loss over the batch's target positives, each against its negatives; per member.

    With s+ the score of a positive and s_j those of its n negatives:

    * ``softmax``: ``log(exp(s+) + sum exp(s_j)) - s+``;
    * ``bpr``: mean of ``softplus(s_j - s+)``;
    * ``gbce``: ``(β softplus(-s+) + sum softplus(s_j)) / (n + 1)`` with ``β = t (a - 1) + 1``, t the member's
      `gbce_calibration` and ``a = N / (n_items - 1)`` the rate at which negatives are sampled, at most 1.

    The retrieval score is ``f(u, i) = <u, i> + log p(i)`` with p the item's share of training positives. In-batch
    negatives are drawn with probability p, so the logQ correction subtracts ``log p`` and leaves the product: what is
    learned is what popularity does not tell.

    Args:
        users: ``[P, B, E]``, row b is the unit vector of the user of positive b.
        items: ``[P, B, E]``, row b is the unit vector of the item of positive b, divided by the temperature.
        uniform: ``[P, M, E]``, items drawn uniformly, as `items`; may be ``None`` if no member asks for them.
        blocked: which scores are no negatives; one for all calls of a step.
        specs: ``(P,)``; a member's negatives are the first `negatives` columns of its `negative_source`.
        n_items: size of the catalogue.
    Returns:
        ``[P]``; a row without a negative counts 0 in ``softmax`` and ``bpr``.
    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019;
        Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009; Petrov and Macdonald,
        "gSASRec: reducing overconfidence in sequential recommendation trained with negative sampling", RecSys 2023.
    """
    out: Tensor = RetrievalLoss.apply(  # type: ignore[no-untyped-call]
        users, items, uniform, blocked, tuple(specs), n_items, users.is_cuda
    )
    return out


class _Group(NamedTuple):
    """What members must have in common to run in one product."""

    kind: str
    source: str
    n_negatives: int
    bounded: bool


class _Places(NamedTuple):
    """Which scores are no negatives: their places in ``[B N]``; and how many are left to each row, ``[B]``."""

    places: Tensor
    left: Tensor


@final
class Blocked:
    """Which scores of a step are no negatives, for any number of columns.

    Args:
        no_negative: bool ``[B, B]``, true where column b' holds an item that row b's user is known to want, row b's own
            item included (accidental hits); the diagonal is blocked anyhow.
        no_uniform: bool ``[B, M]``, likewise for items drawn uniformly; ``None`` if there are none.
    """

    def __init__(self, no_negative: Tensor, no_uniform: Tensor | None) -> None:
        self._masks = {"batch": no_negative.clone().fill_diagonal_(True)}
        if no_uniform is not None:
            self._masks["uniform"] = no_uniform
        self._places: dict[tuple[str, int, torch.dtype], _Places] = {}

    def width(self, spec: ModelSpec) -> int:
        """Columns that a member uses."""
        return min(spec.negatives, self._masks[spec.negative_source].shape[1])

    def columns(self, source: str, n: int, dtype: torch.dtype) -> _Places:
        """For the first `n` columns of a source."""
        key = (source, n, dtype)
        if key not in self._places:
            mask = self._masks[source][:, :n]
            hits = mask.view(torch.uint8).sum(1, dtype=dtype)
            self._places[key] = _Places(mask.reshape(-1).nonzero().view(-1), n - hits)
        return self._places[key]


@final
class RetrievalLoss(torch.autograd.Function):
    """Gradients are made with the loss, where the scores are at hand; the walk back only scales them.

    So the scores of one member (or, `batched`, of a group of equal ones) are alive at a time, in one buffer, and the
    graph may be walked more than once. A member's vectors are copied before its products: they then lie alike in memory
    whatever stands beside them, and round alike.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        uniform: Tensor | None,
        blocked: Blocked,
        specs: tuple[ModelSpec, ...],
        n_items: int,
        batched: bool,
    ) -> Tensor:
        vectors = {"batch": items}
        gradients = {"users": torch.empty_like(users), "batch": torch.empty_like(items)}
        if uniform is not None:
            vectors["uniform"] = uniform
            gradients["uniform"] = torch.zeros_like(uniform)
        widths = [blocked.width(spec) for spec in specs]
        groups = _groups(specs, widths, batched)
        losses = users.new_empty(len(specs))
        betas = users.new_tensor([_beta(spec, width, n_items) for spec, width in zip(specs, widths, strict=True)])
        room = users.shape[1] * max(len(members) * group.n_negatives for group, members in groups)
        buffers = users.new_empty(2, room)
        for group, members in groups:
            at, first = members if batched else members[0], slice(group.n_negatives)
            parts = users[at], items[at], vectors[group.source][at, first]
            mine = [part.clone(memory_format=torch.contiguous_format) for part in parts]
            places = blocked.columns(group.source, group.n_negatives, users.dtype)
            found = _scored(group, mine, places, betas[at].unsqueeze(-1), buffers)
            losses[at], gradients["users"][at], gradients["batch"][at], to_negatives = found
            gradients[group.source][at, first] += to_negatives
        ctx.save_for_backward(gradients["users"], gradients["batch"], gradients.get("uniform"))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad[:, None, None]
        return *(None if part is None else part * scale for part in ctx.saved_tensors), *[None] * 4


def _groups(specs: Sequence[ModelSpec], widths: Sequence[int], batched: bool) -> list[tuple[_Group, list[int]]]:
    """Members that run together: equal ones, or each alone."""
    groups: dict[tuple[int, _Group], list[int]] = {}
    for member, (spec, width) in enumerate(zip(specs, widths, strict=True)):
        group = _Group(spec.retrieval_loss, spec.negative_source, width, spec.temperature >= COLDEST)
        groups.setdefault((0 if batched else member, group), []).append(member)
    return [(group, members) for (_, group), members in groups.items()]


def _beta(spec: ModelSpec, width: int, n_items: int) -> float:
    """Power of the positive's probability in gBCE."""
    rate = min(width / max(n_items - 1, 1), 1.0)
    return spec.gbce_calibration * (rate - 1) + 1


def _scored(
    group: _Group, vectors: Sequence[Tensor], blocked: _Places, beta: Tensor, buffers: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and its gradients for one member or, with a further first axis G, for a group of equal ones.

    Args:
        vectors: users and items ``[B, E]``, negatives ``[N, E]``.
        blocked: of the group's source and number of negatives.
        beta: ``[1]``.
        buffers: ``[2, >= G B N]``, memory for scores.
    Returns:
        Losses ``[(G)]`` and the gradients of users, items and negatives.
    """
    users, items, negatives = vectors
    n_rows, n_columns = users.shape[-2], negatives.shape[-2]
    scores, spare = buffers[:, : users.shape[:-1].numel() * n_columns].view(2, *users.shape[:-1], n_columns)
    product = torch.mm if users.dim() == 2 else torch.bmm
    product(users, negatives.mT, out=scores)
    own = (users * items).sum(-1)
    if group.kind == "softmax":
        loss, by_row, by_own = _softmax(scores, own, blocked.places, group.bounded)
    elif group.kind == "bpr":
        by_row = 1 / blocked.left.clamp_min(1).expand_as(own)
        loss = _softplus(scores, own, blocked.places, spare, group.bounded).mul_(by_row)
        by_own = scores.sum(-1).mul_(by_row).neg_()
    else:
        by_row = 1 / (blocked.left + 1).expand_as(own)
        total = _softplus(scores, None, blocked.places, spare, group.bounded)
        loss, by_own = (total - beta * F.logsigmoid(own)) * by_row, -beta * torch.sigmoid(-own) * by_row
    by_row, by_own = by_row.unsqueeze(-1) / n_rows, by_own.unsqueeze(-1) / n_rows
    to_users = product(scores, negatives).mul_(by_row).add_(by_own * items)
    return loss.mean(-1), to_users, by_own * users, product(scores.mT, by_row * users)


def _softmax(scores: Tensor, own: Tensor, blocked: Tensor, bounded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``log(1 + sum_j exp(s_j - s+))`` of every row; its gradient is left in `scores`, to be scaled row by row.

    Returns:
        Losses, scales of the rows and gradient of s+, each ``[(G) B]``.
    """
    if bounded:  # one look at each score, and no maximum
        shrink = (-own).exp_()
        odds = _block(scores.exp_(), blocked, 0).sum(-1).mul_(shrink)
        total = odds + 1
        return odds.log1p(), shrink.div_(total), odds.div_(total).neg_()
    _block(scores.sub_(own.unsqueeze(-1)), blocked, float("-inf"))
    largest = scores.amax(-1).clamp_min_(0)
    odds = scores.sub_(largest.unsqueeze(-1)).exp_().sum(-1)
    total = odds + (-largest).exp_()
    return total.log() + largest, 1 / total, odds.div_(total).neg_()


def _softplus(scores: Tensor, own: Tensor | None, blocked: Tensor, spare: Tensor, bounded: bool) -> Tensor:
    """``sum_j log(1 + exp(s_j - s+))`` of every row, s+ = 0 without `own`; its gradient is left in `scores`.

    Returns:
        ``[(G) B]``.
    """
    if own is not None:
        scores.sub_(own.unsqueeze(-1))
    if bounded:
        _block(scores.exp_(), blocked, 0)
        torch.add(scores, 1, out=spare)
        scores.div_(spare)
        return spare.log_().sum(-1)
    _block(scores, blocked, float("-inf"))
    total = -F.logsigmoid(-scores).sum(-1)
    scores.sigmoid_()
    return total


def _block(scores: Tensor, places: Tensor, value: float) -> Tensor:
    """Sets the places of columns that are no negatives."""
    scores.flatten(-2).index_fill_(-1, places, value)
    return scores
