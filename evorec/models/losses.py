"""Losses of a stack, one value per member (never a mean over members)."""

from __future__ import annotations

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
    losses = F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="none")
    return (losses * labelled).sum(2) / n_labelled


def sampled_softmax_loss(scores: Tensor, same_item: Tensor) -> Tensor:
    """In-batch softmax over the batch's target positives, corrected for how often an item is drawn.

    The retrieval score is ``f(u, i) = s(u, i) + log p(i)`` with p the item's share of training positives. In-batch
    negatives are drawn with probability p, so the logQ correction subtracts ``log p`` and leaves ``s``: the learned
    part tells what popularity does not.

    Args:
        scores: ``[P, B, B]``, the learned part s of user b and the item of positive b'.
        same_item: bool ``[B, B]``, true off the diagonal where column b' holds row b's item (accidental hits).
    Returns:
        ``[P]``.
    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    scores = scores.masked_fill(same_item, float("-inf"))
    return (torch.logsumexp(scores, 2) - torch.diagonal(scores, dim1=1, dim2=2)).mean(1)
