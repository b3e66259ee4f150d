"""Losses of a stack, one value per member (never a mean over members)."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


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


def sampled_softmax_loss(users: Tensor, items: Tensor, no_negative: Tensor) -> Tensor:
    """In-batch softmax over the batch's target positives, corrected for how often an item is drawn.

    The retrieval score is ``f(u, i) = <u, i> + log p(i)`` with p the item's share of training positives. In-batch
    negatives are drawn with probability p, so the logQ correction subtracts ``log p`` and leaves the product: what is
    learned is what popularity does not tell.

    Args:
        users: ``[P, B, E]``, row b is the user of positive b.
        items: ``[P, B, E]``, row b is the item of positive b.
        no_negative: bool ``[B, B]``, true off the diagonal where column b' holds an item that row b's user is known to
            want, row b's own item included (accidental hits).
    Returns:
        ``[P]``.
    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    out: Tensor = _InBatchSoftmax.apply(users, items, no_negative)  # type: ignore[no-untyped-call]
    return out


@final
class _InBatchSoftmax(torch.autograd.Function):
    """One buffer ``[P, B, B]`` from scores to gradient: fresh memory of this size costs more than the arithmetic."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, no_negative: Tensor) -> Tensor:
        scores = torch.bmm(users, items.transpose(1, 2)).masked_fill_(no_negative, float("-inf"))
        own = torch.diagonal(scores, dim1=1, dim2=2).clone()
        largest = scores.amax(2, keepdim=True)
        scores.sub_(largest).exp_()
        total = scores.sum(2, keepdim=True)
        ctx.save_for_backward(users, items, scores, total)
        return ((total.log() + largest).squeeze(2) - own).mean(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        users, items, scores, total = ctx.saved_tensors
        share = scores.div_(total)
        torch.diagonal(share, dim1=1, dim2=2).sub_(1)
        share.mul_((grad / share.shape[1])[:, None, None])
        return torch.bmm(share, items), torch.bmm(share.transpose(1, 2), users), None
