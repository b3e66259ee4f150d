"""Section ``[training]``: the budget of a candidate."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evorec.config.section import Section


class BudgetConfig(Section):
    """Steps of a candidate, and the steps at which the candidates of a generation are compared."""

    steps: int = Field(200, ge=1, le=1_000_000)
    """optimiser steps"""
    rungs: tuple[Annotated[int, Field(ge=1, strict=True)], ...] = ()
    """steps at which the members of a generation are compared and the worst are stopped, ascending and below steps;
    empty = all are trained to the end"""
    rung_keep: float = Field(0.5, ge=0.5, lt=1)
    """share of the members that continue after a rung"""

    @model_validator(mode="after")
    def _rungs_in_order(self) -> Self:
        if any(low >= high for low, high in pairwise((0, *self.rungs, self.steps))):
            raise ValueError(f"rungs must ascend and stay below steps ({self.steps}), got {list(self.rungs)}")
        return self


class TrainConfig(BudgetConfig):
    """The search budget, which is the same for all candidates."""

    batch_size: int = Field(1024, ge=2, le=65_536)
    """impressions per step"""
    retrieval_batch: int = Field(256, ge=2, le=8192)
    """target positives per step, in-batch softmax"""
    next_item: bool = False
    """retrieval learns a positive from the previous positives (for held-out rows that come next; a repeated item counts
    each time) instead of all other positives of the user"""
    uniform_negatives: int = Field(128, ge=0, le=65_536)
    """negatives drawn uniformly per step, for members with uniform negatives; 0 = no such members"""
    inherit: Literal["none", "nearest"] = "none"
    """initial weights of a candidate: none = fresh; nearest = those of the nearest candidate of earlier generations
    whose embeddings have the same length, shrunk and perturbed; at its end the search trains the front from scratch"""
    layers: int = Field(3, ge=1, le=8)
    """layers L between the embeddings and the task heads"""
    precision: Literal["float32", "float64", "bfloat16", "auto"] = "float32"
    """floating point type of the training; bfloat16 = in the layers only, parameters, losses and evaluation are
    float32; auto = bfloat16 if the processor supports it, else float32"""
