"""Entire-space multi-task model: probabilities are multiplied along the funnel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism
from evorec.models.mechanism_genes import TASK_EMBEDDINGS, sharing_depth
from evorec.models.mechanisms.shared_bottom import trunk_levels, trunk_text
from evorec.models.slots import SHARED, Level, funnel_waves
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene

if TYPE_CHECKING:
    from torch import Tensor

LIKELIEST = 0.99
"""Highest initial probability of a funnel step given the step before."""


@final
class Esmm(Mechanism):
    """p(purchase) = p(click) p(purchase | click), on a shared bottom.

    Source: Ma et al., "Entire space multi-task model", SIGIR 2018.
    """

    name, family, order = "esmm", "towers", 7
    is_ragged = True
    needs_funnel = True
    trunk_reads_input = True
    combines = True

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return sharing_depth(n_layers), TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return trunk_levels(spec, shape, dict.fromkeys(shape.parents, SHARED))

    def head_loss(self, shape: InputShape, task: int) -> int:
        # The losses of later steps reach the towers of all steps before them.
        return SHARED if task in shape.parents else task

    def combine(self, logits: Tensor, specs: Sequence[ModelSpec], shape: InputShape) -> Tensor:
        from evorec.models.forward import funnel_products

        return funnel_products(logits, shape.parents, funnel_waves(shape.parents))

    def initial_bias(self, base_logits: Sequence[float], shape: InputShape) -> np.ndarray:
        out = super().initial_bias(base_logits, shape)
        rates = 1 / (1 + np.exp(-out))
        for task, parent in enumerate(shape.parents):
            if parent >= 0:
                # p(task | parent) = p(task) / p(parent), from the base rates and not from those that are replaced here.
                given_parent = min(float(rates[task] / rates[parent]), LIKELIEST)
                out[task] = np.log(given_parent / (1 - given_parent))
        return out

    def describe(self, spec: ModelSpec) -> str:
        return (
            f"{trunk_text(spec)}. A later step of the funnel is predicted as the step before it times the chance to go"
            " on, so it is never the likelier one (ESMM)."
        )


MECHANISMS.register(Esmm.name, Esmm())
