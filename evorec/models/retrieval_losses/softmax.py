"""Softmax over the positive and its negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.retrieval_loss import RETRIEVAL_LOSSES, RetrievalLoss

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.negative_scores import NegativeScores


@final
class Softmax(RetrievalLoss):
    """``log(exp(s+) + sum exp(s_j)) - s+``.

    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """

    name, order = "softmax", 0
    text = "the liked item must score above all of them at once (softmax)"

    def of_rows(self, scores: NegativeScores) -> tuple[Tensor, Tensor, Tensor]:
        s, own = scores.scores, scores.own
        if scores.bounded:  # one pass over the scores, and no maximum
            # sum exp(s_j - s+) = exp(-s+) sum exp(s_j): the positive enters once per row, after the sum.
            shrink = (-own).exp_()
            odds = scores.mask_(s.exp_(), 0).sum(-1).mul_(shrink)
            total = odds + 1
            return odds.log1p(), shrink.div_(total), odds.div_(total).neg_()
        # Relative to the positive, whose exponent is then 0.
        scores.mask_(s.sub_(own.unsqueeze(-1)), float("-inf"))
        # The largest exponent is subtracted before exp; 0 is that of the positive itself.
        largest = s.amax(-1).clamp_min_(0)
        odds = s.sub_(largest.unsqueeze(-1)).exp_().sum(-1)
        total = odds + (-largest).exp_()
        return total.log() + largest, 1 / total, odds.div_(total).neg_()


RETRIEVAL_LOSSES.register(Softmax.name, Softmax())
