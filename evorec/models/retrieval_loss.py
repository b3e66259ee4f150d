"""Losses of a liked item and its negatives: the interface of a loss, and the registry."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.models.choice import Choice
from evorec.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from evorec.models.negative_scores import NegativeScores


class RetrievalLoss(Choice):
    """A loss of the score s+ of a positive and the scores s_j of its negatives, and its gradient."""

    def describe(self, settings: Mapping[str, Any]) -> str:
        """The loss of a member in a clause.

        Args:
            settings: the member's own values of `genes`.
        """
        return self.text

    @abc.abstractmethod
    def of_rows(self, scores: NegativeScores) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of every row, and its gradient by the scores.

        The gradient by s_j is left in ``scores.scores``, up to a factor of the row. It overwrites the scores, because
        those of all positives and negatives are the largest array of a step.

        Returns:
            Losses, the factors of the rows, and the gradient by s+, each ``[(G) B]``.
        """

    def positive_weight(self, settings: Mapping[str, Any], sampled: float) -> float:
        """A number of each member that `of_rows` finds in ``scores.positive_weight``.

        Args:
            settings: the member's own values of `genes`.
            sampled: negatives of a positive as a share of the catalogue, at most 1.
        """
        return 1.0


RETRIEVAL_LOSSES: Registry[RetrievalLoss] = Registry("retrieval_loss", package="evorec.models.retrieval_losses")
"""Losses of the retrieval head."""
