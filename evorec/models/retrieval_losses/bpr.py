"""Bayesian personalized ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.retrieval_loss import RETRIEVAL_LOSSES, RetrievalLoss

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.negative_scores import NegativeScores


@final
class Bpr(RetrievalLoss):
    """Mean of ``softplus(s_j - s+)`` over the negatives.

    Source: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.
    """

    name, order = "bpr", 1
    text = "the liked item must score above each of them (BPR)"

    def of_rows(self, scores: NegativeScores) -> tuple[Tensor, Tensor, Tensor]:
        # A row without a negative has the loss 0 / 1 instead of 0 / 0.
        by_row = 1 / scores.mask.n_left.clamp_min(1).expand_as(scores.own)
        loss = scores.softplus_(scores.own).mul_(by_row)
        return loss, by_row, scores.scores.sum(-1).mul_(by_row).neg_()


RETRIEVAL_LOSSES.register(Bpr.name, Bpr())
