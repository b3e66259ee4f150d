"""Generalized binary cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from evorec.models.retrieval_loss import RETRIEVAL_LOSSES, RetrievalLoss
from evorec.space.genes import Gene, Real

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.negative_scores import NegativeScores


@final
class Gbce(RetrievalLoss):
    """``(beta softplus(-s+) + sum softplus(s_j)) / (n + 1)`` with ``beta = t (a - 1) + 1``.

    t is the member's `gbce_calibration` and ``a = N / (n_items - 1)`` the share of the catalogue that is sampled.

    Source: Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
    sampling", RecSys 2023.
    """

    name, order = "gbce", 2

    def genes(self, n_layers: int) -> Sequence[Gene]:
        text = "0 = plain cross-entropy"
        return (Real("gbce_calibration", 0.0, 1.0, default=0.75, limits=(0.0, 1.0), text=text),)

    def describe(self, settings: Mapping[str, Any]) -> str:
        share = f"{100 * settings['gbce_calibration']:.0f} %"
        return f"each is judged by itself, corrected {share} of the way for their small number (gBCE)"

    def positive_weight(self, settings: Mapping[str, Any], sampled: float) -> float:
        return float(settings["gbce_calibration"] * (sampled - 1) + 1)

    def of_rows(self, scores: NegativeScores) -> tuple[Tensor, Tensor, Tensor]:
        own, beta = scores.own, scores.positive_weight
        # The positive is one of the n + 1 terms of the mean.
        by_row = 1 / (scores.mask.n_left + 1).expand_as(own)
        total = scores.softplus_(None)
        return (total - beta * scores.log_sigmoid(own)) * by_row, by_row, -beta * (-own).sigmoid() * by_row


RETRIEVAL_LOSSES.register(Gbce.name, Gbce())
