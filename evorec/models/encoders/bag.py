"""A bag of vectors that are trained for the past alone."""

from __future__ import annotations

from typing import final

from evorec.models.encoder import ENCODERS, Encoder


@final
class BagEncoder(Encoder):
    """Weighted sum of vectors of the past positives (`evorec.data.histories.history_weights`), in any order.

    Source: Covington et al., "Deep neural networks for YouTube recommendations", RecSys 2016.
    """

    name, order = "bag", 0
    text = "the vectors of the past positives are added, whatever their order"
    is_sequence = False


ENCODERS.register(BagEncoder.name, BagEncoder())
